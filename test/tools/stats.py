#!/usr/bin/env python3
# stats.py: `seemalloc stats`: from outside the heap is what it is from inside: of a threaded, a static stripped, a stopped process; under load all sums
# close; page by page nothing is left over.
# SPDX-License-Identifier: MIT
import json
import os
import random
import subprocess

from outside import INCLUDE, PAGE, OutsideTest, state, stop, wait_for_stop
from tool import environment, main

READS = int(os.environ.get("SEEMALLOC_READS", "100"))


class Stats(OutsideTest):
    def test_states_equal_the_walk_inside(self):
        for conf in None, "arena_max:1", "arena_max:2,tcache_count:8", "tcache_max:0", "decay:0,mmap_threshold:32M":
            with self.subTest(conf=conf), self.shaped("mixed", conf=conf) as (process, said):
                figures = self.figures("stats", process)
                self.check_same(figures, said)
                self.assertLess(abs(figures["resident"]["residual_percent"]), 1)
                settings = dict(item.split(":") for item in (conf or "").split(",") if item)
                for name, value in settings.items():
                    self.assertEqual(figures["settings"][name], 32 << 20 if value == "32M" else int(value))

    def test_it_says_the_same_twice_and_the_process_goes_on(self):
        with self.shaped("mixed") as (process, said):
            first, second = (self.figures("stats", process) for _ in range(2))
            self.assertEqual(first["states"], second["states"])
            self.assertEqual(first["minor_faults"], second["minor_faults"], "reading has made pages")
            self.assertEqual(state(process.pid), "S")

    def test_text_has_the_figures(self):
        with self.shaped("mixed") as (process, said):
            figures = self.figures("stats", process)
            text = self.tool("stats", str(process.pid)).stdout.decode()
            lines = {line[2:22].strip(): line[22:].split() for line in text.splitlines() if line.startswith("  ")}
            for name, figure in figures["states"].items():
                if figure["resident"]:
                    self.assertEqual(int(lines[name][0]), figure["resident"], name)
            self.assertEqual(int(lines["RSS by the kernel"][0]), figures["resident"]["rss"])
            self.assertEqual(int(lines["residual"][0]), figures["resident"]["residual"])

    def test_static_and_stripped(self):
        archive = os.environ["SEEMALLOC_STATIC_LIB"]
        for form in ["-static"], ["-static-pie", "-fPIE"]:
            subject = self.compile("subject" + form[0], self.source, INCLUDE, "-fno-builtin", "-pthread", "-DSTATIC", "-s", *form, "-x", "none", archive)
            with self.subTest(form), self.shaped("mixed", subject=subject, library=None) as (process, said):
                self.check_same(self.figures("stats", process), said)

    def test_stripped_library(self):
        library = self.path("stripped.so")
        subprocess.run(["strip", "-o", library, os.environ["SEEMALLOC_LIB"]], check=True)
        with self.shaped("mixed", library=library) as (process, said):
            self.check_same(self.figures("stats", process), said)

    def test_library_with_checkers(self):
        with self.shaped("mixed", library=os.environ["SEEMALLOC_CHECKED_LIB"]) as (process, said):
            self.check_same(self.figures("stats", process), said)

    def test_a_stopped_process_stays_stopped(self):
        with self.shaped("mixed") as (process, said):
            stop(process)
            for _ in range(3):
                self.check_same(self.figures("stats", process), said)
                wait_for_stop(process)
            process.send_signal(18)
            while state(process.pid) == "T":
                pass

    def test_the_reader_is_killed(self):
        """At any moment: the process goes on, and can be read by the next."""
        with self.shaped("load") as (process, _):
            for moment in range(20):
                reader = subprocess.Popen([os.environ["SEEMALLOC_BIN"], "stats", str(process.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    reader.wait(random.Random(moment).uniform(0, 0.03))
                except subprocess.TimeoutExpired:
                    reader.kill()
                reader.wait()
                with open(f"/proc/{process.pid}/status") as file:
                    self.assertIn("TracerPid:\t0\n", file.read())
                for task in os.listdir(f"/proc/{process.pid}/task"):
                    with open(f"/proc/{process.pid}/task/{task}/stat") as file:
                        self.assertNotIn(file.read().rpartition(")")[2].split()[0], "tT")

    def test_under_load(self):
        torn = tries = 0
        with self.shaped("load") as (process, _):
            for _ in range(READS):
                figures = self.figures("stats", process)
                self.assertIsNone(figures["corrupted"])
                self.check_sums(figures)
                self.assertLess(abs(figures["resident"]["residual_percent"]), 1)
                torn += figures["torn"] != []
                tries += figures["process"]["tries"]
                self.assertEqual(figures["torn"] != [], any(arena["torn"] for arena in figures["arenas"]) or any(c["torn"] for c in figures["caches"]))
        print(f"{READS} reads, {tries} tries, {torn} torn")

    def test_slack_of_huge_pages(self):
        with self.shaped("huge", conf="hugetlb:1,top_pad:8M") as (process, _):
            with open(f"/proc/{process.pid}/smaps") as file:
                huge = sum(int(line.split()[1]) for line in file if line.startswith("AnonHugePages:")) * 1024
            figures = self.figures("stats", process)
            self.check_sums(figures)
            self.assertEqual(figures["resident"]["residual"], 0)
            if huge == 0:
                self.skipTest("this kernel gave no huge pages")
            self.assertGreater(figures["resident"]["slack"], huge // 2)

    def test_retained_mappings(self):
        with self.shaped("retain") as (process, said):
            figures = self.figures("stats", process)
            self.check_same(figures, said)
            self.assertGreaterEqual(said["retained_bytes"], 64 << 20)
            self.assertEqual(figures["resident"]["retained"], said["retained_bytes"])

    def test_books_of_many_regions(self):
        """What the allocator keeps for itself is its own, wherever it lies: a thousand descriptions of regions, too."""
        with self.shaped("regions") as (process, said):
            figures = self.figures("stats", process)
            self.assertGreater(max(arena["regions"] for arena in figures["arenas"]), 900)
            beside = figures["resident"]["metadata"] - said["metadata"]  # what lies among the library's data, which counts as files inside
            self.assertTrue(0 <= beside < 65536, beside)

    def test_a_thread_in_vfork(self):
        with self.shaped("vfork") as (process, _):
            while state(process.pid) != "D":
                pass
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                child = int(file.read())
            self.check_sums(self.figures("stats", process))
            os.kill(child, 9)
            while state(process.pid) != "S":
                pass
            self.check_sums(self.figures("stats", process))

    def test_by_the_file_in_proc(self):
        """Where process_vm_readv is not to be had."""
        shim = self.compile("shim.so", "#include <errno.h>\nlong process_vm_readv(void) { errno = ENOSYS; return -1; }\n", "-shared", "-fPIC")
        with self.shaped("mixed") as (process, said):
            done = self.tool("stats", str(process.pid), "--json", env=environment(LD_PRELOAD=shim))
            self.check_same(json.loads(done.stdout), said)

    def test_pages_of_zeros_are_nobodys(self):
        with self.shaped("zeros") as (process, _):
            for _ in range(5):  # let go after the reading, the process may fault pages of its files in
                figures = self.figures("stats", process)
                with open(f"/proc/{process.pid}/smaps") as file:
                    rss = [int(line.split()[1]) for line in file if line.startswith("Rss:")]
                if sum(rss) * 1024 == figures["resident"]["rss"]:
                    break
            self.assertEqual(sum(rss) * 1024, figures["resident"]["rss"])
            self.assertEqual(figures["states"]["mapped"]["bytes"], (8 << 20) + PAGE)
            if abs(figures["resident"]["residual_percent"]) > 1:
                self.skipTest("this kernel does not tell pages of zeros apart")


main()
