#!/usr/bin/env python3
# bad_recording.py: recordings that are damaged, cut short, of another version or no recordings, and wrong command lines: the message, the status, no crash.
# SPDX-License-Identifier: MIT
import json
import os
import random
import struct

import recordings
from recordings import ALLOC, END, EVENTS, FREE, MODULE, PROCESS, STACK, THREAD, Recording
from tool import ToolTest, main

SEED = os.environ.get("SEEMALLOC_FUZZ_SEED", "1")
ROUNDS = int(os.environ.get("SEEMALLOC_FUZZ_ROUNDS", "150"))
COMMANDS = [["report", "--json"], *(["export", "--format", name] for name in ("pprof", "collapsed", "trace", "heaptrack"))]


class Bad(ToolTest):
    def refuses(self, message, data):
        """Both commands refuse it in the same words."""
        path = self.write("bad.rec", data, 0o644)
        for command in COMMANDS[0], COMMANDS[1]:
            error = self.refused(1, message, command[0], path, *command[1:])
            self.assertEqual(len(error.splitlines()), 1, error)

    def whole(self):
        r = recordings.simple()
        r.end()
        return r

    def changed(self, at, format_, *values):
        data = bytearray(self.whole().bytes())
        struct.pack_into(format_, data, at, *values)
        return bytes(data)

    def test_what_is_no_recording(self):
        for data in b"", b"seemrec", b"seemsnap" + bytes(100), b"\x7fELF" + bytes(100), b"seemrec\r" + bytes(100):
            self.refuses(r"^seemalloc: .*/bad.rec is no recording: it does not begin with \"seemrec\"; `seemalloc run --record FILE` writes one", data)
        for message, path in {"can't open /nowhere/it: No such file": "/nowhere/it", "/ is a directory, a recording was expected": "/",
                              "/dev/null is no regular file": "/dev/null"}.items():
            self.refused(1, message, "report", path, "--json")

    def test_head(self):
        whole = self.whole().bytes()
        self.refuses("the recording is truncated: it has 47 bytes, its head alone has 48", whole[:47])
        self.refuses("the recording is truncated: it has 50 bytes, its head alone has 59", whole[:50])
        self.refuses("it is a recording of version 2, this command reads version 1: use the command that wrote it", self.changed(8, "<I", 2))
        self.refuses("its head has 40 bytes, 11 of them a command line; 48 and that were expected", self.changed(12, "<I", 40))
        self.refuses("its head has 59 bytes, 12 of them", self.changed(44, "<I", 12))
        self.refuses("its head has 4294967295 bytes", self.changed(12, "<I", 2**32 - 1))
        self.refuses("it says that a page has 0 bytes", self.changed(40, "<I", 0))
        self.refuses("it is of samples, but none is taken every 0 bytes", self.changed(16, "<I", 3))

    def test_blocks(self):
        def with_block(*arguments, **changes):
            r = self.whole()
            r.blocks.pop()
            r.block(*arguments, **changes)
            return r.bytes()

        event = struct.pack("<QQQQQIHBB", 0, 16, 1, 1, 1, 0, 0, ALLOC, 0)
        self.refuses("its checksum is wrong", with_block(EVENTS, event, checksum=1))
        self.refuses("it has another size than it says", with_block(EVENTS, event, raw=47))
        self.refuses("it has more than 16 MiB", with_block(EVENTS, event, raw=(16 << 20) + 1))
        self.refuses("zlib can't unpack it", with_block(EVENTS, event, packed=12))
        self.refuses("its records don't fill it", with_block(EVENTS, event[:-1]))
        self.refuses("its records don't fill it", with_block(STACK, struct.pack("<IIQ", 9, 2, 1)))
        self.refuses("its records don't fill it", with_block(STACK, struct.pack("<II", 9, 2**32 - 1)))
        self.refuses("its records don't fill it", with_block(MODULE, struct.pack("<QQQQII", 1, 2, 0, 0, 5, 0) + b"/a"))
        self.refuses("its records don't fill it", with_block(THREAD, bytes(23)))
        self.refuses("its records don't fill it", with_block(PROCESS, bytes(63)))
        self.refuses("its records don't fill it", with_block(END, b""))
        self.refuses(r"block \d+ at byte \d+: it stands behind the last one", self.whole().bytes() + bytes(16))
        self.refuses("it stands behind the last one", self.whole().bytes() + b"x")

    def test_what_does_not_fit_together(self):
        def with_event(kind=ALLOC, mem=16, **more):
            r = recordings.simple()
            r.event(kind, mem, **more)
            r.end()
            return r.bytes()

        self.refuses("an event has the stack 4, which no block before it has", with_event(stack=4))
        self.refuses("an event has the stack 4294967295", with_event(stack=2**32 - 1, kind=FREE))
        self.refuses("an event is of the thread 2, which no block before it names", with_event(thread=2))
        self.refuses("an event is of the thread 65535", with_event(thread=65535))
        self.refuses("an event is of kind 3, expected 1 or 2, or 128 more", with_event(kind=3))
        self.refuses("an event is of kind 128", with_event(kind=128))
        self.refuses("an event is of the address 0", with_event(mem=0))
        for message, make in {
            "a stack has the id 0": lambda r: r.block(STACK, struct.pack("<II", 0, 0)),
            "the stack 2 is there twice": lambda r: r.stack(1, number=2),
            "a module reaches from 0x2000 to 0x2000": lambda r: r.module(0x2000, 0x2000, 0, "/x"),
            "a thread has the id 65536, events have less than 65536": lambda r: r.thread(65536, 1, "x"),
        }.items():
            r = recordings.simple()
            make(r)
            r.end()
            self.refuses("the recording is damaged: " + message, r.bytes())

    def test_blocks_of_another_kind_are_skipped(self):
        r = recordings.simple()
        r.block(17, b"what is to come")
        r.end()
        done = self.tool("report", self.write("newer.rec", r.bytes()), "--json")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(json.loads(done.stdout)["totals"]["allocations"], 19)

    def test_cut_short(self):
        """At every end of a block, and within each: all complete blocks count, and the status is 1."""
        r = recordings.simple(block_events=7)
        r.end()
        data, ends = r.bytes(), [len(r.head)]
        for block in r.blocks:
            ends.append(ends[-1] + len(block))
        self.assertEqual(ends[-1], len(data))
        for end, block in zip(ends, r.blocks):
            for length in end, end + 1, end + 15, end + 16, end + len(block) - 1:
                path = self.write("cut.rec", data[:length], 0o644)
                done = self.tool("report", path, "--json")
                error = done.stderr.decode()
                self.assertEqual(done.returncode, 1, error)
                if length == end:
                    self.assertRegex(error, rf"^seemalloc: the recording was cut short: it has no last block after {ends.index(end)} others; what is there counts\n$")
                else:
                    self.assertRegex(error, rf"^seemalloc: the recording is truncated: {length - end} bytes at its end, from byte {end} on, are no complete block; what is before them counts\n$")
                report = json.loads(done.stdout)
                self.assertIn(report["cut"], error)
                self.assertIsNone(report["status"])
        self.assertEqual(report["totals"]["allocations"], 19)  # all but the last block
        for command in COMMANDS[1:]:
            done = self.tool(command[0], path, *command[1:])
            self.assertEqual(done.returncode, 1)
            self.assertTrue(done.stdout)

    def test_spoilt_bytes(self):
        """Any bytes changed, also in what is compressed: a report, or one line and status 1. fuzz_recording.py does the same in a command with address checks."""
        dice = random.Random(SEED)
        for round_ in range(ROUNDS):
            command = dice.choice(COMMANDS)
            done = self.tool(command[0], self.write("spoilt.rec", recordings.spoil(self.whole(), dice), 0o644), *command[1:])
            self.assertIn(done.returncode, (0, 1), (SEED, round_, command, done.stderr))
            if not done.stdout:
                self.assertRegex(done.stderr, rb"^seemalloc: ", (SEED, round_, command))


class Lines(ToolTest):
    def test_wrong_command_lines(self):
        for message, line in {
            "seemalloc report: the recording is missing": ["report", "--json"],
            "it takes one recording, got 'b' too": ["report", "a", "b", "--json"],
            "where to write is missing: -o NAME.html, or --json": ["report", "a"],
            "seemalloc report: unknown option '--jso-'": ["report", "--jso-", "a"],
            "option '--output' needs a value": ["report", "a", "--output"],
            "seemalloc export: the recording is missing": ["export", "--format", "pprof"],
            "the format is missing: --format pprof, collapsed, trace or heaptrack": ["export", "a"],
            "'svg' is no format: there are pprof, collapsed, trace and heaptrack": ["export", "a", "-f", "svg"],
            "trace has all of it: --live, --peak and --total are for pprof and collapsed": ["export", "a", "-f", "trace", "--peak"],
            "--live, --peak and --total exclude each other": ["export", "a", "-f", "pprof", "--peak", "--live"],
            "--count is for collapsed": ["export", "a", "-f", "pprof", "--count"],
            "option '-f' needs a value": ["export", "a", "-f"],
        }.items():
            self.refused(2, message, *line)


main()
