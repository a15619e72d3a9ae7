#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our mappings are few: at most 32, two for each heap, two for each live thread cache and one for each mapped block, on every program of the benchmark at its
quick size, and the real ones. vmas.c looks from inside each process."""
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass

sys.dont_write_bytecode = True
SOURCE, BUILD = os.environ["SOURCE_DIR"], os.environ["BUILD_DIR"]
LIBRARY, LOOKER = os.path.realpath(os.environ["SEEMALLOC_LIB"]), os.environ["VMAS"]


def load_bench():
    loader = importlib.machinery.SourceFileLoader("bench_run", os.path.join(SOURCE, "bench", "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    sys.modules["bench_run"] = module
    loader.exec_module(module)
    return module


@dataclass
class Worst:
    """What a process had when it came nearest to the bound (pages.h)."""

    program: str
    looks: int
    found: int
    heaps: int
    blocks: int
    caches: int
    arenas: int

    def allowed(self):
        return 32 + 2 * self.heaps + 2 * self.caches + self.blocks


def read_report(path):
    with open(path, encoding="utf-8") as f:
        return [Worst(name, *map(int, numbers)) for name, *numbers in (line.rsplit(None, 6) for line in f)]


def main():
    bench = load_bench()
    out = os.path.join(BUILD, "test", "memory", "bench")
    workloads = [w for w in [*bench.WORKLOADS, *bench.MEMORY_WORKLOADS] if bench.runs_here(w)]
    bench.build_programs(out, {w.program for w in workloads if not w.real})
    allocator = bench.Allocator("seemalloc", LIBRARY)
    bad = 0
    for w in workloads:
        with tempfile.TemporaryDirectory(prefix="seemalloc-vmas.") as tmp:
            report = os.path.join(tmp, "report")
            bench.execute(bench.command(w, out, "quick", tmp), w, allocator, tmp, LD_PRELOAD=f"{LIBRARY}:{LOOKER}", VMAS_REPORT=report)
            processes = read_report(report)
        worst = min(processes, key=lambda p: p.allowed() - p.found)
        failed = worst.found > worst.allowed()
        bad += failed
        print(f"{'FAILED: ' if failed else ''}{w.name}: {worst.found} mappings, allowed are {worst.allowed()} ({worst.program}: {worst.heaps} heaps, "
              f"{worst.blocks} blocks, {worst.caches} live caches, {worst.arenas} arenas; {len(processes)} processes, {sum(p.looks for p in processes)} looks)",
              flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
