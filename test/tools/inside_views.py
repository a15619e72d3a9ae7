#!/usr/bin/env python3
# inside_views.py: `seemalloc map`, `bins`, `arenas`, `threads`, `chunk` and `explain`: what they show is what a walk inside the process sees, and what free
# would do is what it does.
# SPDX-License-Identifier: MIT
import collections
import json
import os
import re
import signal
import sys

from inside import STATES, InsideTest
from outside import PAGE, stop
from tool import environment, main

COMMANDS = ["map", "bins", "arenas", "threads", "chunk", "explain", "try-malloc"]
FREE = {"parked", "inbox", "fast", "unsorted", "small", "large", "last remainder", "purging", "top"}


def number(address):
    return int(address, 16)


class Views(InsideTest):
    def shape(self, player):
        """Three threads that gave each other blocks; all kinds of lists have something in them."""
        for i in range(3):
            player.ask("id", thread=i)
        for i in range(30):
            player.ask("play", i, 4000, thread=i % 3)
        player.ask("play", 99, 900, thread=0)
        player.malloc(3 << 20)

    def chunks(self, figures):
        """(address, size, state, bin, arena) of all chunks of `map --json`."""
        for region in figures["regions"]:
            address = number(region["start"])
            for size, state, *where in region["chunks"]:
                yield address, size, figures["states"][state], where[0] if where else -1, region["arena"]
                address += size
            self.assertEqual(address, number(region["end"]))
        for block in figures["blocks"]:
            yield number(block["start"]) + block["lead"], block["length"] - block["lead"], "mapped", -1, 0

    def test_map_is_the_walk(self):
        with self.playing() as player:
            self.shape(player)
            walk = sorted(player.walk())
            self.assertEqual(sorted(self.chunks(self.json("map", player.pid))), walk)
            self.assertTrue({state for _, _, state, _, _ in walk} >= {"in use", "cached", "top", "mapped", "small", "large"})
            path = self.path("heap.json")
            done = self.tool("map", str(player.pid), "-o", path)
            self.assertEqual((done.returncode, done.stdout), (0, b""))
            with open(path) as file:
                self.assertEqual(sorted(self.chunks(json.load(file))), walk)

    def test_page_is_the_walk(self):
        """What the page holds, by a decoder of docs/heap-data.md that is not the tool's."""
        os.environ.setdefault("WEB", "")
        sys.path.append(os.path.join(os.environ["SOURCE_DIR"], "test", "web"))
        import web
        with self.playing() as player:
            self.shape(player)
            path = self.path("heap.html")
            done = self.tool("map", str(player.pid), "-o", path)
            if b"without zlib" in done.stderr:
                self.skipTest("without zlib there are no pages")
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            figures = self.figures("stats", player.process)  # before the walk, which maps memory for its own books
            heap, walk = web.Heap(path), player.walk()
            self.assertEqual(sorted((a, s, STATES[state], b) for a, s, state, b in heap.chunks if state < 254), sorted(chunk[:4] for chunk in walk))
            head = heap.head
            self.assertEqual((head["process"], head["pid"], head["read"], head["torn"]), ("player", player.pid, "frozen", False))
            self.assertEqual({row["thread"] for row in head["caches"]}, {int(player.ask("id", thread=i)) for i in range(3)})
            self.assertEqual({row["name"]: row["value"] for row in head["calls"]}, {n: v for n, v in figures["calls"].items() if n != "refused"})
            called = {row["name"] for row in head["calls"] if row["value"]}
            self.assertEqual({event["call"] for event in head["events"]} - called, set())
            self.assertGreater(len(head["events"]), 10)
            self.assertEqual(sum(row["value"] for row in head["ledger"]), head["samples"][-1]["resident"])
            resident = [sum(pages) * PAGE for pages in heap.resident]
            blocks = [size for size, region in zip(resident, head["regions"]) if region["kind"] == "block"]
            self.assertEqual(sum(blocks), figures["states"]["mapped"]["resident"])

    def test_live_is_the_walk_but_for_caches(self):
        with self.playing() as player:
            self.shape(player)
            figures = self.json("map", player.pid, "--live")
            self.assertEqual((figures["process"]["read"], figures["torn"]), ("live", []))
            walk = sorted((a, s, "in use" if state == "cached" else state, b, arena) for a, s, state, b, arena in player.walk())
            self.assertEqual(sorted(self.chunks(figures)), walk)

    def test_text_has_the_sums(self):
        with self.playing() as player:
            self.shape(player)
            sums, count = collections.Counter(), collections.Counter()
            for _, size, state, _, _ in player.walk():
                sums[state] += size
                count[state] += 1
            done = self.tool("map", str(player.pid), "--width", "60")
            text = done.stdout.decode()
            self.assertNotIn("\033", text)
            legend = {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(r"^[A-Z] (\S.*?)  +(\d+) +(\d+)", text, re.M)}
            expected = {state: (sums[state], count[state]) for state in STATES if count[state]}
            mapped = legend.pop("mapped")
            self.assertEqual(mapped[1], expected.pop("mapped")[1])
            self.assertEqual(legend, expected)
            self.assertTrue(all(len(line) <= 60 for line in text.splitlines() if re.fullmatch(r"  [A-Za-z]+", line)))
            scale = self.tool("map", str(player.pid), "--scale", "1M").stdout.decode()
            strips = [line for line in scale.splitlines() if re.fullmatch(r"  [A-Z a-z]+", line) and " " not in line.strip()]
            cells = sum(len(line.strip()) for line in strips)
            figures = self.json("map", player.pid)
            spans = [number(region["end"]) - number(region["start"]) for region in figures["regions"]]
            blocks = sum(block["length"] for block in figures["blocks"])
            self.assertEqual(cells, sum(-(-span // (1 << 20)) for span in spans) + -(-blocks // (1 << 20)))
            colour = self.tool("map", str(player.pid), "--ansi", env=environment(NO_COLOR="1")).stdout.decode()
            self.assertIn("\033[48;5;", colour)

    def test_bins_are_the_walk(self):
        with self.playing() as player:
            self.shape(player)
            expected = collections.Counter()
            for _, size, state, where, arena in player.walk():
                kind = {"fast": "fast", "parked": "parked", "inbox": "inbox"}.get(state) or (where >= 1 and "bin")
                if kind:
                    expected[arena, kind, where if kind in ("fast", "bin") else 0, "chunks"] += 1
                    expected[arena, kind, where if kind in ("fast", "bin") else 0, "bytes"] += size
            seen, sizes = collections.Counter(), {}
            for arena in self.json("bins", player.pid)["arenas"]:
                for row in arena["lists"]:
                    kind = row["kind"] if row["kind"] in ("fast", "parked", "inbox") else "bin"
                    for what in "chunks", "bytes":
                        seen[arena["id"], kind, row.get("number", 0), what] += row[what]
                    sizes[arena["id"], kind, row.get("number", 0)] = row
            self.assertEqual(seen, expected)
            for _, size, state, where, arena in player.walk():
                if where > 1 and state != "fast":
                    row = sizes[arena, "bin", where]
                    self.assertTrue(row["from"] <= size <= row.get("to", size), (size, row))
            self.assertIn("unsorted", self.tool("bins", str(player.pid)).stdout.decode())

    def test_arenas_are_the_walk(self):
        with self.playing() as player:
            self.shape(player)
            sums = collections.defaultdict(collections.Counter)
            for _, size, state, _, arena in player.walk():
                if state != "mapped":
                    sums[arena][state] += size
            figures = {arena["id"]: arena for arena in self.json("arenas", player.pid)["arenas"]}
            self.assertEqual(set(figures), set(sums))
            tids = {int(player.ask("id", thread=i)) for i in range(3)}
            self.assertEqual({tid for arena in figures.values() for tid in arena["threads"]}, tids)
            for name, arena in figures.items():
                states = {state: row["bytes"] for state, row in arena["states"].items()}
                self.assertEqual(states, {state: size for state, size in sums[name].items() if size})
                self.assertEqual(arena["free"], sum(size for state, size in sums[name].items() if state in FREE))
                self.assertEqual(arena["in_use"] + arena["cached"] + arena["free"], arena["system_bytes"])
                self.assertEqual(sum(number(r["end"]) - number(r["start"]) for r in arena["regions"]), arena["system_bytes"])
            self.tool("arenas", str(player.pid)).check_returncode()

    def test_threads(self):
        """A block that a thread frees is in that thread's magazine; the sums are the walk's."""
        with self.playing() as player:
            self.shape(player)
            for i in range(3):
                tid = int(player.ask("id", thread=i))
                mem = [player.malloc(72, thread=i) for _ in range(2)]
                for block in mem:
                    player.free(block, thread=i)
                listed = self.json("chunk", player.pid, hex(mem[1]))["chunk"]["list"]
                self.assertEqual((listed["kind"], listed["thread"], listed["position"]), ("magazine", tid, 1))
            figures = self.json("threads", player.pid)
            self.assertEqual((len(figures["caches"]), figures["without_cache"]), (3, []))
            for cache in figures["caches"]:
                self.assertEqual(sum(row["blocks"] for row in cache["classes"]), cache["blocks"])
                self.assertEqual(sum(row["bytes"] for row in cache["classes"]), cache["bytes"])
                self.assertEqual(sum(row["limit"] * row["block_size"] for row in cache["classes"]), cache["limits_bytes"])
                self.assertTrue(all(row["blocks"] <= row["limit"] for row in cache["classes"]))
            cached = [chunk for chunk in player.walk() if chunk[2] == "cached"]
            self.assertEqual(sum(cache["bytes"] for cache in figures["caches"]), sum(chunk[1] for chunk in cached))
            self.assertEqual(sum(cache["blocks"] for cache in figures["caches"]), len(cached))
            self.tool("threads", str(player.pid)).check_returncode()

    def test_threads_without_a_cache(self):
        with self.playing("tcache_max:0,decay:-1") as player:
            player.malloc(100)
            (cache,) = self.json("threads", player.pid)["caches"]
            self.assertEqual((cache["blocks"], cache["classes"]), (0, []))

    def test_chunks_and_what_free_does(self):
        """One of each state: the chunk command says what the walk says, and explain what a free in a forked child really ends with."""
        with self.playing() as player:
            self.shape(player)
            walk = player.walk()
            by_state = {}
            for i, chunk in enumerate(walk):
                by_state.setdefault((chunk[2], chunk[4] == 0), []).append(i)
            for (state, _), indices in by_state.items():
                for i in {indices[0], indices[len(indices) // 2], indices[-1]}:
                    address, size, _, where, arena = walk[i]
                    mem = address + 16
                    for inside in {address, mem, address + size // 2, address + size - 1}:
                        found = self.json("chunk", player.pid, hex(inside))
                        chunk = found["chunk"]
                        self.assertEqual((number(chunk["address"]), chunk["size"], chunk["state"], chunk["bin"] if chunk["bin"] is not None else -1),
                                         (address, size, state, where))
                        if state != "mapped":
                            self.assertEqual(chunk["arena"], arena)
                            behind = chunk["behind"]
                            if behind is not None:
                                self.assertEqual((number(behind["address"]), behind["size"], behind["state"]), walk[i + 1][:3])
                    self.check_free(player, mem)
                    self.check_free(player, mem + 16)

    def check_free(self, player, mem):
        free = self.json("explain", player.pid, hex(mem))["free"]
        status, text = player.die(mem)
        if free["way"] == "aborts":
            self.assertEqual((status, text), (signal.SIGABRT, free["message"]), hex(mem))
        else:
            self.assertEqual((status, text), (0, ""), (hex(mem), free))

    def test_what_free_does_to_blocks_in_use(self):
        """What explain says comes of a block comes of it: in a magazine, a fast bin, the top, or merged with its neighbours."""
        seen = collections.Counter()
        for conf in "decay:-1", "decay:-1,tcache_max:0":
            with self.playing(conf) as player:
                player.ask("play", 5, 20000)
                for size in 24, 100, 500, 3000, 20000, 60000, 500000, 24, 100, 3000, 20000:
                    mem = player.malloc(size)
                    free = self.json("explain", player.pid, hex(mem))["free"]
                    player.free(mem)
                    after = [chunk for chunk in player.walk() if chunk[0] <= mem < chunk[0] + chunk[1]]
                    way, (address, length, state, _, _) = free["way"], after[0] if after else (0, 0, "", 0, 0)
                    seen[way] += 1
                    if "magazine" in way:
                        self.assertEqual((address + 16, state), (mem, "cached"))
                    elif way == "fast bin":
                        self.assertEqual((address + 16, state, length), (mem, "fast", free["size"]))
                    elif way == "unmapped":
                        self.assertEqual(after, [])
                    elif way == "unsorted bin" and free["size"] < 65536:  # else fast bins are merged, too
                        self.assertEqual((state, length), ("unsorted", free["size"]))
                    elif way in ("top", "unsorted bin"):
                        self.assertTrue(state in ("top", "unsorted") or not after, (way, after))
                    else:
                        self.fail(way)
        self.assertTrue({"magazine", "fast bin", "unsorted bin"} <= set(seen), seen)

    def test_other_addresses(self):
        with self.playing() as player:
            self.shape(player)
            block = player.malloc(50 << 20)
            with open(f"/proc/{player.pid}/maps") as file:
                maps = file.read()
            library = int(re.search(r"^([0-9a-f]+)-.*libc", maps, re.M)[1], 16)
            figures = self.json("arenas", player.pid)
            cache = self.json("threads", player.pid)["caches"][0]["address"]
            heap = next(region for arena in figures["arenas"] for region in arena["regions"] if region["kind"] == "heap")
            cases = [(int(player.ask("stack"), 16), "stack", "main thread's stack|stack of thread"), (int(player.ask("stack", thread=1), 16), "stack", "stack of thread"),
                     (library, "file", "libc"), (16, "nothing", "not mapped"), (2**64 - 1, "nothing", "not mapped"),
                     (number(figures["arenas"][1]["address"]), "books", f"struct of arena {figures['arenas'][1]['id']}"),
                     (number(cache) + 100, "books", "thread cache of thread"), (number(heap["end"]), "reserved", "reserved part"),
                     (block + 4096, "mapped block", "mapped block")]
            for address, what, words in cases:
                found = self.json("explain", player.pid, hex(address))
                self.assertEqual(found["what"], what, hex(address))
                self.assertRegex(" ".join(found["words"]), words)
                done = self.tool("chunk", str(player.pid), hex(address))
                self.assertEqual(done.returncode, 0 if what == "mapped block" else 1, hex(address))
                if what == "nothing":
                    self.assertEqual(found["free"]["way"], "crashes")
                    self.assertEqual(player.die(address)[0], signal.SIGSEGV)
                elif what == "stack":
                    self.assertEqual((found["free"]["way"], player.die(address // 16 * 16)[0]), ("aborts", signal.SIGABRT))

    def test_a_stopped_process(self):
        with self.playing() as player:
            self.shape(player)
            walk = sorted(player.walk())
            mem = next(chunk[0] + 16 for chunk in walk if chunk[2] == "in use")
            stop(player.process)
            self.assertEqual(sorted(self.chunks(self.json("map", player.pid))), walk)
            for command in COMMANDS:
                self.json(command, player.pid, *{"chunk": [hex(mem)], "explain": [hex(mem)], "try-malloc": [100]}.get(command, []))
            os.kill(player.pid, signal.SIGCONT)
            self.assertEqual(sorted(player.walk()), walk)

    def test_under_load(self):
        """Read unfrozen while four threads allocate: nothing is called corrupted, and what fits together is a whole heap."""
        with self.shaped("load") as (process, _):
            for _ in range(30):
                done = self.tool("map", str(process.pid), "--live", "--json")
                self.assertEqual(done.returncode, 0, done.stderr.decode())
                figures = json.loads(done.stdout)
                self.assertIsNone(figures["corrupted"])
                for _ in self.chunks(figures):
                    pass
            for command in "bins", "arenas", "threads", "map":
                figures = self.json(command, process.pid)
                self.assertIsNone(figures["corrupted"])

    def test_refusals(self):
        with self.playing() as player:
            player.malloc(100)
            pid = str(player.pid)
            for command in COMMANDS:
                more = {"chunk": ["0x10"], "explain": ["0x10"], "try-malloc": ["100"]}.get(command, [])
                self.refused(2, "the number of a process is missing", command)
                self.refused(2, "is no process", command, "x", *more)
                self.refused(2, "unknown option '--bad'", command, pid, *more, "--bad")
                self.refused(2, "too", command, pid, *more, "7", "8")
                self.refused(1, "there is no process 4194999", command, "4194999", *more)
                self.refused(1, "does not run on seemalloc", command, str(os.getpid()), *more)
                self.assertIn(b"Usage: seemalloc " + command.encode(), self.tool(command, "--help").stdout)
                self.assertIn(command.encode(), self.tool("help").stdout)
            for command in "chunk", "explain":
                self.refused(2, "an address is missing", command, pid)
                for bad in "x", "-1", "0x", "12z", "99999999999999999999":
                    self.refused(2, "is not an address|unknown option", command, pid, bad)
            for bad in "x", "10T", "0x1g", "-5", "99999999999G":
                self.refused(2, "is not a size|unknown option", "try-malloc", pid, bad)
            self.refused(2, "exclude each other", "try-malloc", pid, "10", "--all", "--arena", "0")
            self.refused(1, "there is no arena 999", "try-malloc", pid, "10", "--arena", "999")
            self.refused(1, "no thread 1 is known", "try-malloc", pid, "10", "--thread", "1")
            self.refused(2, "neither NAME.html nor NAME.json", "map", pid, "-o", "heap.txt")
            self.refused(1, "can't write '/nowhere/heap.json': No such file", "map", pid, "-o", "/nowhere/heap.json")
            self.refused(2, "a width is 40 to 1000", "map", pid, "--width", "0")
            self.refused(2, "at least", "map", pid, "--scale", "1")


if os.environ.get("SEEMALLOC_BIN"):
    main()
