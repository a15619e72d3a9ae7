#!/usr/bin/env python3
# figures.py: the story's figures are those of the heap: an independent reader (reread.c) that plays the same acts finds the same, the figures agree
# with each other, and no setting of the environment changes them.
# SPDX-License-Identifier: MIT
import json
import os
import subprocess
import unittest

from tool import TOOL, ToolTest, environment, main

REREAD = os.path.join(os.environ["BUILD_DIR"], "test", "tools", "tools_reread")
SETTINGS = "tcache_max:0,trim_threshold:131072"
FREE = {"cached", "parked", "inbox", "fast", "unsorted", "small", "large", "last remainder", "purging"}


def play(**changes):
    done = subprocess.run([TOOL, "story", "--json"], env=environment(**changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    if done.returncode != 0 or done.stderr:
        raise AssertionError((done.returncode, done.stderr.decode()))
    return json.loads(done.stdout)


def address(text):
    return int(text, 16)


def without_addresses(step):
    """What must be the same each time: sizes, offsets, states; the kernel places heap and mappings anew for each process."""
    start = address(step["start_brk"])
    chunks = [(address(c["chunk"]) - start if c["state"] != "mapped" else None, c["size"], c["state"], c["name"], c["resident_pages"]) for c in step["chunks"]]
    return {key: step[key] for key in ("title", "seen", "heap_bytes", "heap_resident_bytes", "mapped_bytes", "mapped_resident_bytes", "minor_faults", "calls",
                                       "heap_pages", "mapped_pages", "trim_threshold", "mmap_threshold")}, chunks


class Figures(ToolTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.story = play()
        cls.steps = cls.story["steps"]

    def test_nine_pictures(self):
        self.assertEqual(self.story["format"], "seemalloc story 1")
        self.assertEqual([step["number"] for step in self.steps], list(range(1, 10)))
        self.assertEqual([step["title"] for step in self.steps],
                         ["start", "A = malloc(30 K)", "B = malloc(40 K)", "C = malloc(200 K)", "D = malloc(100 K)", "free(C)", "free(B)",
                          "free(D), before the trim", "trim"])

    def test_an_independent_reader_finds_the_same(self):
        done = subprocess.run([TOOL, "run", "--conf", SETTINGS, "--", REREAD], env=environment(LD_BIND_NOW="1"), stdout=subprocess.PIPE, check=True)
        reread = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(reread), len(self.steps))
        for other, step in zip(reread, self.steps):
            with self.subTest(step=step["title"]):
                start = address(step["start_brk"])
                self.assertEqual(step["heap_bytes"], other["heap_bytes"])
                self.assertEqual(step["heap_bytes"], other["brk"])
                self.assertEqual(step["heap_resident_bytes"], other["heap_resident_bytes"])
                kinds = [[address(c["chunk"]) - start, c["size"], "free" if c["state"] in FREE else c["state"]] for c in step["chunks"] if c["state"] != "mapped"]
                self.assertEqual(kinds, other["chunks"])
                mapped = [[c["size"], address(c["chunk"]) % 4096] for c in step["chunks"] if c["state"] == "mapped"]
                self.assertEqual(mapped, [other["mapped"]] if other["mapped"] else [])
                # The reader's first calls fault in pages of code and data too, so it may count more, but never less.
                self.assertGreaterEqual(other["faults"], step["minor_faults"])

    def test_figures_agree_with_each_other(self):
        for step in self.steps:
            with self.subTest(step=step["title"]):
                start, page = address(step["start_brk"]), step["page_size"]
                heap = [c for c in step["chunks"] if c["state"] != "mapped"]
                self.assertEqual(step["heap_bytes"], address(step["brk"]) - start)
                at = start
                for chunk in heap:  # without a gap from the first to brk
                    self.assertEqual(address(chunk["chunk"]), at)
                    self.assertEqual(address(chunk["mem"]), at + 16)
                    at += chunk["size"]
                self.assertEqual(at, address(step["brk"]))
                self.assertEqual(step["heap_pages"].count("1") * page, step["heap_resident_bytes"])
                self.assertEqual(len(step["heap_pages"]), step["heap_bytes"] // page)
                self.assertEqual(step["mapped_pages"].count("1") * page, step["mapped_resident_bytes"])
                for chunk in heap:
                    offset = address(chunk["chunk"]) - start
                    pages = step["heap_pages"][offset // page:(offset + chunk["size"] - 1) // page + 1]
                    self.assertEqual(chunk["resident_pages"], pages.count("1"))
                for low, high in ("start_code", "end_code"), ("end_code", "start_data"), ("start_data", "end_data"), ("end_data", "start_brk"), \
                                 ("start_brk", "brk"), ("brk", "start_stack"):
                    self.assertLessEqual(address(step[low]), address(step[high]))

    def test_calls_and_faults_explain_what_moved(self):
        for last, step in zip(self.steps, self.steps[1:]):
            with self.subTest(step=step["title"]):
                calls, moved = step["calls"], address(step["brk"]) - address(last["brk"])
                self.assertEqual(moved > 0, calls.get("brk grow", 0) > 0)
                self.assertEqual(moved < 0, calls.get("brk trim", 0) > 0)
                grown = step["mapped_bytes"] - last["mapped_bytes"]
                self.assertEqual(grown > 0, calls.get("mmap block", 0) > 0)
                self.assertEqual(grown < 0, calls.get("munmap block", 0) > 0)
                new = max(0, step["heap_resident_bytes"] - last["heap_resident_bytes"]) + max(0, step["mapped_resident_bytes"] - last["mapped_resident_bytes"])
                self.assertGreaterEqual(step["minor_faults"] * step["page_size"], new)

    def test_the_points_of_the_texts(self):
        """T6 to T11, as far as the pictures show them."""
        start, a, b, c, d, free_c, free_b, free_d, trim = self.steps

        def chunk(step, name):
            found = [x for x in step["chunks"] if x["name"] == name]
            self.assertEqual(len(found), 1, (step["title"], name))
            return found[0]

        self.assertEqual((start["heap_bytes"], start["chunks"]), (0, []))
        self.assertGreater(a["heap_bytes"], 30 * 1024)
        self.assertEqual(b["heap_bytes"], a["heap_bytes"])
        self.assertEqual(chunk(c, "C")["state"], "mapped")
        self.assertEqual(c["heap_bytes"], b["heap_bytes"])
        self.assertEqual(c["mapped_resident_bytes"], c["mapped_bytes"])
        self.assertGreater(d["heap_bytes"], c["heap_bytes"])
        self.assertEqual((free_c["mapped_bytes"], free_c["heap_bytes"]), (0, d["heap_bytes"]))
        hole = chunk(free_b, "free, was B")
        self.assertIn(hole["state"], FREE)
        self.assertEqual((free_b["heap_bytes"], free_b["heap_resident_bytes"]), (d["heap_bytes"], d["heap_resident_bytes"]))
        self.assertEqual((free_b["minor_faults"], free_b["calls"]), (0, {}))
        merged = chunk(free_d, "top, was B and D")
        self.assertEqual(merged["size"], hole["size"] + chunk(d, "D")["size"] + chunk(d, "top")["size"])
        self.assertEqual(free_d["heap_bytes"], d["heap_bytes"])
        self.assertLess(trim["heap_bytes"], free_d["heap_bytes"])
        self.assertLess(trim["heap_resident_bytes"], free_d["heap_resident_bytes"])
        self.assertEqual(trim["trim_threshold"], 128 * 1024)
        for step in self.steps[1:]:
            self.assertEqual(chunk(step, "A")["state"], "in use")

    def test_the_environment_changes_nothing(self):
        expected = [without_addresses(step) for step in self.steps]
        for changes in ({}, {"SEEMALLOC_CONF": "top_pad:0,trim_threshold:0,stats:1"}, {"SEEMALLOC_PERTURB": "5", "MALLOC_TOP_PAD_": "0"},
                        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4096"}, {"LD_PRELOAD": "libm.so.6"}):
            with self.subTest(changes=changes):
                self.assertEqual([without_addresses(step) for step in play(**changes)["steps"]], expected)


if os.environ.get("SEEMALLOC_BIN"):
    main()
