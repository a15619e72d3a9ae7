#!/usr/bin/env python3
# record.py: `seemalloc run --record`: what is in the file is what the program did, however it ends, and the program notices nothing.
# SPDX-License-Identifier: MIT
import collections
import math
import os
import re
import signal
import subprocess
import time

from recording import ALLOC, FREE, MOVED, Recording
from tool import LIBRARY, TOOL, ToolTest, environment, main

PROGRAM = os.path.join(os.environ["BUILD_DIR"], "test/tools/tools_recorded")
TRACE_LIBRARY = os.path.join(os.environ["BUILD_DIR"], "libseemalloc_trace.so")
MARK = 77777


class RecordTest(ToolTest):
    def record(self, *line, options=(), status=0, program=PROGRAM, quiet=True):
        """Runs the program and returns what was recorded and what it printed."""
        file = self.path("file")
        done = self.tool("run", "--record", file, *options, "--", program, *map(str, line))
        self.assertEqual(done.returncode, status, done.stderr)
        if quiet:
            self.assertEqual(done.stderr, b"")
        recording = Recording(file)
        self.assertIsNotNone(recording.end)
        self.assertEqual(recording.end.events, len(recording.events))
        times = [event.time for event in recording.events]
        if recording.end.late == 0:
            self.assertEqual(times, sorted(times))
        return recording, done.stdout.decode()

    def between_marks(self, events):
        marks = [i for i, event in enumerate(events) if event.bytes == MARK]
        self.assertEqual(len(marks), 2)
        return events[marks[0] + 2:marks[1]]  # the first mark's FREE follows it

    def check_pairs(self, events):
        """Every FREE is of a live block, and no ALLOC of one."""
        live = {}
        for event in events:
            if event.kind & ALLOC:
                self.assertFalse(event.mem in live, event)
                live[event.mem] = event
            else:
                self.assertTrue(event.mem in live, event)
                del live[event.mem]
        return live


class Events(RecordTest):
    def test_sequence(self):
        recording, out = self.record("sequence")
        expected = []
        for line in out.splitlines():
            kind, *numbers = line.split()
            expected.append(((ALLOC if kind[0] == "a" else FREE) | (MOVED if kind[1:] else 0), *map(int, numbers)))
        self.assertGreater(len(expected), 30)
        self.assertEqual([(e.kind, e.mem, e.bytes, e.usable) for e in self.between_marks(recording.events)], expected)
        self.assertEqual({(e.weight == e.bytes, e.stack, e.thread) for e in recording.events}, {(True, 0, 1)})
        self.assertEqual((recording.flags, recording.mean, recording.end.status, recording.end.dropped, recording.end.forked), (0, 0, 0, 0, 0))
        self.check_pairs(recording.events)

    def test_head_threads_modules(self):
        before = time.time()
        recording, _ = self.record("return", 3, status=3)
        self.assertEqual([word.decode() for word in recording.command], [PROGRAM, "return", "3"])
        self.assertTrue(before - 1 < recording.begun / 1e9 < time.time() + 1)
        self.assertEqual(recording.page, os.sysconf("SC_PAGESIZE"))
        self.assertEqual(recording.threads, {1: (recording.pid, "tools_recorded")})
        self.assertEqual(recording.end.status, 3 << 8)
        modules = {os.path.basename(module.path): module for module in recording.modules}
        for name in os.path.basename(PROGRAM), "libc.so.6", "libseemalloc_trace.so.1.0.0":
            notes = subprocess.run(["readelf", "-n", modules[name].path], stdout=subprocess.PIPE, check=True).stdout.decode()
            found = re.search("Build ID: ([0-9a-f]+)", notes)
            self.assertEqual(modules[name].build_id, found.group(1) if found else "")

    def test_rights_of_the_file(self):
        self.record("return")
        self.assertEqual(os.stat(self.path("file")).st_mode & 0o777, 0o600)

    def test_threads(self):
        rounds = 30000
        recording, _ = self.record("threads", rounds, quiet=False)
        if recording.end.dropped == 0:
            self.check_pairs(recording.events)
        names = {name: number for number, (_, name) in recording.threads.items()}
        of_threads = [event for event in recording.events if recording.threads[event.thread][1].startswith("hands-")]
        self.assertEqual(len([name for name in names if name.startswith("hands-")]), 8)
        self.assertEqual(len({tid for tid, _ in recording.threads.values()}), len(recording.threads))
        allocs = sum(event.kind == ALLOC for event in of_threads)
        self.assertLessEqual(8 * rounds, allocs + recording.end.dropped)
        if recording.end.dropped == 0:
            self.assertLessEqual(allocs, 8 * rounds + 8 * 20)

    def test_short_threads(self):
        recording, _ = self.record("short-threads", 1000)
        marks = [event for event in recording.events if event.bytes == MARK]
        self.assertEqual((len(marks), len({event.thread for event in marks})), (1000, 1000))
        self.check_pairs(recording.events)
        self.assertEqual(recording.end.dropped, 0)

    def test_more_threads_than_rings(self):
        recording, _ = self.record("many-threads", 300, quiet=False)
        marks = sum(event.bytes == MARK for event in recording.events)
        self.assertLess(marks, 300)
        self.assertGreater(marks, 200)
        self.assertGreaterEqual(recording.end.dropped, 2 * (300 - marks))

    def test_process(self):
        recording, _ = self.record("-c", "import time; x = b'x' * (50 << 20); time.sleep(0.5)", program="python3", quiet=False)
        self.assertGreater(len(recording.processes), 2)
        self.assertGreater(max(process.resident for process in recording.processes), 40 << 20)
        self.assertGreater(recording.processes[-1].minor_faults, 1000)
        times = [process.time for process in recording.processes]
        self.assertEqual(times, sorted(times))


