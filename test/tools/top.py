#!/usr/bin/env python3
# top.py: `seemalloc top`: its figures are those of `stats`; on terminals of several sizes its keys do what they say; however it ends, the terminal is as
# it was, and the process goes on.
# SPDX-License-Identifier: MIT
import json
import os
import random
import re
import signal
import subprocess
import sys

from outside import OutsideTest, state, stop
from tool import LIBRARY, TOOL, environment, main

try:
    from terminal import TERM, Terminal, describe_terminal
except ImportError:
    print("top.py: pyte is missing (Debian package python3-pyte): scripts/deps test")
    sys.exit(77)

BRK, MMAP = ("brk grow", "brk trim"), ("mmap block", "mmap region", "mmap heap", "mmap metadata")
KINDS = {"brk": BRK, "mmap": MMAP, "munmap": ("munmap block", "munmap heap", "munmap excess"), "mremap": ("mremap block", "mremap move"),
         "madvise": ("madvise trim", "madvise purge", "madvise huge"), "mprotect": ("mprotect grow",)}
WIDE = ["RSS", "in use", "cached", "free", "mapped", "peak", "brk/s", "mmap/s", "munmap/s", "mremap/s", "madvise/s", "mprotect/s", "minor flt/s",
        "major flt/s", "books", "refused"]
IN_USE = "in use", "fencepost", "abandoned", "unknown"
FREE = "parked", "inbox", "fast", "unsorted", "small", "large", "last remainder", "purging", "top"
TRACER = """
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc != 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0) != 0) return 1;
    write(1, "{}\\n", 3);
    for (;;) pause();
}
"""


def size_word(size):
    value, units = float(size), ["", "K", "M", "G", "T"]
    while value >= 999.95:
        value, units = value / 1024, units[1:]
    return f"{value:.1f}{units[0]}" if units[0] else str(size)


def head_of(lines, narrow=False):
    """The figures by name."""
    figures = {}
    names = WIDE
    if narrow:
        names = WIDE[:7] + ["mmap/s", "munm/s", "mrem/s", "madv/s", "mprt/s", "minf/s", "majf/s", "books", "refusd"]
    for name, wide in zip(names, WIDE):
        for line in lines[2:10]:
            found = re.search(rf"(?:^|(?<= )){re.escape(name)} +([0-9.]+[kKMGT]?|\?)(?= |$)", line)
            if found:
                figures[wide] = found[1]
                break
    return figures


def expected(stats):
    """What the head must show of the figures of `stats`."""
    states = stats["states"]
    return {"RSS": size_word(stats["resident"]["rss"]), "in use": size_word(sum(states[name]["bytes"] for name in IN_USE)),
            "cached": size_word(states["cached"]["bytes"]), "free": size_word(sum(states[name]["bytes"] for name in FREE)),
            "mapped": size_word(states["mapped"]["bytes"]), "peak": size_word(stats["heap_peak"]), "books": size_word(stats["metadata_mapped"])}


