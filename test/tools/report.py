#!/usr/bin/env python3
# report.py: `seemalloc report --json` and `seemalloc export` of recordings of known contents: every sum, every format, and what is not in order.
# SPDX-License-Identifier: MIT
import gzip
import json
import os
import re
import shutil
import subprocess
import unittest

import recordings
from recordings import EVENTS, MS, SAMPLED, STACKS, Recording
from tool import CC, ToolTest, environment, main


class RecordedTest(ToolTest):
    def recorded(self, recording, name="it"):
        return self.write(name + ".rec", recording.bytes(), 0o644)

    def done(self, *arguments, status=0, warns=None):
        done = self.tool(*arguments)
        error = done.stderr.decode()
        self.assertEqual(done.returncode, status, error)
        if warns is None:
            self.assertEqual(error, "")
        else:
            self.assertRegex(error, warns)
        return done.stdout

    def report(self, recording, **more):
        return json.loads(self.done("report", self.recorded(recording), "--json", **more))

    def whole(self, **more):
        recording = recordings.simple(**more)
        recording.end()
        return recording


# Columns of a site (docs/json.md).
NODE, COUNT, BYTES, USABLE, LIVE_COUNT, LIVE, PEAK_COUNT, PEAK, TEMPORARY, TEMPORARY_BYTES, SMALLEST, LARGEST, GONE, LIFETIME = range(14)


def names(report, site):
    """Functions of a site's stack, innermost first."""
    found, node = [], site[NODE]
    while node != 0:
        parent, frame = report["nodes"][node]
        found.append(report["texts"][report["frames"][frame][0]])
        node = parent
    return found


