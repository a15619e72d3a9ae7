#!/usr/bin/env python3
# fuzz_reader.py: cores and snapshots of real heaps, and made recordings, for fuzz_reader.c. SEEMALLOC_FUZZ_SECONDS and SEEMALLOC_FUZZ_SEED make it run longer, and otherwise.
# SPDX-License-Identifier: MIT
import os
import subprocess
import sys

import recordings
from cores import GCORE, CoreTest
from tool import main

FUZZER = os.path.join(os.environ["BUILD_DIR"], "test", "tools", "fuzz_reader")
SECONDS = os.environ.get("SEEMALLOC_FUZZ_SECONDS", "6")
SEED = os.environ.get("SEEMALLOC_FUZZ_SEED", "1")


class Fuzz(CoreTest):
    def play(self, files):
        done = subprocess.run([FUZZER, "--seconds", SECONDS, "--seed", SEED, *files], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=int(SECONDS) + 200)
        print(done.stdout.decode())
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace")[-8000:])

    def test_spoilt_recordings(self):
        whole, sampled = recordings.simple(block_events=9), recordings.simple(flags=recordings.STACKS | recordings.SAMPLED, sample_mean=100)
        whole.module(0x400000, 0x500000, 0, sys.executable)  # names are looked for
        whole.stack(0x7F0000001000, 0x400200)
        for i in range(300):
            whole.alloc(0x100000 + 32 * (i % 40), i, stack=i % 4)
        for recording in whole, sampled:
            recording.end()
        self.play([self.write("whole.rec", whole.bytes()), self.write("sampled.rec", sampled.bytes())])

    def test_spoilt_files(self):
        files = []
        for shape in "mixed", "pin":
            with self.shaped(shape) as (process, _):
                files.append(self.snapshot(process.pid, shape + ".snap"))
                if GCORE is not None:
                    files.append(self.core(process))
        self.play(files)


main()