class Top(OutsideTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        describe_terminal(cls.folder)
        cls.terminal = {"TERM": TERM, "TERMINFO": cls.folder, "LC_ALL": "C.UTF-8", "LINES": None, "COLUMNS": None}

    def screen(self, process, *options, columns=80, lines=24, **changes):
        env = environment(**{**self.terminal, **changes})
        return Terminal([TOOL, "top", str(process.pid if hasattr(process, "pid") else process), *options], columns, lines, env, corner=True)

    # --- figures

    def test_record_equals_stats(self):
        with self.shaped("mixed") as (process, _):
            stop(process)
            stats, top = self.figures("stats", process), self.figures("top", process)
            self.assertEqual(len(self.tool("top", str(process.pid), "--json").stdout.splitlines()), 1)
            for name in "heap_peak", "metadata_mapped", "minor_faults", "major_faults", "calls":
                self.assertEqual(top[name], stats[name], name)
            self.assertEqual(top["rss"], stats["resident"]["rss"])
            self.assertEqual(top["in_use"], sum(stats["states"][name]["bytes"] for name in IN_USE))
            self.assertEqual(top["free"], sum(stats["states"][name]["bytes"] for name in FREE))
            self.assertEqual(top["cached"], stats["states"]["cached"]["bytes"])
            self.assertEqual([top["mapped"], top["mapped_blocks"]], [stats["states"]["mapped"][name] for name in ("bytes", "count")])
            self.assertEqual(top["threads"], len(os.listdir(f"/proc/{process.pid}/task")))
            for arena in top["arenas"]:
                self.assertEqual(arena["in_use"] + arena["cached"] + arena["free"], arena["system_bytes"])
            self.assertEqual(sum(arena["system_bytes"] for arena in top["arenas"]), sum(arena["system_bytes"] for arena in stats["arenas"]))

    def test_screen_equals_stats(self):
        with self.shaped("mixed") as (process, _):
            stop(process)
            said = expected(self.figures("stats", process))
            for columns, lines in (80, 24), (200, 50), (40, 10):
                with self.subTest(columns=columns), self.screen(process, columns=columns, lines=lines) as terminal:
                    terminal.wait_for("THREAD")
                    head = head_of(terminal.lines(), columns < 80)
                    self.assertEqual({name: head.get(name) for name in said}, said)
                    self.assertRegex(terminal.lines()[1], r"^frozen for \d+\.\d ms; rates since")
                    self.assertIn(f"({process.pid}), up 0:0", terminal.lines()[0])
                    terminal.type("q")
                    self.assertEqual(terminal.ended(), 0)

    def test_rates(self):
        """Of the first record over all its life, then between two records."""
        with self.shaped("load") as (process, _):
            done = self.tool("top", str(process.pid), "--json", "--batch", "3", "--delay", "0.2")
            records = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual((done.returncode, len(records)), (0, 3), done.stderr)
            before = None
            for record in records:
                interval = record["interval_ns"] / 1e9
                counted = {kind: sum(record["calls"][name] for name in names) for kind, names in KINDS.items()}
                counted.update({name: record[name] for name in ("minor_faults", "major_faults")})
                for name, count in counted.items():
                    self.assertAlmostEqual(record["per_second"][name] * interval, count - (before[name] if before else 0), delta=1e-3 * interval + 1e-3)
                before = counted
            self.assertEqual(records[0]["interval_ns"], records[0]["age_ns"])
            self.assertGreater(records[1]["interval_ns"], 2e8)

    def test_live(self):
        with self.shaped("mixed") as (process, _):
            stop(process)
            frozen, live = self.figures("top", process), self.figures("top", process, "--live")
            self.assertEqual((live["process"]["read"], live["process"]["frozen_ns"], live["cached"]), ("live", 0, None))
            self.assertEqual(live["in_use"], frozen["in_use"] + frozen["cached"])
            self.assertEqual(live["free"], frozen["free"])

    def test_printed_once(self):
        """Where there is no terminal; the strip of an arena has the letters of `map`."""
        with self.shaped("pin") as (process, _):
            stop(process)
            text = self.tool("top", str(process.pid)).stdout.decode().splitlines()
            self.assertEqual({name: head_of(text).get(name) for name in expected({**self.figures("stats", process)})},
                             expected(self.figures("stats", process)))
            self.assertIn("THREAD", "\n".join(text))
            strip = text[next(i for i, line in enumerate(text) if line.startswith("arena 0 main")) + 1]
            self.assertLessEqual(len(strip), 80)
            self.assertLessEqual(set(strip.upper()), set("UCPIFNSLRGTXAMQ"))
            self.assertRegex(strip.upper(), "^[NL]+U+[NL]+T+$")
            table = text[next(i for i, line in enumerate(text) if "THREAD" in line) + 1:]
            self.assertEqual([int(line.split()[0]) for line in table], [process.pid])

    # --- keys

    def test_views_and_scrolling(self):
        with self.shaped("mixed") as (process, _), self.screen(process, "-d", "600") as terminal:
            terminal.wait_for("THREAD NAME")
            terminal.type("c")
            terminal.wait_for("ARENA LIST")
            table = lambda lines: lines[[i for i, line in enumerate(lines) if "ARENA LIST" in line][0] + 1:-1]
            first = table(terminal.lines())
            terminal.type("\033OB")
            self.assertEqual(terminal.wait(lambda lines: table(lines)[0] == first[1] and table(lines))[:-1], first[1:])
            terminal.type("\033OA")
            terminal.wait(lambda lines: table(lines) == first)
            terminal.type("\033[6~")
            terminal.wait(lambda lines: table(lines)[0] == first[-1])
            terminal.type("\033[4~")
            last = terminal.wait(lambda lines: table(lines)[0] != first[-1] and table(lines))
            terminal.type("\033OB")
            terminal.type("\033[1~")
            terminal.wait(lambda lines: table(lines) == first)
            self.assertNotEqual(last, first)
            terminal.type("c")
            terminal.wait_for("SECONDS AGO")
            terminal.type("c")
            terminal.wait_for("THREAD NAME")

    def test_strips(self):
        with self.shaped("mixed") as (process, _), self.screen(process, "-d", "600") as terminal:
            figures = self.figures("top", process)
            arenas, mapped = [arena["id"] for arena in figures["arenas"]], figures["mapped_blocks"]
            labels = lambda lines: [int(found[1]) for found in (re.match(r"arena (\d+) (main|thread)", line) for line in lines) if found]
            seen = set(terminal.wait(labels))
            terminal.type(">" * 10)
            if mapped:
                terminal.wait(lambda lines: any(re.match(rf"{mapped} mapped blocks?: [0-9.]+M", line) for line in lines))
            seen |= set(labels(terminal.lines()))
            terminal.type("<" * 10)
            terminal.wait(lambda lines: labels(lines) and labels(lines)[0] == arenas[0])
            for _ in arenas:
                seen |= set(labels(terminal.lines()))
                terminal.type(">")
                terminal.wait(lambda lines: labels(lines))
            self.assertEqual(seen, set(arenas))
            terminal.type("1")
            terminal.wait_for("all arenas and mapped blocks: ")
            self.assertEqual(labels(terminal.lines()), [])
            terminal.type("1")
            terminal.wait(labels)

    def test_colours(self):
        """A cell of a strip has a background; with NO_COLOR, or few colours, a letter."""
        with self.shaped("mixed") as (process, _):
            for changes, coloured in ({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "vt100"}, False), ({"LC_ALL": "C"}, True):
                with self.subTest(changes), self.screen(process, **changes) as terminal:
                    lines = terminal.wait(lambda lines: any(line.startswith("arena 0") for line in lines) and "q quit" in lines[-1] and lines)
                    row = next(i for i, line in enumerate(lines) if line.startswith("arena 0")) + 1
                    cells = [terminal.screen.buffer[row][x] for x in range(80)]
                    letters = re.fullmatch("[A-Za-z]{70,80}", lines[row])
                    self.assertEqual((letters is None, all(cell.bg != "default" for cell in cells[:70])), (coloured, coloured))
                    self.assertEqual({terminal.screen.buffer[0][x].bg for x in range(80)}, {"default"}, "the terminal's own colours")
                    if coloured:
                        self.assertLessEqual({cell.data for cell in cells}, set(" :") if changes else set(" ▄░"))
                    terminal.type("q")
                    self.assertEqual(terminal.ended(), 0)

    def test_help_pause_delay_freeze(self):
        with self.shaped("mixed") as (process, _), self.screen(process) as terminal:
            terminal.wait_for("THREAD")
            terminal.type("?")
            terminal.wait_for("any key goes back")
            terminal.wait_for("set the delay")
            terminal.type("x")
            terminal.wait_for("THREAD")
            terminal.type("p")
            terminal.wait_for("PAUSED")
            terminal.type("p")
            terminal.wait(lambda lines: "PAUSED" not in lines[0])
            terminal.type("d")
            terminal.wait_for("delay in seconds (now 1.0):")
            terminal.type("7x00\r")
            terminal.wait_for("delay 700.0")
            terminal.type("s")
            terminal.wait_for("delay in seconds (now 700.0):")
            terminal.type("0.05\r")
            terminal.wait_for("a delay is 0.1 to 3600 seconds")
            terminal.type("f")
            terminal.wait_for("read while it ran")
            terminal.wait(lambda lines: head_of(lines).get("cached") == "?")
            terminal.type("f")
            terminal.wait_for("frozen for")
            up = terminal.lines()[0]
            terminal.wait(lambda lines: terminal.type(" ") or lines[0] != up)
            terminal.type("q")
            self.assertEqual(terminal.ended(), 0)

    def test_paused_reads_nothing(self):
        with self.shaped("load") as (process, _), self.screen(process, "-d", "0.1") as terminal:
            first = terminal.wait(lambda lines: "rates over" in lines[1] and lines[0])
            terminal.wait(lambda lines: lines[0] != first and "rates over" in lines[1])
            terminal.type("p")
            terminal.wait_for("PAUSED")
            still = terminal.lines()[1:-1]
            self.assertFalse(any(terminal.read(0.1) for _ in range(5)))
            self.assertEqual(terminal.lines()[1:-1], still)

    def test_sizes(self):
        with self.shaped("mixed") as (process, _), self.screen(process, "-d", "600") as terminal:
            terminal.wait(lambda lines: "q quit" in lines[23])
            for columns, lines in (200, 50), (40, 10), (81, 16), (80, 15), (41, 40), (300, 20), (80, 24):
                terminal.resize(columns, lines)
                terminal.wait(lambda shown: "THREAD" in "\n".join(shown) and shown[0].endswith("5 threads") and
                              shown[0].startswith("seemalloc top: ") == (columns >= 80) and ("q quit" in shown[-1]) == (lines >= 16) and
                              head_of(shown, columns < 80).keys() >= set(WIDE[:15]))
            for columns, lines in (39, 24), (80, 9), (8, 2), (3, 2):
                terminal.resize(columns, lines)
                terminal.wait(lambda shown: shown[0] and shown[0] == f"window {columns}x{lines}; needs 40x10"[:columns])
            terminal.resize(1, 1)
            terminal.resize(80, 24)
            terminal.wait(lambda shown: "q quit" in shown[23] and "THREAD" in "\n".join(shown))
            terminal.type("q")
            self.assertEqual(terminal.ended(), 0)

    # --- ends

    def test_quitting_restores_the_terminal(self):
        for how, status in ("q", 0), ("\003", 0), (signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP):
            with self.subTest(how=how), self.shaped("load") as (process, _), self.screen(process, "-d", "0.1") as terminal:
                terminal.wait_for("rates over")
                if isinstance(how, str):
                    terminal.type(how)
                else:
                    terminal.process.send_signal(how)
                self.assertEqual(terminal.ended(), status)
                self.assertTrue(terminal.is_as_it_was())
                self.assertIsNone(process.poll())

    def test_stopped_and_continued_from_a_shell(self):
        env = environment(**self.terminal, PS1="$ ")
        with self.shaped("load") as (process, _), Terminal(["bash", "--norc", "-i"], 80, 24, env) as terminal:
            terminal.wait_for("$")
            terminal.type(f"{TOOL} top {process.pid} -d 0.1\n")
            terminal.wait_for("rates over")
            terminal.type("\032")
            terminal.wait_for("Stopped")
            self.assertEqual(terminal.written.count(b"\033[?1049h"), terminal.written.count(b"\033[?1049l"))
            with open(f"/proc/{process.pid}/status") as file:
                self.assertIn("TracerPid:\t0\n", file.read())
            terminal.type("clear\n")
            terminal.wait(lambda lines: "rates over" not in "\n".join(lines))
            terminal.type("fg\n")
            terminal.wait(lambda lines: "rates over" in lines[1])
            terminal.type("q")
            terminal.type("exit $?\n")
            self.assertEqual(terminal.ended(), 0)

    def test_the_terminal_goes_away(self):
        with self.shaped("load") as (process, _), self.screen(process, "-d", "0.1") as terminal:
            terminal.wait_for("rates over")
            for file in terminal.slave, terminal.master:
                os.close(file)
            terminal.master = terminal.slave = None
            self.assertIn(terminal.process.wait(30), (0, 125, -signal.SIGHUP))

    def test_the_process_ends(self):
        for reaped in False, True:
            with self.subTest(reaped=reaped), self.shaped("load") as (process, _), self.screen(process, "-d", "0.1") as terminal:
                terminal.wait_for("THREAD")
                process.kill()
                if reaped:
                    process.wait()
                self.assertEqual(terminal.ended(), 0)
                self.assertTrue(terminal.is_as_it_was())
                self.assertIn(b"process %d (subject) has ended" % process.pid, terminal.written)

    def test_it_becomes_another_program(self):
        with self.running("sh", "-c", "echo {}; read x; unset LD_PRELOAD; exec sleep 100", stdin=subprocess.PIPE) as process:
            process.stdout.readline()
            with self.screen(process, "-d", "0.1") as terminal:
                terminal.wait_for("rates over")
                process.stdin.write(b"\n")
                process.stdin.flush()
                self.assertEqual(terminal.ended(), 1)
                self.assertTrue(terminal.is_as_it_was())
                self.assertIn(b"(sleep): it does not run on seemalloc", terminal.written)
        with self.running("sh", "-c", "echo {}; read x; exec sleep 100", stdin=subprocess.PIPE) as process:
            process.stdout.readline()
            with self.screen(process, "-d", "0.2") as terminal:
                terminal.wait_for("rates over")
                process.stdin.write(b"\n")
                process.stdin.flush()
                terminal.wait_for("top: sleep (")

    def test_the_reader_is_killed(self):
        with self.shaped("load") as (process, _):
            for moment in range(10):
                with self.screen(process, "-d", "0.1") as terminal:
                    try:
                        terminal.process.wait(random.Random(moment).uniform(0, 0.2))
                    except subprocess.TimeoutExpired:
                        pass
                with open(f"/proc/{process.pid}/status") as file:
                    self.assertIn("TracerPid:\t0\n", file.read())
                self.assertNotIn(state(process.pid), "tT")

    # --- what can't be read

    def test_nothing_to_be_read(self):
        with self.running("true") as process:
            process.wait()
            with self.screen(process.pid) as terminal:
                self.assertEqual(terminal.ended(), 1)
                self.assertIn(b"there is no process %d" % process.pid, terminal.written)
                self.assertNotIn(b"\033", terminal.written)
            self.refused(1, "there is no process", "top", str(process.pid), "--once")
        with self.running("sleep", "100", library=None) as process, self.screen(process) as terminal:
            self.assertEqual(terminal.ended(), 1)
            self.assertRegex(terminal.written, rb"does not run on seemalloc")
        with self.shaped("pin") as (process, _), self.screen(process, TERM="nosuch") as terminal:
            self.assertEqual(terminal.ended(), 1)
            self.assertIn(b"the terminal's type, 'nosuch', is not known", terminal.written)
        with self.shaped("load") as (process, _):
            thread = max(int(tid) for tid in os.listdir(f"/proc/{process.pid}/task"))
            self.refused(1, "is a thread of process", "top", str(thread))

    def test_traced_by_another(self):
        with self.shaped("pin") as (process, _), self.shaped(str(process.pid), subject=self.compile("tracer", TRACER), library=None) as (_, _), \
                self.screen(process) as terminal:
            terminal.wait_for("read while it ran")
            terminal.wait_for("can't freeze it: process")
            terminal.type("q")
            self.assertEqual(terminal.ended(), 0)

    def test_command_lines(self):
        for message, line in {
            "top: the number of a process is missing": [],
            "'x' is no process": ["x"],
            f"'{LIBRARY}' is a file; expected the number of a running process": [LIBRARY],
            "it takes one process, got '2' too": ["1", "2"],
            "a delay is 0.1 to 3600 seconds, got '0'": ["1", "-d", "0"],
            "a delay is 0.1 to 3600 seconds, got 'nan'": ["1", "-d", "nan"],
            "a delay is 0.1 to 3600 seconds, got '1s'": ["1", "--delay=1s"],
            "'--batch' needs a number from 1 on, got '0'": ["1", "--batch", "0"],
            "option '-b' needs a value": ["1", "-b"],
            "unknown option '--twice'": ["1", "--twice"],
            "unknown option '-x'": ["1", "-x"],
        }.items():
            with self.subTest(line=line):
                self.refused(2, re.escape(message), "top", *line)


main()
