#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# What tools/heap_data.c wrote is what the walk showed: heaps of all shapes are written, decoded again and compared with a plain list.
import os
import subprocess
import tempfile
import unittest

import web

PLAIN = "<!doctype html>\n<title>t</title>\n<!--seemalloc heap data-->\nend\n"
PADDING, TORN = 254, 255


class Data(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.template = os.path.join(cls.folder.name, "template.html")
        with open(cls.template, "w") as file:
            file.write(PLAIN)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def written(self, *shape):
        page, chunks = web.dump(self.folder.name, shape[0], *shape, template=self.template)
        heap, listed = web.Heap(page), web.read_list(chunks)
        shown = [c for c in heap.chunks if c[2] < PADDING]
        self.assertEqual(shown, [(chunk, size, state, bin_) for chunk, _, size, state, bin_, _ in listed])
        self.assertNotIn(TORN, [c[2] for c in heap.chunks])
        with open(page) as file:
            text = file.read()
        self.assertTrue(text.startswith("<!doctype html>\n<title>t</title>\n<script") and text.endswith("</script>\n\nend\n"))
        return heap

    def test_empty(self):
        heap = self.written("empty")
        self.assertEqual(heap.head["format_version"], 1)
        self.assertEqual(len(heap.head["states"]), 14)

    def test_states(self):
        heap = self.written("states")
        states = {c[2] for c in heap.chunks}
        for state in ("in use", "cached", "small", "large", "top", "mapped"):
            self.assertIn(heap.head["states"].index(state), states)
        self.assertIn(PADDING, states, "the aligned block lies behind the start of its mapping")
        # 64 MiB that nobody touched
        untouched = [sum(p) for p, r in zip(heap.resident, heap.head["regions"]) if len(p) > 16000]
        self.assertEqual(len(untouched), 1)
        self.assertLess(untouched[0], 4)
        self.assertGreater(len(heap.head["samples"]), 5)
        self.assertGreater(len(heap.head["events"]), 3)
        self.assertTrue(heap.head["caches"][0]["magazines"])

    def test_threads(self):
        heap = self.written("threads")
        self.assertGreater(len(heap.head["arenas"]), 2)
        self.assertEqual(len(heap.head["caches"]), 5)
        in_magazines = sum(m["blocks"] for cache in heap.head["caches"] for m in cache["magazines"])
        self.assertEqual(in_magazines, sum(c[2] == heap.head["states"].index("cached") for c in heap.chunks))

    def test_several_blocks(self):
        self.assertGreater(len(self.written("big", 200000, 40 << 20).chunks), 65536)

    def test_bad_template(self):
        for text in ("no place for the data", PLAIN + PLAIN):
            with open(os.path.join(self.folder.name, "bad.html"), "w") as file:
                file.write(text)
            with self.assertRaises(subprocess.CalledProcessError) as caught:
                web.dump(self.folder.name, "page", "empty", template=file.name)
            self.assertEqual(caught.exception.returncode, 2)


if __name__ == "__main__":
    unittest.main()
