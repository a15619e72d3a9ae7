#!/usr/bin/env python3
# pins.py: `seemalloc pins`: blocks whose free neighbours are known, and the last block of a heap.
# SPDX-License-Identifier: MIT
import json

from outside import PAGE, OutsideTest
from tool import main

HEADER, LINKS = 16, 88  # from a chunk to its block, and what of a free chunk must stay
QUIET = "tcache_max:0,decay:-1,mmap_threshold:64M,trim_threshold:-1,mxfast:0"


def whole(start, end):
    """The pages that a free chunk [start, end) could give back."""
    return set(range(-(-(start + LINKS) // PAGE), end // PAGE))


def gain(low, start, end, high):
    """The pages that go back with the block [start, end) alone, and bytes of it in them."""
    pages = whole(low, high) - (whole(low, start) if low < start else set()) - (whole(end, high) if high > end else set())
    own = sum(max(0, min(end, (page + 1) * PAGE) - max(start, page * PAGE)) for page in pages)
    return len(pages) * PAGE, len(pages) * PAGE - own


class Pins(OutsideTest):
    def test_known_pins(self):
        with self.shaped("pin", conf=QUIET) as (process, said):
            figures = self.figures("pins", process, "-n", "1000")
            chunk = {name: mem - HEADER for name, mem in said.items()}
            found = {int(pin["mem"], 16): pin for pin in figures["pins"]}
            for name, low, end, high in ("small", "before", "middle", "large"), ("large", "middle", "after", "last"):
                releases, keeps = gain(chunk[low], chunk[name], chunk[end], chunk[high])
                pin = found[said[name]]
                self.assertEqual((pin["releases"], pin["keeps"], pin["state"], pin["arena"]), (releases, keeps, "in use", 0), name)
                self.assertEqual(pin["size"], chunk[end] - chunk[name])
                self.assertFalse(pin["whole_heap"])
            self.assertGreaterEqual(found[said["small"]]["keeps"], PAGE - 100)
            self.assertIn(said["last"], found, "what keeps the page before the top")
            # What is freed or stands among blocks in use is none.
            for name in "before", "middle", "after":
                self.assertNotIn(said[name], found)

    def test_order_and_sums(self):
        with self.shaped("mixed") as (process, _):
            figures = self.figures("pins", process, "-n", "100000000")
            pins, total = figures["pins"], figures["total"]
            self.assertGreater(len(pins), 20)
            self.assertEqual([pin["releases"] for pin in pins], sorted((pin["releases"] for pin in pins), reverse=True))
            self.assertEqual((len(pins), sum(pin["releases"] for pin in pins), sum(pin["keeps"] for pin in pins)),
                             (total["count"], total["releases"], total["keeps"]))
            for pin in pins:
                self.assertTrue(0 < pin["keeps"] <= pin["releases"], pin)
            few = self.figures("pins", process, "-n", "7")
            self.assertEqual((few["pins"], few["total"]), (pins[:7], total))
            self.assertEqual(self.figures("pins", process, "-n", "0")["pins"], [])
            text = self.tool("pins", str(process.pid)).stdout.decode().splitlines()
            self.assertEqual(len(text), 1 + 1 + 20 + 1 + 1)
            self.assertIn(pins[0]["mem"], text[2])
            self.assertIn(f"{total['count']} blocks pin {total['keeps']} bytes", text[-1])

    def test_the_last_block_of_a_heap(self):
        with self.shaped("heap", conf=QUIET) as (process, said):
            figures = self.figures("pins", process, "-n", "3")
            pin = figures["pins"][0]
            self.assertEqual((int(pin["mem"], 16), pin["whole_heap"]), (said["block"], True))
            self.assertGreaterEqual(pin["releases"], 2 * PAGE)
            arenas = self.figures("stats", process)["arenas"]
            self.assertEqual([arena["regions"] for arena in arenas if arena["id"] == pin["arena"]], [2])

    def test_nothing_is_pinned_where_nothing_is_free(self):
        source = "#include <stdlib.h>\n#include <unistd.h>\nint main(void) { write(1, \"{}\\n\", 3); for (;;) pause(); }\n"
        with self.shaped(subject=self.compile("empty", source)) as (process, _):
            figures = self.figures("pins", process)
            self.assertEqual((figures["pins"], figures["total"]["count"]), ([], 0))


main()
