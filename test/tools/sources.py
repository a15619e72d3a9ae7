#!/usr/bin/env python3
# sources.py: cores and snapshots in place of a process: all commands say the same of them; what can't be read is refused in words; `seemalloc diff`.
# SPDX-License-Identifier: MIT
import json
import os
import re
import struct
import subprocess
import unittest
import zlib

from cores import CoreTest
from outside import INCLUDE, stop
from tool import LIBRARY, TOOL, environment, main

COMMANDS = ["stats"], ["bins"], ["arenas"], ["threads"], ["map"]
GROW = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
void *block[5000];
void *volatile large; /* clang leaves out what nobody keeps */
int main(void) {
    unsigned n = 0;
    char line[8];
    write(1, "{}\\n", 3);
    while (read(0, line, 1) == 1) {
        for (unsigned i = 0; i < 1000; i++) block[n++] = malloc(200);
        memset(large = malloc(3000000), 1, 10);
        write(1, "{}\\n", 3);
    }
}
"""

EMPTY = """
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    (void)argv;
    for (int i = 0; i < 20; i++) { /* a mapping of its own in each block, and nothing in it */
        char *block = malloc(100000), *page = (char *)(((uintptr_t)block + 8191) / 4096 * 4096);
        block[0] = 1;
        if (madvise(page, 65536, MADV_DONTFORK) != 0) return 1;
    }
    if (argc > 1) abort();
    write(1, "{}\\n", 3);
    pause();
}
"""


def wait_for(pid, name):
    """Until it has become the program."""
    while True:
        with open(f"/proc/{pid}/comm") as file:
            if file.read() == name + "\n":
                return True


class Sources(CoreTest):
    def json(self, command, subject, status=0):
        done = self.tool(*command, str(subject), "--json")
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return json.loads(done.stdout)

    def states(self, subject):
        return {name: [s["bytes"], s["count"]] for name, s in self.json(["stats"], subject)["states"].items() if name != "unknown"}

    def without_pages(self, value):
        """What a core can't know is taken out."""
        if isinstance(value, dict):
            return {k: self.without_pages(v) for k, v in value.items()
                    if k not in ("process", "resident", "resident_bytes", "pages", "pages_known", "minor_faults", "major_faults", "stacks")}
        return [self.without_pages(v) for v in value] if isinstance(value, list) else value

    def test_a_core_says_what_the_process_says(self):
        stripped = self.path("stripped.so")
        subprocess.run(["strip", "-o", stripped, LIBRARY], check=True)
        archive = os.environ["SEEMALLOC_STATIC_LIB"]
        static = self.compile("static", self.source, INCLUDE, "-fno-builtin", "-pthread", "-DSTATIC", "-s", "-static", "-x", "none", archive)
        program = self.compile("stripped", self.source, INCLUDE, "-fno-builtin", "-pthread", "-ldl", "-s")
        for subject, library in (program, stripped), (static, None):
            with self.subTest(subject), self.shaped("mixed", subject=subject, library=library) as (process, said):
                stop(process)
                core = self.core(process)
                self.assertEqual(self.states(core), said["states"])
                for command in COMMANDS:
                    self.assertEqual(self.without_pages(self.json(command, core)), self.without_pages(self.json(command, process.pid)), command)
                facts = self.json(["stats"], core)["process"]
                self.assertEqual((facts["read"], facts["pid"], facts["file"]), ("core", process.pid, core))
                self.refused(1, "a core does not say it", "pins", core)

    def test_a_core_without_the_files(self):
        """The library is found by its note in the dumped pages; so it may be gone, and another file in its place changes nothing."""
        library = self.path("moved.so")
        for other in None, "/bin/true":
            subprocess.run(["cp", LIBRARY, library], check=True)
            with self.subTest(other), self.shaped("mixed", library=library) as (process, said):
                core = self.core(process)
                os.unlink(library)
                if other is not None:
                    subprocess.run(["cp", other, library], check=True)
                self.assertEqual(self.states(core), said["states"])

    def test_a_core_without_empty_mappings(self):
        """gcore leaves out a part of brk's heap that no page was in."""
        with self.shaped(subject=self.compile("empty", EMPTY)) as (process, _):
            stop(process)
            core = self.core(process)
            self.assertEqual(self.states(core), self.states(process.pid))
            for command in COMMANDS:
                self.assertEqual(self.without_pages(self.json(command, core)), self.without_pages(self.json(command, process.pid)), command)
            self.assertEqual(self.states(self.snapshot(core, "empty.snap")), self.states(core))

    def test_a_crash(self):
        with open("/proc/sys/kernel/core_pattern") as file:
            if file.read().startswith(("|", "/")):
                self.skipTest("the kernel hands cores to somebody else")
        folder = self.path("crash")
        os.mkdir(folder)
        program = self.compile("crash-me", EMPTY)
        subprocess.run(["sh", "-c", 'ulimit -c unlimited; exec "$0" crash', program], cwd=folder, env=environment(LD_PRELOAD=LIBRARY))
        cores = [os.path.join(folder, name) for name in os.listdir(folder)]
        if not cores:
            self.skipTest("no core was written")
        self.assertGreaterEqual(self.states(cores[0])["in use"][1], 20)

    def test_a_snapshot_says_what_the_process_says(self):
        for shape in "mixed", "pin", "heap":
            with self.subTest(shape), self.shaped(shape) as (process, said):
                snap = self.snapshot(process.pid, "a.snap")
                for command in (*COMMANDS, ["pins"]):
                    there, here = self.json(command, process.pid), self.json(command, snap)
                    self.assertEqual(here["process"]["read"], "snapshot")
                    for figures in there, here:
                        del figures["process"]
                    self.assertEqual(there, here, command)
                with open(snap, "rb") as file:
                    again = self.snapshot(snap, "b.snap")
                    with open(again, "rb") as other:
                        self.assertEqual(zlib.decompress(file.read()[40:]), zlib.decompress(other.read()[40:]))
                for address in json.loads(self.tool("map", snap, "--json").stdout)["blocks"][:1]:
                    text = self.tool("explain", snap, address["start"]).stdout.splitlines()[1:]
                    self.assertEqual(text, self.tool("explain", str(process.pid), address["start"]).stdout.splitlines()[1:])

    def test_a_snapshot_of_a_core(self):
        with self.shaped("mixed") as (process, said):
            snap = self.snapshot(self.core(process), "core.snap")
            self.assertEqual(self.states(snap), said["states"])

    def test_no_contents_in_a_snapshot(self):
        program = self.compile("secret", '#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\nint main(void) { for (int i = 0; i < 99; i++) '
                               'strcpy(malloc(300), "a very secret word"); write(1, "{}\\n", 3); pause(); }')
        with self.shaped(subject=program) as (process, _):
            with open(self.snapshot(process.pid, "secret.snap"), "rb") as file:
                data = file.read()
        self.assertNotIn(b"secret word", zlib.decompress(data[40:]))

    def test_what_is_no_source(self):
        text = self.write("text", "no heap in here")
        empty = self.write("empty", "")
        for file, message in {text: "neither an ELF core nor a snapshot: it begins with the bytes 6e 6f 20 68", empty: "is empty", self.folder: "no regular file",
                              TOOL: "an ELF file, but no core"}.items():
            with self.subTest(file):
                self.refused(1, re.escape(message), "stats", file)
        self.refused(2, "'nothing-here' is no process; expected its number, .* or a core file or a snapshot", "stats", "nothing-here")
        self.refused(1, "is no running process", "map", "--live", text)
        self.refused(2, "where to write is missing", "snapshot", "1")
        self.refused(2, "two are needed", "diff", "1")

    def test_spoilt_cores(self):
        with self.running("sleep", "100", library=None) as process:
            self.assertTrue(wait_for(process.pid, "sleep"))
            self.refused(1, r"a core of process \d+ \(sleep\): it does not run on seemalloc", "stats", self.core(process))
        with self.shaped("pin") as (process, _):
            core = self.core(process)
        with open(core, "rb") as file:
            data = file.read()
        for length in 4, 40, 63, 64, 500, 5000, len(data) // 2, len(data) * 9 // 10:
            with self.subTest(length):
                self.refused(1, "truncated", "stats", self.write("cut", data[:length]))
        self.refused(1, "of another machine: SPARC", "stats", self.write("sparc", data[:18] + struct.pack("<H", 43) + data[20:]))

    def test_spoilt_snapshots(self):
        with self.shaped("pin") as (process, _):
            with open(self.snapshot(process.pid, "good.snap"), "rb") as file:
                data = file.read()
        magic, version, zero, packed, size, check, head_check = struct.unpack("<8sIIQQII", data[:40])
        self.assertEqual((magic, version, packed), (b"seemsnap", 1, len(data) - 40))
        for length in 8, 39, 40, 100, len(data) - 1:
            self.refused(1, "truncated", "stats", self.write("cut", data[:length]))
        self.refused(1, "damaged", "stats", self.write("more", data + b"x"))
        self.refused(1, "of version 2, this command reads version 1", "stats", self.write("v2", data[:8] + struct.pack("<I", 2) + data[12:]))
        for at in range(12, 40, 4):
            self.refused(1, "damaged|truncated", "stats", self.write("bad", data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]))
        for at in range(40, len(data), 97):
            self.refused(1, "its checksum is wrong", "stats", self.write("bad", data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]))
        self.refused(1, "can't write", "snapshot", self.write("good", data), "-o", self.path("no/such/folder"))
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("no")], [])

    def test_diff(self):
        with self.shaped(subject=self.compile("grow", GROW), conf="tcache_max:0") as (process, _):
            pass
        with self.running(self.path("grow"), conf="tcache_max:0", stdin=subprocess.PIPE) as process:
            snaps = []
            for i in range(3):
                self.assertTrue(process.stdout.readline())
                snaps.append(self.snapshot(process.pid, f"{i}.snap"))
                process.stdin.write(b"x")
                process.stdin.flush()
            process.stdout.readline()
            last = self.snapshot(process.pid, "last.snap")
            same = json.loads(self.tool("diff", "--json", str(process.pid), last).stdout)
        figures = json.loads(self.tool("diff", "--json", snaps[1], snaps[2]).stdout)
        use = figures["arenas"][0]["states"]["in use"]
        self.assertEqual((use["count_growth"], use["bytes_growth"]), (1000, 208000))
        self.assertEqual(use["bytes"], use["bytes_before"] + 208000)
        self.assertEqual(figures["mapped"]["count_growth"], 1)
        sizes = {row["size"]: row for row in figures["sizes"]}
        self.assertEqual((sizes[208]["count"] - sizes[208]["count_before"], sizes[208]["bytes_growth"]), (1000, 208000))
        self.assertEqual([row["kind"] for row in figures["regions"] if row["bytes_before"] == 0], ["block"])
        back = json.loads(self.tool("diff", "--json", snaps[2], snaps[1]).stdout)
        self.assertEqual(back["arenas"][0]["states"]["in use"]["bytes_growth"], -208000)
        text = self.tool("diff", snaps[1], snaps[2]).stdout.decode()
        self.assertRegex(text, r"(?m)^ +208 +1000 +2000 +\+208000$")
        self.assertRegex(text, r"(?m)^new +block +0x")
        self.assertEqual((same["sizes"], same["regions"]), ([], []))


main()
