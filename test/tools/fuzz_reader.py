#!/usr/bin/env python3
# fuzz_reader.py: cores and snapshots of real heaps for fuzz_reader.c. SEEMALLOC_FUZZ_SECONDS and SEEMALLOC_FUZZ_SEED make it run longer, and otherwise.
# SPDX-License-Identifier: MIT
import os
import subprocess

from cores import GCORE, CoreTest
from tool import main

FUZZER = os.path.join(os.environ["BUILD_DIR"], "test", "tools", "fuzz_reader")
SECONDS = os.environ.get("SEEMALLOC_FUZZ_SECONDS", "6")
SEED = os.environ.get("SEEMALLOC_FUZZ_SEED", "1")


class Fuzz(CoreTest):
    def test_spoilt_files(self):
        files = []
        for shape in "mixed", "pin":
            with self.shaped(shape) as (process, _):
                files.append(self.snapshot(process.pid, shape + ".snap"))
                if GCORE is not None:
                    files.append(self.core(process))
        done = subprocess.run([FUZZER, "--seconds", SECONDS, "--seed", SEED, *files], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=int(SECONDS) + 200)
        print(done.stdout.decode())
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace")[-8000:])


main()
