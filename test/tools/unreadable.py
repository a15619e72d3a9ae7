#!/usr/bin/env python3
# unreadable.py: what `stats` and `pins` say where there is nothing to be read: a clear message and the status, and never a crash.
# SPDX-License-Identifier: MIT
import json
import os
import random
import re
import signal
import subprocess
import sys
import unittest

from outside import OutsideTest, state
from tool import LIBRARY, ROOT, TOOL, environment, main

with open(os.path.join(os.environ["SOURCE_DIR"], "include", "seemalloc_descriptor.h"), encoding="utf-8") as header:
    HEADER = header.read()
VERSION = int(re.search(r"DESCRIPTOR_VERSION (\d+)", HEADER).group(1))
NEWER = VERSION + 1
SEEDS = int(os.environ.get("SEEMALLOC_SEEDS", "20"))
NOTE = """
#include <stdint.h>
#include <unistd.h>
uint64_t descriptor[4096] __attribute__((visibility("hidden"))) = {%s};
__asm__(".pushsection .note.seemalloc, \\"a\\", %%note\\n .balign 4\\n .long 10, 16, 1\\n .asciz \\"seemalloc\\"\\n .balign 4\\n"
        " .long %d, 0\\n .quad descriptor + %d - .\\n .popsection\\n");
int main(void) { write(1, "{}\\n", 3); for (;;) pause(); }
"""
MAGIC = "0x726373656d656573"
TRACER = """
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc != 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0) != 0) return 1;
    write(1, "{}\\n", 3);
    for (;;) pause();
}
"""
NO_PAGEMAP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
int open(const char *path, int flags, ...) {
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    if (strstr(path, WHAT) == 0) return next(path, flags, 0);
    errno = ENOENT;
    return -1;
}
"""


def open_text(path):
    with open(path) as file:
        return file.read()


class Unreadable(OutsideTest):
    def both(self, status, message, pid, **more):
        for command in "stats", "pins":
            error = self.refused(status, message, command, str(pid), **more)
            self.assertEqual(len(error.splitlines()), 1 if status == 1 else 2, error)

    def test_command_lines(self):
        for message, line in {
            "stats: the number of a process is missing": ["stats"],
            "pins: the number of a process is missing": ["pins", "--json"],
            "'redis' is no process; expected its number": ["stats", "redis"],
            "'0' is no process": ["stats", "0"],
            "'12x' is no process": ["pins", "12x"],
            "'99999999999999999999' is no process": ["stats", "99999999999999999999"],
            "it takes one process, got '2' too": ["stats", "1", "2"],
            "unknown option '--jsn'": ["stats", "--jsn", "1"],
            "unknown option '-x'": ["pins", "-x", "1"],
            "option '-n' needs a value": ["pins", "1", "-n"],
            "option '-n' needs a number, got 'few'": ["pins", "1", "-n", "few"],
        }.items():
            with self.subTest(line=line):
                self.refused(2, re.escape(message), *line)

    def test_no_such_process(self):
        with self.running("true") as process:
            process.wait()
            self.both(1, f"there is no process {process.pid}; it has ended", process.pid)
        self.both(1, "there is no process 2147483646", 2147483646)

    def test_only_the_status_is_left(self):
        with self.running("true") as process:
            while state(process.pid) != "Z":
                pass
            self.both(1, f"process {process.pid} \\(true\\) has ended; only its status", process.pid)

    def test_a_thread(self):
        with self.shaped("load") as (process, _):
            thread = max(int(tid) for tid in os.listdir(f"/proc/{process.pid}/task"))
            self.both(1, f"{thread} is a thread of process {process.pid}", thread)

    def test_another_allocator(self):
        with self.running("sleep", "100", library=None) as process:
            while open_text(f"/proc/{process.pid}/comm") != "sleep\n":
                pass
            self.both(1, "\\(sleep\\): it does not run on seemalloc.*seemalloc run -- PROGRAM", process.pid)

    def test_other_versions(self):
        for number, (fields, version, place, message) in enumerate([
                (f"{MAGIC}, {NEWER}, 4096", NEWER, 0, f"has a descriptor of version {NEWER}, this command reads version {VERSION}: use the command that belongs"),
                (f"{MAGIC}, {NEWER}, 4096", VERSION, 0, f"version {NEWER} and 4096 bytes, this command reads version {VERSION}"),
                (f"{MAGIC}, {VERSION}, 16", VERSION, 0, f"version {VERSION} and 16 bytes, this command reads version {VERSION}"),
                (f"{MAGIC}, {VERSION}, 4096", VERSION, 0, "a descriptor whose fields make no sense"),
                ("0", VERSION, 0, "where that leads to there is no descriptor"),
                ("0", VERSION, 1 << 30, "where that leads to there is no descriptor"),
        ]):
            with self.subTest(message), self.shaped(subject=self.compile(f"other{number}", NOTE % (fields, version, place)), library=None) as (process, _):
                self.both(1, re.escape(message), process.pid)

    def test_random_descriptors(self):
        count = len(re.findall(r"FIELD\(\w+, \"", HEADER))
        for seed in range(6):
            dice = random.Random(seed)
            fields = ", ".join([MAGIC, str(VERSION), "4096"] + [f"{dice.choice([0, 1, 8, 16, 100, 4096, 1 << 20, dice.getrandbits(64)])}u" for _ in range(count)])
            with self.subTest(seed), self.shaped(subject=self.compile(f"random{seed}", NOTE % (fields, VERSION, 0)), library=None) as (process, _):
                self.both(1, "make no sense", process.pid)

    @unittest.skipUnless(ROOT, "needs root")
    def test_another_user(self):
        with self.shaped("pin") as (process, _):
            done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", TOOL, "stats", str(process.pid)], capture_output=True,
                                  env=environment(), cwd="/", timeout=50)
            if b"setpriv" in done.stderr:
                self.skipTest("the command can't be run by another user from where it lies")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr.decode(), f"no permission to .* of process {process.pid}: it belongs to another, user 0, this command runs as user 65534")

    def test_already_traced(self):
        with self.shaped("pin") as (process, _), self.shaped(str(process.pid), subject=self.compile("tracer", TRACER), library=None) as (tracer, _):
            self.both(1, f"process {process.pid} is being traced already, by process {tracer.pid}", process.pid)

    def test_it_ends_while_it_is_read(self):
        ended = 0
        for moment in range(20):
            with self.shaped("load") as (process, _):
                reader = subprocess.Popen([TOOL, "stats", str(process.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                try:
                    reader.wait(random.Random(moment).uniform(0, 0.05))
                except subprocess.TimeoutExpired:
                    pass
                process.kill()
                _, error = reader.communicate(timeout=50)
                self.assertIn(reader.returncode, (0, 1), error)
                if reader.returncode == 1:
                    ended += 1
                    self.assertRegex(error.decode(), "ended|only its status|no memory")
        print(f"{ended} of 20 ended before they were read", file=sys.stderr)

    def test_no_pagemap(self):
        shim = self.compile("shim.so", NO_PAGEMAP, "-shared", "-fPIC", "-ldl", '-DWHAT="pagemap"')
        with self.shaped("mixed") as (process, said):
            done = self.tool("stats", str(process.pid), "--json", env=environment(LD_PRELOAD=shim))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(b"which pages are in memory is not known: /proc/%d/pagemap" % process.pid, done.stderr)
            figures = json.loads(done.stdout)
            self.assertFalse(figures["pages_known"])
            self.assertEqual({name: [s["bytes"], s["count"]] for name, s in figures["states"].items() if name != "unknown"}, said["states"])
            self.assertEqual({s["resident"] for s in figures["states"].values()}, {None})
            done = self.tool("pins", str(process.pid), env=environment(LD_PRELOAD=shim))
            self.assertEqual((done.returncode, done.stdout), (1, b""))

    def test_no_rollup(self):
        shim = self.compile("shim2.so", NO_PAGEMAP, "-shared", "-fPIC", "-ldl", '-DWHAT="smaps_rollup"')
        with self.shaped("pin") as (process, _):
            done = self.tool("stats", str(process.pid), env=environment(LD_PRELOAD=shim))
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertIn(b"the kernel's own total is missing", done.stdout)

    def test_corrupted_heaps(self):
        """Headers, links and data of blocks written over at random: all is counted all the same, and mostly something is said."""
        found = 0
        for seed in range(40):
            with self.shaped("broken", str(seed), conf="tcache_max:0") as (process, _):
                for command in "stats", "pins":
                    done = self.tool(command, str(process.pid), "--json")
                    self.assertIn(done.returncode, (0, 1), done.stderr)
                    self.assertEqual(done.returncode == 1, b"the heap is corrupted: " in done.stderr)
                    self.assertTrue(done.stdout.startswith(b"{"))
                found += done.returncode
                if command == "stats":
                    self.check_sums(json.loads(done.stdout))
                process.send_signal(signal.SIGKILL)
        self.assertGreater(found, 20)

    def test_corrupted_books(self):
        """The allocator's own data and everything else written over at random, from outside while the process waits: whatever is said, it ends."""
        for seed in range(SEEDS):
            dice = random.Random(seed)
            with self.subTest(seed), self.shaped("mixed", conf=dice.choice([None, "tcache_max:0", "arena_max:2"])) as (process, _):
                with open(f"/proc/{process.pid}/maps") as file:
                    lines = [line.split() for line in file]
                places = [(int(start, 16), int(end, 16)) for start, end in (line[0].split("-") for line in lines if line[1].startswith("rw"))]
                books = [(int(line[0].split("-")[0], 16), int(line[0].split("-")[1], 16)) for i, line in enumerate(lines) if line[1].startswith("rw") and
                         any("libseemalloc" in " ".join(near) for near in lines[max(0, i - 1):i + 1])]
                with open(f"/proc/{process.pid}/mem", "r+b", buffering=0) as memory:
                    for _ in range(dice.choice([1, 10, 300])):
                        start, end = dice.choice(dice.choice([places, books]))
                        at = dice.randrange(start, end, 8)
                        for _ in range(64):  # rather a word that means something
                            memory.seek(at)
                            word = memory.read(8)
                            if any(word):
                                break
                            at = dice.randrange(start, end, 8)
                        number = int.from_bytes(word, "little")
                        target = dice.randrange(*dice.choice(places), 16)
                        word = dice.choice([0, 1, number ^ 1 << dice.randrange(48), target, number + 16, number - 16, dice.getrandbits(64), 2**64 - 1])
                        memory.seek(at)
                        memory.write((word % 2**64).to_bytes(8, "little"))
                for command in "stats", "pins":
                    done = self.tool(command, str(process.pid), "--json")
                    self.assertIn(done.returncode, (0, 1), done.stderr)
                    if done.returncode == 1:
                        self.assertIn(b"seemalloc: ", done.stderr)


main()
