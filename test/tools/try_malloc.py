#!/usr/bin/env python3
# try_malloc.py: `seemalloc try-malloc`: what it says is what then happens, request after request.
# SPDX-License-Identifier: MIT
import collections
import os
import random

from inside import InsideTest
from tool import main

SIZES = [1, 24, 25, 40, 100, 500, 1000, 1016, 1017, 1500, 2000, 3000, 5000, 9000, 17000, 33000, 66000, 100000, 127000, 131064, 150000, 200000, 400000, 900000]
SMALL = [1, 24, 25, 40, 100, 136, 137, 200, 300, 500, 700, 1000, 1016, 1017, 1100, 1300, 1500, 2000]


class TryMalloc(InsideTest):
    def predict(self, player, size, *options):
        figures = self.json("try-malloc", player.pid, size, *options)
        self.assertEqual(figures["torn"], [])
        (way,) = figures["ways"]
        return way

    def check(self, player, size, thread=0, tid=None):
        """Says which way it went; the pointer that came must be the one that was foretold, and a mapping or a growth what that says."""
        way = self.predict(player, size, *([] if tid is None else ["--thread", tid]))
        before = self.figures("stats", player.process)
        mem = player.malloc(size, thread=thread)
        after = self.figures("stats", player.process)
        called = {name for name, count in after["calls"].items() if count != before["calls"][name] and name != "mmap metadata"}
        if after["metadata_mapped"] > before["metadata_mapped"] and after["calls"]["mprotect grow"] == before["calls"]["mprotect grow"] + 1:
            called -= {"mprotect grow"}  # that was for the allocator's books
        grown = sum(arena["system_bytes"] for arena in after["arenas"]) - sum(arena["system_bytes"] for arena in before["arenas"])
        trimmed = {"brk trim", "madvise trim", "madvise purge", "mremap move"} & called  # after a large request others' memory may go back or move
        mapped = after["states"]["mapped"]["bytes"] - before["states"]["mapped"]["bytes"]
        what = (size, way, hex(mem), called)
        if way["doubt"] is not None:
            return "idle blocks first" if "lies idle in the thread's cache" in way["doubt"] else "doubted", mem
        if "mem" in way:
            self.assertEqual(int(way["mem"], 16), mem, what)
        if way["way"] == "magazine":
            self.assertGreater(way["cached"], 0, way)
        if way["way"] == "mmap":
            self.assertEqual((called - trimmed, mapped), ({"mmap block"}, way["system_bytes"]), what)
        elif way["way"] in ("grow", "new region"):
            self.assertTrue(called & {"brk grow", "mprotect grow", "mmap heap"}, what)
            if not trimmed:
                self.assertEqual(grown, way["system_bytes"], what)
        else:
            self.assertEqual((called - trimmed, mapped), (set(), 0), what)
        return way["way"], mem

    def ways(self, seed, conf, threads=1, count=50, sizes=SIZES):
        """Requests and frees at random, by some threads; how often each way was gone, exactly as it had been said."""
        dice, seen, held = random.Random(seed), collections.Counter(), []
        with self.playing(conf) as player:
            tids = [int(player.ask("id", thread=i)) for i in range(threads)]
            for _ in range(10 * threads):
                player.ask("play", dice.randrange(1 << 30), dice.randrange(6000), thread=dice.randrange(threads))
            for _ in range(count):
                if dice.random() < 0.4 and held:
                    player.free(held.pop(dice.randrange(len(held))), thread=dice.randrange(threads))
                if dice.random() < 0.1:
                    player.ask("play", dice.randrange(1 << 30), dice.randrange(3000), thread=dice.randrange(threads))
                thread = dice.randrange(threads)
                way, mem = self.check(player, dice.choice(sizes), thread, tids[thread])
                seen[way] += 1
                held.append(mem)
        return seen

    def all_ways(self, seeds, *arguments, **more):
        return sum((self.ways(seed, *arguments, **more) for seed in seeds), collections.Counter())

    def test_with_caches(self):
        seen = self.all_ways(range(3), "decay:-1")
        self.assertTrue({"magazine", "best fit", "mmap"} <= set(seen), seen)
        self.assertEqual(seen["doubted"], 0, seen)

    def test_without_caches(self):
        seen = self.all_ways(range(2), "decay:-1,tcache_max:0", sizes=SMALL)
        self.assertTrue({"fast bin", "small bin", "best fit"} <= set(seen), seen)

    def test_threads(self):
        seen = self.all_ways(range(2), "decay:-1", threads=4) + self.all_ways(range(2), "decay:-1,tcache_count:2", threads=2, sizes=SMALL)
        self.assertTrue({"magazine", "parked batch", "best fit"} <= set(seen), seen)

    def test_with_time(self):
        """With the settings as they are a cache may first give back what was idle: then it says so."""
        self.assertGreater(self.ways(1, None, threads=2)["best fit"], 0)

    def test_the_top_and_growth(self):
        """A heap in which nothing is free: each request is cut from the top, until that must grow."""
        for thread in 0, 1:
            with self.playing("decay:-1,tcache_max:0,mmap_threshold:1000000") as player:
                tid = int(player.ask("id", thread=thread))
                player.malloc(10, thread=thread)
                seen = collections.Counter(self.check(player, 60000, thread, tid)[0] for _ in range(8))
                self.assertTrue({"top", "grow"} <= set(seen) | {"best fit"}, seen)

    def test_lent(self):
        """What another arena has free is used before this one grows."""
        with self.playing("decay:-1,mmap_threshold:4000000") as player:
            mem = [player.malloc(size, thread=1) for size in (600000, 1000)]
            player.free(mem[0], thread=1)
            player.malloc(10)
            way = self.predict(player, 500000)
            self.assertEqual((way["way"], way["lent"]), ("best fit", True))
            self.assertEqual(self.check(player, 500000)[0], "best fit")


if os.environ.get("SEEMALLOC_BIN"):
    main()