class Overflow(RecordTest):
    def test_full_ring_drops_and_counts(self):
        """The command is stopped: the program goes on and ends; what found no room is counted."""
        file, count = self.path("file"), 3000000
        with subprocess.Popen([TOOL, "run", "--record", file, "--", "sh", "-c", f"echo $$; read x; exec {PROGRAM} pairs {count}"], env=environment(),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
            pid = int(command.stdout.readline())
            os.kill(command.pid, signal.SIGSTOP)
            command.stdin.write(b"\n")
            command.stdin.flush()
            self.wait_for_zombie(pid)
            os.kill(command.pid, signal.SIGCONT)
            error = command.communicate(timeout=50)[1].decode()
            self.assertEqual(command.returncode, 0, error)
        recording = Recording(file)
        self.assertRegex(error, r"[0-9]+ events found no room")
        self.assertGreater(recording.end.dropped, count)
        self.assertGreater(len(recording.events), 100000)
        self.assertTrue(0 <= recording.end.dropped + len(recording.events) - 2 * count < 1000)

    def wait_for_zombie(self, pid):
        limit = time.monotonic() + 40
        while time.monotonic() < limit:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
            time.sleep(0.02)
        self.fail("the program does not end while the command is stopped")


class Ends(RecordTest):
    def test_all_ways_to_end(self):
        for mode, status in ("_exit", 7), ("abort", -signal.SIGABRT), ("kill", -signal.SIGKILL):
            with self.subTest(mode):
                recording, _ = self.record(mode, status=status)
                self.assertEqual(sum(event.bytes == MARK for event in recording.events), 1)
                self.assertEqual(recording.end.status & ~0x80, -status if status < 0 else status << 8)

    def test_fork(self):
        recording, _ = self.record("fork")
        sizes = collections.Counter(event.bytes for event in recording.events)
        self.assertEqual((sizes[MARK], sizes[55555], sizes[66666]), (2, 1000, 0))
        self.assertEqual(recording.end.forked, 1)
        self.check_pairs(recording.events)

    def test_spawned_children_are_counted(self):
        recording, _ = self.record("spawn")
        self.assertEqual(recording.end.forked, 1)

    def test_exec_begins_anew(self):
        recording, _ = self.record("exec", status=5)
        self.assertEqual(sum(event.bytes == MARK for event in recording.events), 1)
        self.assertEqual([word.decode() for word in recording.command], [PROGRAM, "return", "5"])
        self.check_pairs(recording.events)

    def test_program_that_cannot_be_executed(self):
        script = self.write("script", "#!/no/such/interpreter\n")
        self.assertEqual(self.tool("run", "--record", self.path("file"), "--", script).returncode, 127)

    def test_a_program_that_records_nothing(self):
        bare = self.compile("bare", "int main(void) { return 4; }")
        done = self.tool("run", "--record", self.path("file"), "--", "env", "-u", "LD_PRELOAD", "-u", "_SEEMALLOC_RECORDING", bare)
        self.assertEqual(done.returncode, 4)


class Signals(RecordTest):
    def waiting(self, **more):
        command = subprocess.Popen([TOOL, "run", "--record", self.path("file"), "--", PROGRAM, "wait"], env=environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        self.assertEqual(command.stdout.readline(), b"ready\n")
        return command

    def test_passed_on(self):
        for number, status in (signal.SIGUSR1, 9), (signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGINT, -2), (signal.SIGQUIT, -3):
            with self.subTest(number):
                command = self.waiting()
                os.kill(command.pid, number)
                error = command.communicate(timeout=50)[1]
                self.assertEqual(command.returncode, status, error)
                self.assertEqual(Recording(self.path("file")).end.status & 0x7f, max(0, -status))

    def test_stop_and_go_on(self):
        """As a shell does it: the whole process group is stopped, and is told to go on."""
        command = self.waiting(preexec_fn=lambda: os.setpgid(0, 0))
        with open(f"/proc/{command.pid}/task/{command.pid}/children", encoding="utf-8") as file:
            program = int(file.read())
        for _ in range(3):
            os.kill(-command.pid, signal.SIGTSTP)
            pid, status = os.waitpid(command.pid, os.WUNTRACED)
            self.assertTrue(pid == command.pid and os.WIFSTOPPED(status), status)
            with open(f"/proc/{program}/stat", encoding="utf-8") as file:
                self.assertEqual(file.read().rsplit(")", 1)[1].split()[0], "T")
            os.kill(-command.pid, signal.SIGCONT)
            pid, status = os.waitpid(command.pid, os.WCONTINUED)
            self.assertTrue(os.WIFCONTINUED(status), status)
        os.kill(command.pid, signal.SIGUSR1)
        error = command.communicate(timeout=50)[1]
        self.assertEqual(command.returncode, 9, error)

    def test_dispositions_are_the_programs_own(self):
        show = ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"]
        direct = subprocess.run(show, env=environment(), stdout=subprocess.PIPE, check=True)
        self.assertEqual(self.tool("run", "--record", self.path("file"), "--", *show).stdout, direct.stdout)

    def test_no_file_is_left_open_in_the_program(self):
        show = ["sh", "-c", "ls /proc/$$/fd"]
        direct = subprocess.run(show, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        self.assertEqual(self.tool("run", "--record", self.path("file"), "--", *show).stdout, direct.stdout)


class Stacks(RecordTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        names = subprocess.run(["nm", "--defined-only", "-n", PROGRAM], stdout=subprocess.PIPE, check=True).stdout.decode()
        cls.symbols = [(int(line.split()[0], 16), line.split()[2]) for line in names.splitlines() if line.split()[1] in "tT"]

    def names(self, recording, event):
        """Of the functions of the program in a stack, innermost first; the library and others as "?"."""
        found = []
        for address in recording.stacks[event.stack]:
            module = recording.module(address - 1)
            own = module is not None and module.path == PROGRAM
            below = [name for start, name in self.symbols if start < address]  # the program is linked to fixed addresses
            found.append(below[-1] if own else "?")
        return found

    def test_stacks(self):
        for options in ["--stacks"], ["--stacks", "--depth", "64"], ["--stacks=fp"]:
            with self.subTest(options):
                self.check_stacks(options)

    def check_stacks(self, options):
        recording, _ = self.record("stacks", options=options)
        self.assertEqual(recording.flags, 1)
        seen = collections.defaultdict(list)
        for event in recording.events:
            if event.kind == ALLOC and 5001 <= event.bytes <= 5005:
                seen[event.bytes].append(self.names(recording, event))
        self.assertEqual([len(seen[5000 + i]) for i in range(1, 6)], [50, 1, len(seen[5003]), 1, 1])
        for i, names in enumerate(seen[5001]):
            self.assertEqual(names[:i % 5 + 4], ["stack_inner"] + ["stack_middle"] * (i % 5 + 1) + ["stack_outer", "stacks"][:2])
        self.assertEqual(seen[5002][0], ["stack_inner"] + ["stack_middle"] * 63)
        by_tables = options[0] == "--stacks"
        for names in seen[5003]:
            self.assertEqual(names[:4], ["stack_inner", "stack_middle", "stack_outer", "compare"])
            if by_tables:
                self.assertEqual([name for name in names if name != "?"][4:6], ["stacks", "main"])
        self.assertEqual(seen[5004][0][:5], ["stack_inner", "stack_middle", "stack_middle", "stack_outer", "in_handler"])
        if by_tables:
            self.assertEqual([name for name in seen[5004][0] if name != "?"][5:7], ["stacks", "main"])
        self.assertEqual(seen[5005][0][:6], ["stack_inner"] + ["stack_middle"] * 3 + ["stack_outer", "in_thread"])

    def test_depth(self):
        recording, _ = self.record("stacks", options=["--stacks", "--depth", "3"])
        self.assertEqual({len(stack) for stack in recording.stacks.values()} - {1, 2}, {3})
        event = next(event for event in recording.events if event.bytes == 5001)
        self.assertEqual(self.names(recording, event), ["stack_inner", "stack_middle", "stack_outer"])


class Sampling(RecordTest):
    MEAN = 16384

    def deviations(self):
        """Of each size, and of all: the sum of the weights less the true sum, in standard deviations."""
        recording, out = self.record("volume", 30000000, options=["--sample", "16K"])
        self.assertEqual((recording.flags, recording.mean, recording.end.dropped), (2, self.MEAN, 0))
        live, weights, usable, sampled = {}, collections.Counter(), collections.Counter(), collections.Counter()
        for event in recording.events:
            if event.kind & ALLOC:
                self.assertFalse(event.mem in live, event)
                live[event.mem] = event
                expected = event.bytes / -math.expm1(-event.bytes / self.MEAN)
                self.assertLessEqual(abs(event.weight - expected), 0.5001)
                weights[event.bytes] += event.weight
                usable[event.bytes] += event.weight * event.usable / event.bytes
                sampled[event.bytes] += 1
            else:
                self.assertTrue(event.mem in live, "a FREE is of a block that was sampled")
                del live[event.mem]
        found, difference, variance = {}, 0, 0
        sizes = [tuple(map(int, line.split())) for line in out.splitlines()]
        for size, count, truly_usable in sizes:
            self.assertFalse([event for event in live.values() if event.bytes == size], "all were freed")
            chance = -math.expm1(-size / self.MEAN)
            here = max(count * size * size * (1 - chance) / chance, (0.5 * count) ** 2)  # the latter: weights are whole numbers
            found[size] = (weights[size] - count * size) / math.sqrt(here)
            difference += weights[size] - count * size
            variance += here
            self.assertLess(abs(usable[size] - truly_usable) / truly_usable, 0.5)
        found["all"] = difference / math.sqrt(variance)
        return found

    def test_unbiased(self):
        first = self.deviations()
        if max(map(abs, first.values())) > 4:  # by chance once in thousands of runs, but not twice
            second = self.deviations()
            self.assertFalse([size for size in first if abs(first[size]) > 4 and abs(second[size]) > 4], (first, second))

    def test_with_stacks(self):
        recording, _ = self.record("volume", 3000000, options=["--sample", "64K", "--stacks"])
        self.assertEqual(recording.flags, 3)
        self.assertTrue(all(event.stack != 0 for event in recording.events if event.kind & ALLOC))

    def test_threads(self):
        recording, _ = self.record("threads", 30000, options=["--sample", "1K"], quiet=False)
        if recording.end.dropped == 0:
            self.check_pairs(recording.events)


class Normal(ToolTest):
    def test_the_normal_library_has_none_of_it(self):
        names = {}
        for library in LIBRARY, TRACE_LIBRARY:
            symbols = subprocess.run(["nm", library], stdout=subprocess.PIPE, check=True).stdout.decode()
            names[library] = [line.split()[-1] for line in symbols.splitlines() if re.search("trace_|samples_|stacks_|_Unwind", line.split()[-1])]
        self.assertEqual(names[LIBRARY], [])
        self.assertIn("trace_freeing", names[TRACE_LIBRARY])

    def test_both_export_the_same(self):
        exported = [subprocess.run(["nm", "-D", "--defined-only", library], stdout=subprocess.PIPE, check=True).stdout.decode()
                    for library in (LIBRARY, TRACE_LIBRARY)]
        self.assertEqual(*(sorted(line.split()[-1] for line in text.splitlines()) for text in exported))


class Refused(RecordTest):
    def test_file(self):
        for file, message in (self.path("no/such"), "No such file"), (self.folder, "Is a directory"):
            self.refused(125, f"can't write {re.escape(file)}: {message}", "run", "--record", file, "--", "true")

    def test_full_disk(self):
        done = self.tool("run", "--record", "/dev/full", "--", PROGRAM, "pairs", "100000")
        self.assertEqual(done.returncode, 125)
        self.assertRegex(done.stderr.decode(), "can't write /dev/full: No space left on device; the recording ends here, the program goes on")

    def test_options(self):
        file = self.path("file")
        for message, line in {
            "--record: the name of the file is empty": ["--record", ""],
            "option '--record' needs a value": ["--record"],
            "--stacks needs --record FILE": ["--stacks"],
            "--sample needs --record FILE": ["--sample", "512K"],
            "--sample: found 'x', expected a number of bytes": ["--record", file, "--sample", "x"],
            "--sample: found '0', expected": ["--record", file, "--sample", "0"],
            "--stacks: found 'x', expected nothing or =fp": ["--record", file, "--stacks=x"],
            "--depth: found '65', expected a number of frames from 1 to 64": ["--record", file, "--depth", "65"],
        }.items():
            self.refused(2, re.escape(message), "run", *line, *([] if line == ["--record"] else ["true"]))
        self.assertFalse(os.path.exists(file))


main()
