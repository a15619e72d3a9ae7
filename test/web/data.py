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

    def test_fed(self):
        """What feed.c feeds: see there."""
        page = os.path.join(self.folder.name, "fed.html")
        with open(page, "w") as file:
            subprocess.run([os.path.join(web.WEB, "feed"), self.template], stdout=file, check=True, timeout=60)
        heap = web.Heap(page)
        first = [c for c in heap.chunks if c[0] < 0x20000]
        self.assertEqual(first, [(0x10000, 0x100, 0, -1), (0x10100, 0x100, TORN, -1), (0x10200, 0x100, 6, 16), (0x10300, 0x3D00, TORN, -1)])
        self.assertEqual(heap.resident[0], bytes([0, 0, 1, 1, 0]))
        self.assertEqual(heap.chunks[4], (0x20000, 0x1000, TORN, -1))
        self.assertEqual(heap.resident[1], bytes([1]))
        self.assertEqual(heap.chunks[5:7], [(0x7F0000000000, 0x10000, PADDING, -1), (0x7F0000010000, (1 << 37) - 0x10000, 13, -1)])
        self.assertEqual(len(heap.resident[2]), 1 << 25)
        rest = [c for i in range(1000) for c in [((1 << 32) + (i << 20) + 32 * j, 32, 4 * (j % 2), i % 200 if j % 2 else -1) for j in range(200)]]
        self.assertEqual(heap.chunks[7:], rest)
        self.assertEqual(heap.head["process"], '"\\</script>\x01 \u00e9 \ufffd \ufffd\ufffd\ufffd')
        self.assertTrue(heap.head["torn"])
        self.assertEqual(heap.head["clock"], str(2**64 - 1))
        self.assertEqual(heap.head["ledger"], [{"name": "a", "value": 1}, {"name": "b", "value": 1 << 50}])

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            ran = subprocess.run([os.path.join(web.WEB, "feed"), self.template], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual((ran.returncode, ran.stderr), (1, "feed: No space left on device\n"))

    def test_bad_template(self):
        for text in ("no place for the data", PLAIN + PLAIN):
            with open(os.path.join(self.folder.name, "bad.html"), "w") as file:
                file.write(text)
            with self.assertRaises(subprocess.CalledProcessError) as caught:
                web.dump(self.folder.name, "page", "empty", template=file.name)
            self.assertEqual(caught.exception.returncode, 2)


if __name__ == "__main__":
    unittest.main()
