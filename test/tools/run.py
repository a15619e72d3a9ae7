#!/usr/bin/env python3
# run.py: `seemalloc run` becomes the program: same status, signals, arguments, files and process id; environment extended, not replaced.
# SPDX-License-Identifier: MIT
import os
import signal
import subprocess

from tool import LIBRARY, TOOL, ToolTest, environment, main


def real(path):
    return os.path.realpath(path)


class Run(ToolTest):
    def shell(self, script, *options, env=None):
        return self.tool("run", *options, "--", "sh", "-c", script, env=env)

    def output(self, script, *options, env=None):
        done = self.shell(script, *options, env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode()

    def test_exit_status(self):
        for status in 0, 1, 7, 125, 126, 127, 255:
            self.assertEqual(self.shell(f"exit {status}").returncode, status)

    def test_signals(self):
        for number in signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE:
            self.assertEqual(self.shell(f"ulimit -c 0; kill -{int(number)} $$").returncode, -number)

    def test_process_id(self):
        process = subprocess.Popen([TOOL, "run", "--", "sh", "-c", "echo $$"], env=environment(), stdout=subprocess.PIPE)
        self.assertEqual(int(process.communicate(timeout=50)[0]), process.pid)

    def test_arguments_arrive_as_they_are(self):
        arguments = ["two words", "", "--stats", "-c", "--", "$HOME", "'\"\\", "line\nbreak", "\u00fc"]
        done = self.tool("run", "--", "printf", "%s\\0", *arguments)
        self.assertEqual(done.stdout.decode().split("\0")[:-1], arguments)

    def test_options_end_at_the_program(self):
        done = self.tool("run", "printf", "%s,", "--stats", "--conf")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"--stats,--conf,", b""))

    def test_argument_zero_is_the_name_as_given(self):
        for name in "sh", "/bin/sh":
            self.assertEqual(self.tool("run", "--", name, "-c", "echo $0").stdout.decode().strip(), name)

    def test_standard_input_and_files(self):
        done = subprocess.run([TOOL, "run", "--", "cat"], env=environment(), input=b"through\0", stdout=subprocess.PIPE, timeout=50)
        self.assertEqual(done.stdout, b"through\0")
        listing = ["sh", "-c", "ls /proc/$$/fd"]
        direct = subprocess.run(listing, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(self.tool("run", "--", *listing).stdout, direct.stdout)

    def test_signal_dispositions(self):
        show = ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"]
        direct = subprocess.run(show, env=environment(), stdout=subprocess.PIPE)
        self.assertEqual(self.tool("run", "--", *show).stdout, direct.stdout)

    def test_library_is_in_the_process(self):
        maps = self.tool("run", "--", "cat", "/proc/self/maps").stdout.decode()
        self.assertIn(real(LIBRARY), {line.split(None, 5)[5] for line in maps.splitlines() if line.count(" ") > 5 and "/" in line})

    def test_preload_stands_first_and_keeps_the_rest(self):
        alone = self.output("echo $LD_PRELOAD").strip()
        self.assertEqual(real(alone), real(LIBRARY))
        self.assertTrue(os.path.isabs(alone))
        other = self.compile("libother.so", "int other;", "-shared", "-fPIC")
        for old in other, f"{other} {other}", f"{other}:libm.so.6":
            self.assertEqual(self.output("echo \"$LD_PRELOAD\"", env=environment(LD_PRELOAD=old)).strip(), f"{alone}:{old}")
        self.assertEqual(self.output("echo \"$LD_PRELOAD\"", env=environment(LD_PRELOAD="")).strip(), alone)

    def test_run_in_run_preloads_once(self):
        other = self.compile("libother.so", "int other;", "-shared", "-fPIC")
        env = environment(LD_PRELOAD=other)
        once = self.output("echo $LD_PRELOAD", env=env)
        twice = self.tool("run", "--", TOOL, "run", "--", "sh", "-c", "echo $LD_PRELOAD", env=env).stdout.decode()
        self.assertEqual(twice, once)
        longer = once.strip().split(":")[0] + "x"  # begins with the same letters but is another file
        self.assertEqual(self.output("echo $LD_PRELOAD", env=environment(LD_PRELOAD=longer)).count("libseemalloc"), 2)

    def test_settings(self):
        show = "echo \"${SEEMALLOC_CONF-none}\""
        for expected, old, options in (
            ("none", None, []),
            ("top_pad:1", "top_pad:1", []),
            ("check:0", None, ["--conf", "check:0"]),
            ("check:0,perturb:1", None, ["--conf", "check:0,perturb:1"]),
            ("check:0,perturb:1", None, ["--conf", "check:0", "-c", "perturb:1"]),
            ("check:1", None, ["--conf", "check:0", "--conf=check:1"]),
            ("top_pad:1,check:0", "top_pad:1", ["--conf", "check:0"]),
            ("top_pad:1,check:0", "check:1,top_pad:1,check:2", ["--conf", "check:0"]),
            ("top_pad:1,check:0", ",top_pad:1,,", ["--conf", "check:0"]),
            ("stats:1", None, ["--stats"]),
            ("top_pad:1,check:0,stats:1", "top_pad:1,stats:0", ["--conf", "check:0", "-s"]),
            ("mmap_threshold:1,mmap:2,mmap_max:3", "mmap_threshold:1,mmap:1", ["--conf", "mmap:2,mmap_max:3"]),
        ):
            with self.subTest(old=old, options=options):
                self.assertEqual(self.output(show, *options, env=environment(SEEMALLOC_CONF=old)).strip(), expected)

    def test_settings_reach_the_library(self):
        done = self.tool("run", "--conf", "no_such_setting:1", "--", "true")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"no_such_setting", done.stderr)
        self.assertEqual(self.tool("run", "--conf", "tcache_max:0", "--", "true").stderr, b"")

    def test_stats_say_what_children_inherit(self):
        done = self.tool("run", "--stats", "--conf", "tcache_max:0", "--", self.compile("three", "int main(void) { return 3; }"))
        lines = done.stderr.decode().splitlines()
        self.assertEqual(done.returncode, 3)
        said = [line for line in lines if "inherit" in line]
        self.assertEqual(said, lines[:1])
        self.assertRegex(said[0], "^seemalloc: .*/three runs on /")
        self.assertIn("SEEMALLOC_CONF=tcache_max:0,stats:1", said[0])
        self.assertRegex(said[0], r"LD_PRELOAD=\S*libseemalloc\.so")
        self.assertGreater(len(lines), 5, "the library's statistics follow")

    def test_stats_of_children_too(self):
        child = self.compile("child", "int main(void) { return 0; }")
        parent = self.compile("parent", '#include <stdlib.h>\nint main(int argc, char **argv) { return argc > 1 ? system(argv[1]) : 1; }')
        alone, both = (self.tool("run", "--stats", "--", *line) for line in ([child], [parent, f"exec {child}"]))
        self.assertEqual((alone.returncode, both.returncode), (0, 0))
        count = [len(done.stderr.decode().splitlines()) - 1 for done in (alone, both)]
        self.assertGreater(count[0], 5)
        self.assertGreaterEqual(count[1], 2 * count[0] - 10, both.stderr.decode())

    def test_stats_survive_a_program_that_closes_its_files(self):
        done = self.tool("run", "--stats", "--", "ls", "/")  # closes stdout and stderr before it exits, as all of coreutils do
        self.assertGreater(len(done.stderr.decode().splitlines()), 5)

    def test_without_stats_nothing_is_said(self):
        self.assertEqual(self.tool("run", "--", "true").stderr, b"")


