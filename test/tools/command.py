#!/usr/bin/env python3
# command.py: the command's own words: help, version, wrong command lines, output that can't be written.
# SPDX-License-Identifier: MIT
import os
import re

from tool import TOOL, ToolTest, main


INSIDE = ["stats", "pins", "map", "bins", "arenas", "threads", "chunk", "explain", "try-malloc", "top"]


class Words(ToolTest):
    def test_version_is_the_headers(self):
        with open(os.path.join(os.environ["SOURCE_DIR"], "include", "seemalloc.h")) as header:
            text = header.read()
        version = ".".join(re.search(rf"VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))
        for option in "--version", "-V":
            done = self.tool(option)
            self.assertEqual((done.returncode, done.stdout.decode(), done.stderr), (0, f"seemalloc {version}\n", b""))

    def test_help_is_the_same_by_every_way(self):
        for ways in ([["--help"], ["-h"], ["help"], ["help", "help"]], [["run", "--help"], ["run", "-h"], ["help", "run"]],
                     [["story", "--help"], ["story", "-h"], ["help", "story"]],
                     *([[name, "--help"], [name, "-h"], ["help", name]] for name in INSIDE)):
            texts = set()
            for way in ways:
                done = self.tool(*way)
                self.assertEqual((done.returncode, done.stderr), (0, b""), way)
                texts.add(done.stdout)
            self.assertEqual(len(texts), 1, ways)
            self.assertTrue(texts.pop().startswith(b"Usage: seemalloc "))

    def test_help_names_commands_options_and_statuses(self):
        top, run, story = (self.tool("help", *what).stdout.decode() for what in ([], ["run"], ["story"]))
        for text, words in (top, ["run", "story", *INSIDE, "help", "--version"]), (run, ["--stats", "--conf", "SEEMALLOC_LIBRARY", "125", "126", "127"]), \
                           (story, ["--svg", "--json", "NO_COLOR"]):
            for word in words:
                self.assertIn(word, text)

    def test_help_has_lines_that_fit(self):
        for what in [], ["run"], ["story"], *([name] for name in INSIDE):
            for line in self.tool("help", *what).stdout.decode().splitlines():
                self.assertLessEqual(len(line), 140, line)

    def test_wrong_command_lines(self):
        for message, line in {
            "a command is missing": [],
            "no command 'walk'": ["walk"],
            "unknown option '--walk'": ["--walk"],
            "unknown option '-x'": ["-x"],
            "no command 'nosuch'": ["help", "nosuch"],
            "help takes one command, got 'story' too": ["help", "run", "story"],
            "seemalloc run: the program is missing": ["run"],
            "the program is missing": ["run", "--stats", "--"],
            "unknown option '--stat-'": ["run", "--stat-", "true"],
            "unknown option '-q'": ["run", "-q", "true"],
            "unknown option '-z'": ["run", "-sz", "true"],
            "unknown option '--stats=1'": ["run", "--stats=1", "true"],
            "option '--conf' needs a value": ["run", "--conf"],
            "option '-c' needs a value": ["run", "-c"],
            "option '--svg' needs a value": ["story", "--svg"],
            "seemalloc story: unknown option '--png'": ["story", "--png"],
            "it takes no argument, got 'now'": ["story", "now"],
        }.items():
            with self.subTest(line=line):
                error = self.refused(2, re.escape(message), *line)
                self.assertIn("--help'.", error)

    def test_wrong_settings(self):
        for message, text in {
            "an empty setting": "",
            "an empty setting in 'a:1,,b:2'": "a:1,,b:2",
            "an empty setting in 'a:1,'": "a:1,",
            "'stats' is no setting": "stats",
            "'stats:' is no setting": "stats:",
            "':1' is no setting": ":1",
            "'Stats:1' is no setting": "Stats:1",
            "'stats=1' is no setting": "stats=1",
            "'a:1 b:2' holds a blank or a second colon": "a:1 b:2",
            "'a:1:2' holds a blank or a second colon": "a:1:2",
        }.items():
            with self.subTest(text=text):
                self.refused(2, "--conf: .*" + re.escape(message), "run", "--conf", text, "--", "true")
                self.refused(2, "--conf: .*" + re.escape(message), "run", f"--conf={text}", "--", "true")

    def test_lost_output_is_a_failure(self):
        for line in ["--help"], ["--version"], ["story", "--json"]:
            with open("/dev/full", "wb") as full:
                import subprocess
                done = subprocess.run([TOOL, *line], stdout=full, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 125, line)
            self.assertIn(b"can't write the output: No space left on device", done.stderr)


main()
