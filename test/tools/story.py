#!/usr/bin/env python3
# story.py: the story's drawings: text on a terminal and elsewhere, SVG that is well-formed, to scale and true to the figures, and what happens when
# the story can't be played.
# SPDX-License-Identifier: MIT
import json
import os
import pty
import re
import select
import subprocess
import xml.etree.ElementTree as ElementTree

from tool import ROOT, TOOL, ToolTest, environment, main

SVG = "{http://www.w3.org/2000/svg}"


def on_a_terminal(columns, **changes):
    """What the story prints on a terminal."""
    master, slave = pty.openpty()
    env = environment(TERM="xterm", COLUMNS=str(columns), LC_ALL="C.UTF-8", NO_COLOR=None)
    env.update(changes)
    process = subprocess.Popen([TOOL, "story"], env=env, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    data = b""
    while select.select([master], [], [], 30)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        data += part
    os.close(master)
    assert process.wait(30) == 0, data
    return data.decode()


class Text(ToolTest):
    def text(self, **changes):
        done = self.tool("story", env=environment(**changes))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def test_plain_ascii_without_a_terminal(self):
        text = self.text(LC_ALL="C.UTF-8", TERM="xterm")
        self.assertTrue(all(c == 10 or 32 <= c < 127 for c in text))

    def test_terminal(self):
        colours = on_a_terminal(100)
        self.assertIn("\033[", colours)
        self.assertIn("\u25b2brk", colours)
        plain = on_a_terminal(100, NO_COLOR="1")
        self.assertNotIn("\033", plain)
        self.assertIn("\u25b2brk", plain)
        self.assertNotIn("\033", on_a_terminal(100, TERM="dumb"))
        latin = on_a_terminal(100, LC_ALL="C")
        self.assertTrue(latin.isascii())
        self.assertIn("\033[", latin)
        self.assertEqual(on_a_terminal(100, NO_COLOR="1", LC_ALL="C").count("\n"), self.text(COLUMNS="100").decode().count("\n"))

    def test_widths(self):
        for columns in 60, 80, 100, 160:
            for text in self.text(COLUMNS=str(columns)).decode(), re.sub(r"\033\[[0-9;]*m", "", on_a_terminal(columns)):
                rows = re.split(r"\r?\n(?= ?\d  )", text)[1:]
                self.assertEqual(len(rows), 9)
                for row in rows:
                    bar, pages = row.splitlines()[1:3]
                    self.assertLessEqual(max(len(bar), len(pages)), columns)

    def test_each_picture_says_what_the_figures_say(self):
        rows = re.split(r"\n(?= \d  )", self.text(COLUMNS="160").decode())[1:]
        done = self.tool("story", "--json")
        for row, step in zip(rows, json.loads(done.stdout)["steps"]):
            flat = " ".join(row.split())
            self.assertTrue(flat.startswith(f"{step['number']} {step['title']} "), flat)
            self.assertIn(step["seen"], flat)
            for chunk in step["chunks"]:
                self.assertRegex(row, rf"{chunk['size']} bytes +{chunk['resident_pages']} pages? +resident +{chunk['state']} +{chunk['name']}\n")
            for name, count in step["calls"].items():
                self.assertIn(f"{count} {name}", flat)
            self.assertIn(f"{step['minor_faults']} minor fault", flat)

    def test_bars_are_to_scale(self):
        """In columns: each bar ends where its mark for brk stands, and is as long as its bytes, by one scale."""
        rows = re.split(r"\n(?= \d  )", self.text(COLUMNS="160").decode())[1:]
        steps = json.loads(self.tool("story", "--json").stdout)["steps"]
        scale = max(step["heap_bytes"] for step in steps) + max(step["mapped_bytes"] for step in steps)
        scale /= 160 - 4 - 4 - 3
        for row, step in zip(rows, steps):
            lines = row.splitlines()
            end = 4 + round(step["heap_bytes"] / scale)
            self.assertEqual(lines[1][end], "|", row)
            self.assertEqual(lines[3][end], "^", row)


class Pictures(ToolTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        done = subprocess.run([TOOL, "story", "--json", "--svg", cls.path("svg")], env=environment(), stdout=subprocess.PIPE, check=True)
        cls.steps = json.loads(done.stdout)["steps"]
        cls.trees = {name: ElementTree.parse(cls.path("svg/" + name)).getroot() for name in os.listdir(cls.path("svg"))}

    def test_files(self):
        self.assertEqual(sorted(self.trees), ["story-%d.svg" % i for i in range(1, 10)] + ["story.svg"])

    def test_self_contained_and_accessible(self):
        for name, tree in self.trees.items():
            with self.subTest(name=name):
                self.assertEqual(tree.tag, SVG + "svg")
                self.assertEqual(tree.get("role"), "img")
                ids = {element.get("id"): "".join(element.itertext()) for element in tree.iter() if element.get("id")}
                for label in tree.get("aria-labelledby").split():
                    self.assertTrue(ids[label].strip())
                with open(self.path("svg/" + name)) as file:
                    text = file.read()
                self.assertIn("prefers-color-scheme:dark", text)
                rest = text.replace("http://www.w3.org/2000/svg", "")
                self.assertIsNone(re.search(r"https?:|<script|<image|href|@import|url\((?!#hatch\))", rest))
                self.assertEqual({tag.tag.replace(SVG, "") for tag in tree.iter()} - {"svg", "g", "rect", "path", "text", "title", "desc", "style", "circle",
                                                                                    "defs", "pattern"}, set())

    def rows(self):
        sheet = [g for g in self.trees["story.svg"].iter(SVG + "g") if g.get("data-step")]
        self.assertEqual([int(g.get("data-step")) for g in sheet], list(range(1, 10)))
        for number, step in enumerate(self.steps, 1):
            single = [g for g in self.trees[f"story-{number}.svg"].iter(SVG + "g") if g.get("data-step")]
            self.assertEqual([g.get("data-step") for g in single], [str(number)])
            yield step, sheet[number - 1]
            yield step, single[0]

    def test_chunks_are_those_of_the_figures_and_to_scale(self):
        scales = set()
        for step, row in self.rows():
            drawn = [rect for rect in row.iter(SVG + "rect") if rect.get("data-size")]
            self.assertEqual([(int(r.get("data-size")), r.get("data-state")) for r in drawn], [(c["size"], c["state"]) for c in step["chunks"]])
            for rect, chunk in zip(drawn, step["chunks"]):
                scale = float(rect.get("width")) / chunk["size"]
                scales.add(round(scale, 7))
                if chunk["state"] != "mapped":
                    offset = int(chunk["chunk"], 16) - int(step["start_brk"], 16)
                    self.assertAlmostEqual(float(rect.get("x")), 24 + offset * scale, delta=0.02)
            marks = [path for path in row.iter(SVG + "path") if path.get("data-brk")]
            self.assertEqual([int(path.get("data-brk")) for path in marks], [step["heap_bytes"]])
        self.assertLess(max(scales) - min(scales), 1e-6, scales)

    def test_brk_is_where_the_bytes_end(self):
        for step, row in self.rows():
            drawn = [rect for rect in row.iter(SVG + "rect") if rect.get("data-size") and rect.get("data-state") != "mapped"]
            mark = next(path for path in row.iter(SVG + "path") if path.get("data-brk"))
            end = float(drawn[-1].get("x")) + float(drawn[-1].get("width")) if drawn else 24.0
            self.assertAlmostEqual(float(re.match(r"M([\d.]+)", mark.get("d"))[1]), end, delta=0.02)

    def test_notches_are_the_borders_that_are_gone(self):
        before = [set()] + [{int(c["chunk"], 16) for c in step["chunks"]} for step in self.steps]
        for step, row in self.rows():
            heap = [c for c in step["chunks"] if c["state"] != "mapped"]
            now = {int(c["chunk"], 16) for c in heap}
            gone = [a for a in before[step["number"] - 1] - now if any(int(c["chunk"], 16) < a < int(c["chunk"], 16) + c["size"] for c in heap)]
            self.assertEqual(len([path for path in row.iter(SVG + "path") if path.get("class") == "merged"]), len(gone), step["title"])
        self.assertGreater(len([path for path in self.trees["story-8.svg"].iter(SVG + "path") if path.get("class") == "merged"]), 0)

    def test_the_picture_of_the_readme_is_current(self):
        """The committed sheet shows this allocator: `seemalloc story --svg docs/pictures` draws it anew (and the nine besides)."""
        if self.steps[0]["page_size"] != 4096:
            self.skipTest("the sheet was drawn with pages of 4 KiB")
        with open(os.path.join(os.environ["SOURCE_DIR"], "docs", "pictures", "story.svg")) as file:
            committed = ElementTree.parse(file).getroot()
        figures = lambda tree: [[r.get(key) for key in ("data-state", "data-size", "data-brk", "x", "width", "d")] for r in tree.iter()
                                if r.get("data-size") or r.get("data-brk")]
        self.assertEqual(figures(committed), figures(self.trees["story.svg"]))

    def test_a_cell_for_each_page(self):
        for step, row in self.rows():
            cells = [rect.get("class") for rect in row.iter(SVG + "rect") if rect.get("class") in ("in", "out")]
            self.assertEqual(cells, ["in" if page == "1" else "out" for page in step["heap_pages"] + step["mapped_pages"]])

    def test_words_are_those_of_the_figures(self):
        for step, row in self.rows():
            words = " ".join(" ".join(text.itertext()) for text in row.iter(SVG + "text"))
            self.assertIn(step["title"], words)
            self.assertIn(step["seen"], words)
            self.assertIn(f"{step['minor_faults']} page fault", words)

    def test_nothing_leaves_the_picture_or_overlaps(self):
        """Labels inside chunks fit by a wide font's measure, rows follow each other, all lies inside the view."""
        for name, tree in self.trees.items():
            _, _, width, height = map(float, tree.get("viewBox").split())
            for rect in tree.iter(SVG + "rect"):
                if rect.get("x") and rect.get("width"):
                    self.assertLessEqual(float(rect.get("x")) + float(rect.get("width")), width, name)
                    self.assertLessEqual(float(rect.get("y") or 0) + float(rect.get("height")), height, name)
            for text in tree.iter(SVG + "text"):
                x, length = float(text.get("x")), len("".join(text.itertext())) * 13.5 * 0.6
                classes = (text.get("class") or "").split()
                left = x - (length / 2 if "mid" in classes or "numt" in classes else length if "end" in classes else 0)
                self.assertGreaterEqual(left, 0, (name, "".join(text.itertext())))
                self.assertLess(float(text.get("y")), height - 5, name)
                if "h1" not in classes and "h2" not in classes and text.get("class"):
                    self.assertLessEqual(left + length * 0.92, width, (name, "".join(text.itertext())))
            for group in tree.iter(SVG + "g"):
                rects = [r for r in group.findall(SVG + "rect") if r.get("data-size")]
                for text in group.findall(SVG + "text") if rects else []:
                    self.assertLessEqual(len("".join(text.itertext())) * 13 * 0.6, float(rects[0].get("width")))


class Trouble(ToolTest):
    def test_folder(self):
        folder = self.path("new")
        done = self.tool("story", "--svg", folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"Wrote {folder}/story.svg", done.stdout.decode())
        self.assertEqual(self.tool("story", "--svg", folder).returncode, 0, "again, over the old ones")
        for message, place in ("can't make the folder .*/no/such: No such file", self.path("no/such")), \
                              ("can't write .*file/story.svg: Not a directory", self.write("file", "")):
            done = self.tool("story", "--svg", place)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.decode(), message)
        if ROOT:
            os.symlink("/dev/full", os.path.join(folder, "full"))
            os.replace(os.path.join(folder, "full"), os.path.join(folder, "story.svg"))
            done = self.tool("story", "--svg", folder)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.decode(), "can't write .*story.svg: No space left on device")

    def library(self, name, source):
        path = self.compile(name, source, "-shared", "-fPIC", "-I", os.path.join(os.environ["SOURCE_DIR"], "include"))
        return environment(SEEMALLOC_LIBRARY=path)

    NAMES = """
        #include "seemalloc.h"
        const char *seemalloc_state_name(enum seemalloc_state s) { (void)s; return "state"; }
        const char *seemalloc_call_name(enum seemalloc_call c) { (void)c; return "call"; }
        int seemalloc_get_stats(struct seemalloc_stats *stats) { *stats = (struct seemalloc_stats){0}; return 0; }
    """

    @staticmethod
    def walk(result):
        return "int seemalloc_walk(int (*visit)(const struct seemalloc_chunk *, void *), void *arg) { (void)visit; (void)arg; return %d; }" % result

    def test_libraries_that_are_not_ours(self):
        def story(status, message, env):
            self.refused(status, message, "story", env=env)
            self.refused(status, message, "story", "--json", env=env)

        story(1, r"ended before picture 1: the library is not loaded, or too old", self.library("empty.so", "int nothing;"))
        story(1, r"ended before picture 1: the library is too old", self.library(
            "old.so", self.NAMES.replace("seemalloc_call_name", "another_name") +
            'const char *seemalloc_version(void) { return "0.1.0"; }' + self.walk(0)))
        story(1, r"the library is version 99\.0\.0; expected 0\.1\.x", self.library(
            "new.so", self.NAMES + 'const char *seemalloc_version(void) { return "99.0.0"; }' + self.walk(0)))
        story(1, r"ended before picture 1: its process was killed by signal 6 \(Aborted\)", self.library(
            "abort.so", self.NAMES + '#include <stdlib.h>\nconst char *seemalloc_version(void) { abort(); }' + self.walk(0)))
        story(1, r"ended before picture 1: its process exited with status 5", self.library(
            "exit.so", self.NAMES + '#include <unistd.h>\nconst char *seemalloc_version(void) { _exit(5); }' + self.walk(0)))
        story(1, r"ended before picture 1: seemalloc_walk failed", self.library(
            "walk.so", self.NAMES + 'const char *seemalloc_version(void) { return "0.1.0"; }' + self.walk(-1)))

    def test_no_memory_for_a_block(self):
        env = self.library("full.so", self.NAMES + """
            static char memory[1 << 20];
            static size_t used;
            void *malloc(size_t size) { used = (used + 15) & ~(size_t)15; used += size; return size == 40 * 1024 ? NULL : memory + used - size; }
            void free(void *block) { (void)block; }
            const char *seemalloc_version(void) { return "0.1.0"; }
        """ + self.walk(0))
        self.refused(1, "the story ended before picture 3: malloc returned NULL", "story", env=env)

    def test_the_player_needs_the_library(self):
        done = self.tool("--story-player")
        self.assertEqual(done.returncode, 1)


main()