class Sums(RecordedTest):
    def test_all(self):
        report = self.report(self.whole())
        self.assertEqual(report["command"], ["program", "-x"])
        self.assertEqual((report["pid"], report["begun"], report["duration"]), (4711, 1_700_000_000_000, 60 * MS))
        self.assertEqual((report["cut"], report["status"], report["dropped"], report["events"]), (None, 0, 0, 32))
        totals = report["totals"]
        self.assertEqual((totals["allocations"], totals["bytes"], totals["moved"]), (19, 1000 + 1320 + 14000, 1))
        self.assertEqual((totals["live"], totals["live_bytes"]), (6, 600))
        self.assertEqual((totals["peak"], totals["peak_bytes"], totals["peak_time"]), (13, 12000, 25 * MS))
        # by thread: the five of 64 bytes, the one of 1000 (its thread did nothing else in between), and what realloc moved
        self.assertEqual((totals["temporary"], totals["temporary_bytes"]), (7, 5 * 64 + 1000 + 4000))
        self.assertEqual(totals["usable"], 10 * 104 + 1000 + 5 * 72 + 2 * 4008 + 6008)
        self.assertEqual((totals["smallest"], totals["largest"]), (64, 6000))
        lifetimes = [10, 14, 3, 10] + 5 * [0] + [50 - i for i in range(1, 5)]
        self.assertEqual(totals["lifetime"], sum(lifetimes) * MS // 13)

    def test_sites_threads_sizes(self):
        report = self.report(self.whole())
        sites = {names(report, site)[0][-4:]: site for site in report["sites"]}
        a, b, c = sites["1110"], sites["1120"], sites["1130"]
        self.assertEqual(names(report, a), ["/nowhere/program+0x1110", "/nowhere/program+0x1100"])
        self.assertEqual(names(report, c), ["/nowhere/program+0x1130", "0x7f0000000130"])
        self.assertEqual(a[1:10], [10, 1000, 1040, 6, 600, 10, 1000, 0, 0])
        self.assertEqual(b[1:10], [6, 1320, 1360, 0, 0, 1, 1000, 6, 1320])
        self.assertEqual(c[1:12], [3, 14000, 14024, 0, 0, 2, 10000, 1, 4000, 4000, 6000])
        sizes = {(site, bucket): (count, size) for site, bucket, count, size in report["sizes"]}
        index = report["sites"].index(b)
        self.assertEqual({key[1]: value for key, value in sizes.items() if key[0] == index}, {9: (5, 320), 24: (1, 1000)})  # from 64, from 896
        threads = {thread["name"]: thread for thread in report["threads"]}
        self.assertEqual((threads["main"]["allocations"], threads["main"]["live_bytes"], threads["main"]["temporary"]), (16, 600, 6))
        self.assertEqual((threads["worker"]["tid"], threads["worker"]["peak_bytes"], threads["worker"]["bytes"]), (4712, 10000, 14000))

    def test_course(self):
        report = self.report(self.whole())
        width, moments = report["moment_width"], report["moments"]
        self.assertEqual(max(moment[0] for moment in moments), 12000)
        self.assertEqual(moments[-1][1], 600)
        self.assertEqual(sum(moment[2] for moment in moments), 19)
        self.assertEqual(sum(moment[3] for moment in moments), 13)
        self.assertEqual(moments[25 * MS // width][1], 12000)
        self.assertEqual(moments[15 * MS // width][:4], [1000, 1000, 0, 0])  # nothing happens, and all stays
        self.assertEqual(report["process"][0], [15 * MS, 1 << 20, 1 << 19, 1 << 18, 1 << 17, 1 << 16, 100, 1])

    def test_a_long_one_is_thinned(self):
        r = Recording()
        r.thread(0, 1, "main")
        for i in range(10000):
            r.time = i * 1000 * MS
            r.alloc(16 * (i + 1), 10)
            if i % 10 == 0:
                r.process(r.time, i)
        r.end()
        report = self.report(r)
        self.assertLessEqual(len(report["moments"]), 2048)
        self.assertGreater(len(report["moments"]), 512)
        self.assertEqual(sum(moment[2] for moment in report["moments"]), 10000)
        self.assertEqual([moment[0] for moment in report["moments"]], sorted(moment[0] for moment in report["moments"]))
        self.assertEqual((report["moments"][-1][1], len(report["process"])), (100000, 1000))

    def test_samples(self):
        """Weights stand for bytes; a weight over a size is the number of blocks."""
        r = Recording(flags=STACKS | SAMPLED, sample_mean=1000)
        r.thread(0, 1, "main")
        stack = r.stack(0x1000)
        r.event(recordings.ALLOC, 0x10, 100, 200, 1050, stack)
        r.event(recordings.ALLOC, 0x20, 5000, 5000, 5000, stack)
        r.event(recordings.ALLOC, 0x30, 100, 200, 1050, stack)
        r.free(0x30)
        r.end()
        report = self.report(r)
        self.assertEqual(report["sample_mean"], 1000)
        totals = report["totals"]
        self.assertEqual((totals["allocations"], totals["bytes"], totals["usable"]), (22, 7100, 9200))  # 10.5 + 10.5 + 1
        self.assertEqual((totals["live"], totals["live_bytes"]), (12, 6050))  # 11.5
        self.assertEqual(totals["temporary"], 0)  # nobody knows

    def test_without_stacks(self):
        r = Recording(flags=0)
        r.thread(0, 1, "main")
        r.alloc(16, 100)
        r.end()
        report = self.report(r)
        self.assertFalse(report["has_stacks"])
        self.assertEqual((len(report["sites"]), report["sites"][0][NODE], report["sites"][0][LIVE]), (1, 0, 100))

    def test_empty(self):
        r = Recording()
        r.end()
        report = self.report(r)
        self.assertEqual((report["totals"]["allocations"], report["sites"], report["moments"]), (0, [], []))


class OutOfOrder(RecordedTest):
    """What is late or lost: no block is gone twice, and none lives on that was freed."""

    def events(self, play, **more):
        r = Recording(flags=0)
        r.thread(0, 1, "main")
        r.thread(1, 2, "other")
        play(r)
        r.end(**more)
        return self.report(r)

    def totals(self, play):
        totals = self.events(play)["totals"]
        return totals["allocations"], totals["live_bytes"], totals["peak_bytes"]

    def test_late_free(self):
        def play(r):
            r.alloc(16, 100, time=10)
            r.alloc(16, 200, time=30, thread=1)  # the address again
            r.free(16, time=20)  # of the first
        self.assertEqual(self.totals(play), (2, 200, 200))

    def test_late_alloc(self):
        def play(r):
            r.free(16, time=20)
            r.alloc(16, 100, time=10, thread=1)
        self.assertEqual(self.totals(play), (1, 0, 0))

    def test_late_pair_before_the_next(self):
        def play(r):
            r.alloc(16, 200, time=30)
            r.alloc(16, 100, time=10, thread=1)
            r.free(16, time=20, thread=1)
        self.assertEqual(self.totals(play), (2, 200, 200))

    def test_lost_free(self):
        def play(r):
            r.alloc(16, 100, time=10)
            r.alloc(16, 50, time=20)
        report = self.events(play)
        self.assertEqual((report["lost_frees"], report["totals"]["live_bytes"], report["totals"]["live"]), (1, 50, 1))

    def test_unknown_free(self):
        def play(r):
            r.free(16, time=10)
            r.realloc(32, 32, 100)  # in place, of a block that is older than the recording
            r.free(32, time=20)
            r.realloc(48, 64, 100)
        report = self.events(play)
        self.assertEqual((report["unknown_frees"], report["totals"]["live_bytes"], report["totals"]["allocations"]), (3, 100, 2))

    def test_same_moment(self):
        def play(r):
            for _ in range(3):
                r.alloc(16, 100, time=10)
                r.free(16, time=10)
        self.assertEqual(self.totals(play), (3, 0, 100))

    def test_temporary_is_by_thread(self):
        def play(r):
            r.alloc(16, 1)
            r.alloc(32, 1, thread=1)
            r.free(16)  # temporary: the thread did nothing else
            r.free(32)  # not: another thread
        self.assertEqual(self.events(play)["totals"]["temporary"], 1)

    def test_dropped(self):
        r = Recording()
        r.end(dropped=7, late=3, forked=2, status=9)
        report = self.report(r, warns=r"^seemalloc: 7 events found no room")
        self.assertEqual((report["dropped"], report["late"], report["forked"], report["status"]), (7, 3, 2, 9))


PROGRAM = """
#include <stdlib.h>
static void *volatile keep;
static inline __attribute__((always_inline)) void inner(void) { keep = malloc(1); }
__attribute__((noinline, noclone)) void outer(void) {
    inner();
}
int main(void) { outer(); return 0; }
"""


class Symbols(RecordedTest):
    """Names, lines and inlined functions of a program made on the spot; its call of malloc is found by objdump."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = cls.compile("program", PROGRAM, "-g", "-no-pie")
        symbols = subprocess.run(["nm", cls.program], stdout=subprocess.PIPE, text=True, check=True).stdout
        cls.outer = int(re.search(r"^([0-9a-f]+) T outer$", symbols, re.M)[1], 16)
        code = subprocess.run(["objdump", "-d", "--disassemble=outer", cls.program], stdout=subprocess.PIPE, text=True, check=True).stdout
        calls = code.splitlines()
        at = next(i for i, line in enumerate(calls) if "malloc" in line and "call" in line)
        cls.back = int(calls[at + 1].split(":")[0], 16)
        headers = subprocess.run(["readelf", "-lW", cls.program], stdout=subprocess.PIPE, text=True, check=True).stdout
        load = re.search(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ R E", headers)
        cls.offset, cls.start, cls.size = (int(load[i], 16) for i in (1, 2, 3))
        notes = subprocess.run(["readelf", "-n", cls.program], stdout=subprocess.PIPE, text=True, check=True).stdout
        found = re.search(r"Build ID: ([0-9a-f]+)", notes)
        cls.build_id = bytes.fromhex(found[1]) if found else b""

    def recording(self, path=None, build_id=None, moved=0x10000000):
        """As if the program had been loaded `moved` bytes higher."""
        r = Recording()
        r.thread(0, 1, "main")
        r.module(self.start + moved, self.start + self.size + moved, self.offset, path or self.program, self.build_id if build_id is None else build_id)
        stack = r.stack(self.back + moved)
        r.alloc(16, 100, stack=stack)
        r.end()
        return r

    def setUp(self):
        if b"libdw" not in subprocess.run(["ldd", os.environ["SEEMALLOC_BIN"]], stdout=subprocess.PIPE, check=True).stdout:
            self.skipTest("built without libdw")

    def test_inlined(self):
        report = self.report(self.recording())
        frames = [(report["texts"][text], report["texts"][file], line, inlined) for text, file, line, _, inlined, _ in report["frames"]]
        (inner, outer) = sorted(frames)
        self.assertEqual((inner[0], inner[2], inner[3]), ("inner", 4, 1))
        self.assertEqual((outer[0], outer[2], outer[3]), ("outer", 6, 0))
        self.assertEqual(names(report, report["sites"][0]), ["inner", "outer"])
        self.assertEqual(report["modules"][0]["symbols"], "found")
        self.assertEqual(self.done("export", self.recorded(self.recording()), "--format", "collapsed"), b"outer;inner 100\n")

    def test_another_file(self):
        if not self.build_id:
            self.skipTest("the compiler gives no build ids")
        report = self.report(self.recording(build_id=b"\1" * 20), warns=r"program is another file than the one that ran \(its build id differs\)")
        self.assertEqual(report["modules"][0]["symbols"], "other file")
        self.assertEqual(names(report, report["sites"][0]), [f"{self.program}+0x{self.back - self.start + self.offset:x}"])

    def test_no_file(self):
        for path in "/nowhere/at/all", "[vdso]", "/dev/zero", self.folder, self.write("text", "no program"):
            report = self.report(self.recording(path=path))
            self.assertEqual(names(report, report["sites"][0]), [f"{path}+0x{self.back - self.start + self.offset:x}"])
            self.assertEqual(report["modules"][0]["symbols"], "no file")

    def test_a_later_module_takes_the_place(self):
        r = Recording()
        r.thread(0, 1, "main")
        r.module(0x1000, 0x3000, 0, "/first", time=0)
        r.module(0x2000, 0x3000, 0, "/second", time=10)
        early, late = r.stack(0x2500), r.stack(0x2500, 0x1500)
        r.alloc(16, 1, stack=early, time=5)
        r.alloc(32, 2, stack=late, time=15)
        r.end()
        text = self.done("export", self.recorded(r), "--format", "collapsed").decode()
        self.assertEqual(text, "/first+0x1500 1\n/first+0x500;/second+0x500 2\n")


def message(data):
    """A protobuf message as {field: [values]}; numbers, or bytes."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            value = number()
        else:
            assert tag & 7 == 2, "the message has only numbers and bytes"
            length = number()
            value, at = data[at : at + length], at + length
            assert len(value) == length
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def numbers(data):
    return message(b"".join(b"\x08" + bytes([byte]) if i == 0 or data[i - 1] < 128 else bytes([byte]) for i, byte in enumerate(data))).get(1, [])


class Help(ToolTest):
    def test_help(self):
        for command, words in ("report", ["--output", "--json", "The status is 0"]), ("export", ["pprof", "collapsed", "trace", "heaptrack", "--peak", "--count", "The status is 0"]):
            texts = {self.tool(*way).stdout.decode() for way in ([command, "--help"], [command, "-h"], ["help", command])}
            self.assertEqual(len(texts), 1)
            text = texts.pop()
            self.assertTrue(text.startswith(f"Usage: seemalloc {command} FILE"))
            for word in words:
                self.assertIn(word, text)
            self.assertLessEqual(max(map(len, text.splitlines())), 140)
            self.assertIn(f"\n  {command} ", self.tool("help").stdout.decode())


class Exports(RecordedTest):
    def export(self, format_, *options, recording=None):
        return self.done("export", self.recorded(recording or self.whole()), "--format", format_, *options)

    def test_collapsed(self):
        a, b, c = (f"/nowhere/program+0x1100;/nowhere/program+0x11{n}0" for n in (1, 2, 3))
        c = "0x7f0000000130;/nowhere/program+0x1130"
        for options, expected in {
            (): f"{a} 600\n", ("--live",): f"{a} 600\n", ("--peak",): f"{a} 1000\n{b} 1000\n{c} 10000\n", ("--total",): f"{a} 1000\n{b} 1320\n{c} 14000\n",
            ("--total", "--count"): f"{a} 10\n{b} 6\n{c} 3\n", ("-p", "-c"): f"{a} 10\n{b} 1\n{c} 2\n",
        }.items():
            self.assertEqual(self.export("collapsed", *options).decode(), expected, options)

    def test_collapsed_without_stacks(self):
        r = Recording(flags=0)
        r.thread(0, 1, "main")
        r.alloc(16, 100)
        r.end()
        self.assertEqual(self.export("collapsed", recording=r), b"(no stack) 100\n")

    def test_pprof(self):
        for option, in_use in ("--live", {"1110": (6, 600), "1120": (0, 0), "1130": (0, 0)}), ("--peak", {"1110": (10, 1000), "1120": (1, 1000), "1130": (2, 10000)}):
            profile = message(gzip.decompress(self.export("pprof", option)))
            texts = [text.decode() for text in profile[6]]
            self.assertEqual(texts[0], "")
            types = [tuple(texts[message(type_)[i][0]] for i in (1, 2)) for type_ in profile[1]]
            self.assertEqual(types, [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")])
            functions = {message(function)[1][0]: texts[message(function)[2][0]] for function in profile[5]}
            locations = {}
            for location in map(message, profile[4]):
                locations[location[1][0]] = (functions[message(location[4][0])[1][0]], location.get(3, [0])[0], location.get(2, [0])[0])
            mapping = message(profile[3][0])
            self.assertEqual([mapping[i][0] for i in (1, 2, 3, 4)], [1, 0x400000, 0x401000, 0x1000])
            self.assertEqual(texts[mapping[5][0]], "/nowhere/program")
            found = {}
            for sample in map(message, profile[2]):
                places = [locations[i] for i in numbers(sample[1][0])]
                found[places[0][0][-4:]] = numbers(sample[2][0])
                self.assertEqual(len(places), 2)
                self.assertEqual(places[0][1:], (0x3FF000 + int(places[0][0][-4:], 16) - 1, 1))
            total = {"1110": (10, 1000), "1120": (6, 1320), "1130": (3, 14000)}
            self.assertEqual(found, {name: [*total[name], *in_use[name]] for name in total})
            self.assertEqual((profile[9][0], profile[10][0]), (1_700_000_000 * 10**9, 60 * MS))

    @unittest.skipUnless(shutil.which("go"), "go is missing (Debian package golang-go)")
    def test_pprof_is_read_by_go(self):
        path = self.path("it.pb.gz")
        self.done("export", self.recorded(self.whole()), "--format", "pprof", "-o", path)
        env = environment(HOME=self.folder, PPROF_TMPDIR=self.folder)
        for index, expected in ("alloc_space", "14000B"), ("inuse_space", "600B"), ("alloc_objects", "10"):
            done = subprocess.run(["go", "tool", "pprof", "-top", f"-sample_index={index}", path], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, rf"(?m)^ +{expected} +\d+.* /nowhere/program\+0x11[13]0$")

    def test_trace(self):
        trace = json.loads(self.export("trace"))
        events = trace["traceEvents"]
        for event in events:
            self.assertIn(event["ph"], "MC")
            self.assertEqual(event["pid"], 4711)
            self.assertIsInstance(event["args"], dict)
            if event["ph"] == "C":
                self.assertTrue(0 <= event["ts"] <= 60000 and all(isinstance(value, int) for value in event["args"].values()), event)
        names_ = [event["args"]["name"] for event in events if event["ph"] == "M"]
        self.assertEqual(names_, ["program", "main", "worker"])
        in_use = [event["args"]["bytes"] for event in events if event["name"] == "in use"]
        self.assertEqual((max(in_use), in_use[-1]), (12000, 600))
        worker = [event["args"]["bytes"] for event in events if event["name"] == "in use, allocated by worker (4712)"]
        self.assertEqual((max(worker), worker[-1]), (10000, 0))
        rates = [event["args"] for event in events if event["name"] == "events"]
        self.assertEqual((sum(rate["allocations"] for rate in rates), sum(rate["frees"] for rate in rates)), (19, 13))
        self.assertEqual([event["args"] for event in events if event["name"] == "resident"], [{"bytes": 1 << 20}, {"bytes": 2 << 20}])
        self.assertEqual([event["ts"] for event in events if event["name"] == "allocator"], [15000, 26000])

    @unittest.skipUnless(shutil.which("heaptrack_print"), "heaptrack_print is missing (Debian package heaptrack)")
    def test_heaptrack(self):
        path = self.path("it.gz")
        self.done("export", self.recorded(self.whole()), "--format", "heaptrack", "-o", path)
        done = subprocess.run(["heaptrack_print", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        # heaptrack knows no threads: the block of 1000 is followed by another thread's, and so not temporary
        for line in "Debuggee command was: program -x", "calls to allocation functions: 19 ", "temporary memory allocations: 6 ", "peak heap memory consumption: 12.00K", \
                    "peak RSS (including heaptrack overhead): 2.10M", "total memory leaked: 600B":
            self.assertIn(line, done.stdout)

    def test_heaptrack_of_samples(self):
        r = Recording(flags=STACKS | SAMPLED, sample_mean=1000)
        r.thread(0, 1, "main")
        r.event(recordings.ALLOC, 0x10, 100, 200, 1050)
        r.end()
        out = self.done("export", self.recorded(r), "--format", "heaptrack", warns="of samples: bytes are estimates, and each sample is written as one")
        self.assertIn(b"\na 41a 0\n+ 1\n", gzip.decompress(out))

    def test_output(self):
        path = self.path("out")
        self.assertEqual(self.done("export", self.recorded(self.whole()), "--format", "collapsed", "-o", path), b"")
        with open(path) as file:
            self.assertRegex(file.read(), "^/nowhere.* 600\n$")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        before = set(os.listdir(self.folder))
        self.refused(1, "can't write /dev/full: No space left", "export", self.recorded(self.whole()), "-f", "heaptrack", "-o", "/dev/full")
        self.refused(1, "can't write /nowhere/file: No such file", "report", self.recorded(self.whole()), "-o", "/nowhere/file")
        self.assertEqual(set(os.listdir(self.folder)), before)


main()
