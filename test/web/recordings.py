#!/usr/bin/env python3
# recordings.py: writes the recordings that report.mjs looks at into a folder. SPDX-License-Identifier: MIT
import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))

from recordings import ALLOC, MS, SAMPLED, STACKS, Recording, simple  # noqa: E402


def write(name, recording):
    with open(os.path.join(sys.argv[1], name + ".rec"), "wb") as file:
        file.write(recording.bytes())


def wide():
    """Many stacks of different depth, in modules of their own: the sums are those of `i % 7 + 1` blocks of `16 * (i + 1)` bytes for stack i; each third is freed."""
    r, dice = Recording(command=("/usr/bin/wide", "<script>alert(1)</script>")), random.Random(1)
    r.thread(0, 10, "main")
    for i in range(8):
        r.module(0x100000 * (i + 1), 0x100000 * (i + 1) + 0x80000, 0, f"/opt/lib{i}.so")
    mem = 0
    for i in range(500):
        stack = r.stack(*(0x100000 * dice.randint(1, 8) + 16 * dice.randint(1, 30) for _ in range(dice.randint(1, 40))), 0x100010)
        for k in range(i % 7 + 1):
            mem += 0x10000
            r.time += MS // 10
            r.alloc(mem, 16 * (i + 1), stack=stack)
            if i % 3 == 0:
                r.free(mem)
    r.end()
    return r


def samples():
    r = Recording(flags=STACKS | SAMPLED, sample_mean=512 << 10)
    r.thread(0, 10, "main")
    stack = r.stack(0x1000)
    r.event(ALLOC, 16, 100, 104, 512 << 10, stack)
    r.end()
    return r


def without_stacks():
    r = Recording(flags=0)
    r.thread(0, 10, "main")
    r.alloc(16, 100)
    r.end(dropped=3)
    return r


def nothing():
    r = Recording()
    r.end()
    return r


whole = simple()
whole.end(status=256)
for name, recording in ("simple", whole), ("cut", simple()), ("wide", wide()), ("samples", samples()), ("without", without_stacks()), ("nothing", nothing()):
    write(name, recording)
