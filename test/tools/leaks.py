#!/usr/bin/env python3
# leaks.py: `seemalloc leaks` finds what is lost and nothing else: live, stopped, of a core.
# SPDX-License-Identifier: MIT
import json
import os

from cores import CoreTest
from outside import stop
from tool import main

# Addresses are told as complements, so that no copy of one is left in a buffer; each kind has a size of its own.
PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char text[8192];
static int length;

__attribute__((noinline)) static void *get(size_t size, const char *name) {
    char *mem = malloc(size);
    memset(mem, 0, size);
    strcpy(mem + 8 * (size > 40), name);
    length += sprintf(text + length, "%s\"%s\": %lu", length ? ", " : "{", name, (unsigned long)~(uintptr_t)mem);
    return mem;
}

static void *volatile global, *volatile inside, *volatile list, *volatile cycle_kept;
static __thread void *volatile local;
static void **anonymous;

__attribute__((noinline)) static void lose(void) {
    get(1000, "single");
    get(2000000, "mapped");
    void **a = get(1100, "cycle a"), **b = get(1100, "cycle b");
    a[3] = b;
    b[3] = a;
    void **root = get(1500, "tree");
    for (int i = 0; i < 3; i++) {
        void **child = root[4 + i] = get(2000, (const char *[]){"child 0", "child 1", "child 2"}[i]);
        child[4] = get(2500, (const char *[]){"leaf 0", "leaf 1", "leaf 2"}[i]);
    }
    void **unaligned = get(3000, "odd");
    memcpy((char *)unaligned + 101, &(void *){get(3500, "packed")}, 8); /* in no aligned word */
}

__attribute__((noinline)) static void keep(void) {
    global = get(1400, "global");
    inside = (char *)get(1416, "inside") + 700;
    void **a = list = get(1432, "list 0");
    for (int i = 1; i < 1000; i++) {
        void **next = malloc(1448);
        memset(next, 0, 1448);
        a[2] = next;
        a = next;
    }
    a[2] = get(1464, "list end");
    void **x = cycle_kept = get(1480, "kept cycle a"), **y = get(1496, "kept cycle b");
    x[3] = y;
    y[3] = x;
    local = get(1512, "local");
    anonymous[1234] = get(1528, "anonymous");
    ((void **)global)[20] = get(3000000, "kept mapped");
    ((void ***)global)[20][30000] = get(1544, "of mapped");
}

__attribute__((noinline)) static void wipe(void) {
    volatile char below[65536];
    memset((void *)below, 0, sizeof below);
}

static void wait_for_ever(void) {
    for (;;) pause();
}

/* The block's address is in a register, on the stack, in a thread's own variable, and nowhere else. */
static void *thread(void *arg) {
    local = get(1560, "thread's local");
    void *volatile on_stack = get(1576, "on stack");
    (void)arg;
    wipe();
    write(1, text, (size_t)length);
    write(1, "}\n", 2);
    memset(text, 0, sizeof text);
#if defined(__x86_64__)
    void *in_register = malloc(1592);
    memset(in_register, 0, 1592);
    __asm__ volatile("mov %0, %%r12\n xor %0, %0\n xor %%eax, %%eax\n 1: pause\n jmp 1b" : "+r"(in_register) : : "r12", "rax", "memory");
#endif
    wait_for_ever();
    return on_stack;
}

int main(void) {
    anonymous = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    lose();
    wipe();
    keep();
    wipe();
    pthread_t other;
    pthread_create(&other, NULL, thread, NULL);
    wait_for_ever();
}
"""
LOST = {"single", "mapped", "cycle a", "cycle b", "tree", "odd", "packed"} | {f"{kind} {i}" for kind in ("child", "leaf") for i in range(3)}
HELD = {"cycle a", "cycle b"} | {f"{kind} {i}" for kind in ("child", "leaf") for i in range(3)}
MASK = (1 << 64) - 1


class Leaks(CoreTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = cls.compile("leaker", PROGRAM, "-O1", "-fno-builtin", "-pthread")

    def leaks(self, subject, *options):
        done = self.tool("leaks", str(subject), "--json", *options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return json.loads(done.stdout)

    def check(self, subject, said):
        found = self.leaks(subject)
        name_of = {address ^ MASK: name for name, address in said.items()}
        lost = set()
        for group in found["sizes"]:
            self.assertEqual(group["bytes"], group["size"] * group["count"])
            lost |= {name_of.get(int(sample["address"], 16), sample["address"]) for sample in group["samples"]}
        self.assertEqual(lost, LOST)
        self.assertEqual(found["leaked_blocks"], len(LOST))
        held = {name_of[int(s["address"], 16)] for g in found["sizes"] for s in g["samples"] if s["held"]}
        self.assertEqual(held, HELD)
        self.assertEqual(found["leaked_bytes"], sum(group["bytes"] for group in found["sizes"]))
        self.assertEqual(found["unread_bytes"], 0)
        self.assertEqual(sorted((group["count"], group["held"]) for group in found["sizes"]), [(1, 0)] * 5 + [(2, 2), (3, 3), (3, 3)])
        texts = {s["text"] for g in found["sizes"] for s in g["samples"]}
        self.assertIn("........single..", texts)

    def test_live_stopped_and_core(self):
        with self.shaped(subject=self.program, conf="tcache_max:0") as (process, said):
            self.check(process.pid, said)
            stop(process)
            self.check(process.pid, said)
            core = self.core(process)
            process.kill()
            self.check(core, said)

    def test_with_caches(self):
        """What a magazine holds leads nowhere, and is no leak."""
        with self.shaped(subject=self.program) as (process, said):
            self.check(process.pid, said)

    def test_contents(self):
        with self.shaped(subject=self.program) as (process, said):
            text = self.tool("leaks", str(process.pid)).stdout.decode()
            self.assertRegex(text, r"(?m)^ +1008 +1 +0 +1008$")
            self.assertIn("73 69 6e 67 6c 65 00", text)
            without = self.tool("leaks", str(process.pid), "--no-contents").stdout.decode()
            self.assertNotIn("73 69 6e", without)
            self.assertFalse(any("hex" in s for g in self.leaks(process.pid, "--no-contents")["sizes"] for s in g["samples"]))
            self.assertIn(f"{len(LOST)} of ", text)

    def test_a_snapshot_is_refused(self):
        with self.shaped(subject=self.program) as (process, _):
            self.refused(1, "a snapshot has no contents", "leaks", self.snapshot(process.pid, "l.snap"))

    def test_none(self):
        with self.shaped("pin") as (process, _):
            found = self.leaks(process.pid)
            self.assertLessEqual(found["leaked_blocks"], found["blocks"])


if os.environ.get("SEEMALLOC_BIN"):
    main()
