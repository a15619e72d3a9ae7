# inside.py: what the tests of map, bins, arenas, threads, chunk, explain and try-malloc share: a process that does with its heap what it is told.
# SPDX-License-Identifier: MIT
import contextlib
import json
import os
import subprocess

from outside import HERE, INCLUDE
from outside import OutsideTest as Outside

STATES = ["in use", "cached", "parked", "inbox", "fast", "unsorted", "small", "large", "last remainder", "purging", "top", "fencepost", "abandoned", "mapped"]


class Player:
    def __init__(self, process):
        self.process, self.pid = process, process.pid

    def ask(self, *words, thread=0):
        self.process.stdin.write((" ".join(str(word) for word in (thread, *words)) + "\n").encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().rstrip("\n")

    def malloc(self, size, thread=0):
        return int(self.ask("malloc", size, thread=thread), 16)

    def free(self, mem, thread=0):
        self.ask("free", mem, thread=thread)

    def die(self, mem):
        """The signal that a free ends with in a forked child, 0 for none, and the first line that it leaves."""
        status, _, text = self.ask("die", mem).partition(" ")
        return int(status), text

    def walk(self):
        """(address, size, state, bin, arena) of every chunk, as a walk inside sees it."""
        chunks, line = [], self.ask("walk")
        while line != "end":
            address, size, state, number, arena = line.split()
            chunks.append((int(address, 16), int(size), STATES[int(state)], int(number), int(arena)))
            line = self.process.stdout.readline().decode().rstrip("\n")
        return chunks


class InsideTest(Outside):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(HERE, "player.c")) as file:
            cls.player = cls.compile("player", file.read(), INCLUDE, "-fno-builtin", "-pthread", "-ldl")

    @contextlib.contextmanager
    def playing(self, conf="decay:-1"):
        with self.running(self.player, conf=conf, stdin=subprocess.PIPE) as process:
            yield Player(process)

    def json(self, *arguments, status=0):
        done = self.tool(*[str(word) for word in arguments], "--json")
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return json.loads(done.stdout)
