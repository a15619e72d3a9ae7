#!/usr/bin/env python3
# debugger.py: the gdb script: its commands say what a walk inside said, of a live process and of cores of stripped files; gdb loads it with the library.
# SPDX-License-Identifier: MIT
import os
import re
import shutil
import subprocess
import unittest

from cores import CoreTest
from outside import INCLUDE
from tool import LIBRARY, environment, main

GDB = shutil.which("gdb")
SCRIPT = os.path.realpath(LIBRARY) + "-gdb.py"


@unittest.skipUnless(GDB, "no gdb")
class Debugger(CoreTest):
    def gdb(self, *arguments, commands, options=()):
        words = [word for command in commands for word in ("-ex", command)]
        done = subprocess.run([GDB, "-nx", "-batch", *options, *arguments, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100,
                              env=environment(DEBUGINFOD_URLS=None), stdin=subprocess.DEVNULL)
        text = done.stdout.decode(errors="replace")
        if "Python scripting is not supported" in text or "ptrace: Operation not permitted" in text:
            self.skipTest(text)
        self.assertNotIn("Traceback", text)
        return text

    def check(self, text, said):
        states = {name: [0, 0] for name in said["states"]}
        for name, size, count in re.findall(r"(?m)^  ([a-z ]+?) +(\d+) +(\d+)$", text):
            states[name][0] += int(size)
            states[name][1] += int(count)
        mapped = re.search(r"(?m)^mapped blocks +(\d+) +(\d+)$", text)
        if mapped:
            states["mapped"] = [int(mapped[1]), int(mapped[2])]
        self.assertEqual(states, said["states"], text)
        self.assertNotIn("warning: chunk", text)

    def test_live_and_core(self):
        stripped = self.path("stripped.so")
        subprocess.run(["strip", "-o", stripped, LIBRARY], check=True)
        archive = os.environ["SEEMALLOC_STATIC_LIB"]
        static = self.compile("static", self.source, INCLUDE, "-fno-builtin", "-pthread", "-DSTATIC", "-s", "-static", "-x", "none", archive)
        program = self.compile("program", self.source, INCLUDE, "-fno-builtin", "-pthread", "-ldl", "-s")
        source = ["-iex", f"source {SCRIPT}"]
        for subject, library in (program, stripped), (static, None):
            with self.subTest(subject), self.shaped("mixed", subject=subject, library=library, conf="arena_max:2") as (process, said):
                self.check(self.gdb("-p", str(process.pid), commands=["seemalloc arenas"], options=source), said)
                core = self.core(process)
            self.check(self.gdb(subject, core, commands=["seemalloc arenas"], options=source), said)
            text = self.gdb(subject, core, commands=["seemalloc map", "seemalloc bins", "seemalloc threads"], options=source)
            self.assertEqual(len(re.findall(r"(?m)^cache 0x", text)), said["threads"], text)
            self.assertRegex(text, r"(?m)^arena 0  brk  0x")
            self.assertRegex(text, r"(?m)^  bin \d+ +(small|large|last remainder) +\d+")

    def test_a_core_alone(self):
        """Without program and library, by the notes in the dumped pages."""
        with self.shaped("mixed", conf="arena_max:1") as (process, said):
            core = self.core(process)
        self.check(self.gdb("-c", core, commands=["seemalloc arenas"], options=["-iex", f"source {SCRIPT}", "-iex", "set auto-solib-add off"]), said)

    def test_chunk_and_explain(self):
        with self.shaped("pin", conf="tcache_max:0") as (process, said):
            commands = [f"seemalloc chunk {said['small']}", f"seemalloc explain {said['small'] + 5}", f"seemalloc explain {said['before']}", "seemalloc explain 1",
                        "seemalloc chunk 1", "seemalloc map 1", "seemalloc chunk", "seemalloc explain no_such_name"]
            text = self.gdb("-p", str(process.pid), commands=commands, options=["-iex", f"source {SCRIPT}"])
        self.assertRegex(text, rf"(?m)^chunk   0x{said['small'] - 16:x}  \d+ bytes, in use, arena 0; mem 0x{said['small']:x}$")
        self.assertIn(f"0x{said['small'] + 5:x} is 5 bytes behind the start of a chunk of", text)
        self.assertIn("free of this address would end the program", text)
        self.assertIn("It is free, and lies in", text)
        self.assertIn("0x1 is nothing of the allocator's", text)
        self.assertIn("seemalloc: 0x1 is in no chunk", text)
        self.assertIn("seemalloc map takes no argument", text)
        self.assertIn("seemalloc chunk takes an address", text)
        self.assertIn("'no_such_name' is no address", text)

    def test_it_is_loaded_with_the_library(self):
        with self.shaped("pin") as (process, _):
            text = self.gdb("-p", str(process.pid), commands=["seemalloc arenas"], options=["-iex", "add-auto-load-safe-path " + os.path.dirname(SCRIPT)])
        self.assertRegex(text, r"(?m)^arena 0  0x")

    def test_another_allocator(self):
        with self.running("sleep", "100", library=None) as process:
            text = self.gdb("-p", str(process.pid), commands=["seemalloc arenas"], options=["-iex", f"source {SCRIPT}"])
        self.assertIn("no library of seemalloc is here", text)
        self.assertIn("no library of seemalloc is here", self.gdb(commands=["seemalloc map"], options=["-iex", f"source {SCRIPT}"]))


main()