class Path(ToolTest):
    def test_search(self):
        os.makedirs(self.path("one/tool"))  # a folder of that name is passed over
        os.makedirs(self.path("two"))
        os.makedirs(self.path("three"))
        self.write("two/tool", "#!/bin/sh\necho two\n", 0o644)  # so is a file that may not be executed
        self.write("three/tool", "#!/bin/sh\necho three\n")
        path = ":".join(map(self.path, ("nosuch", "one", "two", "three")))
        done = self.tool("run", "--", "tool", env=environment(PATH=path))
        self.assertEqual((done.returncode, done.stdout), (0, b"three\n"), done.stderr)
        self.refused(126, r"two/tool: is not executable .*mode 0644", "run", "--", "tool", env=environment(PATH=path.rsplit(":", 1)[0]))
        self.refused(127, r"seemalloc: tool: not found in PATH", "run", "--", "tool", env=environment(PATH=self.path("one")))
        self.refused(127, r"seemalloc: tool: not found in PATH \(/nosuch\)", "run", "--", "tool", env=environment(PATH="/nosuch"))

    def test_empty_element_is_the_current_folder(self):
        self.write("here", "#!/bin/sh\necho here\n")
        for path in ":/nosuch", "/nosuch:", "/nosuch::/nosuch", "":
            done = self.tool("run", "--", "here", env=environment(PATH=path), cwd=self.folder)
            self.assertEqual((done.returncode, done.stdout), (0, b"here\n"), (path, done.stderr))

    def test_no_path_at_all(self):
        done = self.tool("run", "--", "true", env=environment(PATH=None))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_slash_means_no_search(self):
        self.write("local", "#!/bin/sh\necho \"$0\"\n")
        done = self.tool("run", "--", "./local", cwd=self.folder)
        self.assertEqual(done.stdout, b"./local\n")
        self.refused(127, r"bin/true: not found", "run", "--", "bin/true", cwd=self.folder)

    def test_empty_name(self):
        self.refused(127, "the program's name is empty", "run", "--", "")


class Script(ToolTest):
    def runs(self, name, text, expected, **more):
        path = self.write(name, text)
        done = self.tool("run", "--", path, "a b", **more)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, expected), done.stderr)

    def test_interpreters(self):
        self.runs("plain", "#!/bin/sh\necho \"$1\"\n", "a b\n")
        self.runs("blank", "#! \t/bin/sh -e\necho \"$1\"\n", "a b\n")
        self.runs("env", "#!/usr/bin/env sh\necho \"$1\"\n", "a b\n")
        self.runs("split", "#!/usr/bin/env -S A=1 sh -e\necho \"$1$A\"\n", "a b1\n")
        outer = self.write("outer", "#!/bin/sh\necho \"outer ${2}\"\n")
        self.runs("inner", f"#!{outer}\n", "outer a b\n")

    def test_text_without_an_interpreter_goes_to_the_shell(self):
        self.runs("bare", "echo \"$1\"\n", "a b\n")
        self.runs("empty", "", "")


main()
