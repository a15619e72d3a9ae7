#!/usr/bin/env python3
# probes.py: the library has the probe points of docs/probes.md, with as many arguments, and in gdb they are met with the right ones.
# SPDX-License-Identifier: MIT
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

LIBRARY = os.environ["SEEMALLOC_LIB"]
CC = os.environ.get("CC") or "cc"
ENV = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "SEEMALLOC_", "GLIBC_TUNABLES"))}
PROGRAM = r"""
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *work(void *arg) {
    char *first = malloc(100000);
    for (int i = 0; i < 100; i++) *(char *volatile *)arg = malloc(100000);
    return first;
}

int main(int argc, char **argv) {
    void *block, *last;
    if (argc != 2 || freopen(argv[1], "w", stdout) == NULL) return 2; /* gdb's lines and ours would get into each other */
    pthread_t thread;
    mallopt(M_MMAP_THRESHOLD, 300000);
    for (int i = 0; i < 50; i++) block = malloc(100000);
    printf("END %lx\n", (unsigned long)sbrk(0));
    if (pthread_create(&thread, NULL, work, &last) != 0 || pthread_join(thread, &block) != 0) return 1;
    printf("THREAD %lx %lx\n", (unsigned long)block, (unsigned long)last);
    char *volatile twice = malloc(40);
    printf("TWICE %lx\n", (unsigned long)twice);
    fflush(stdout);
    free(twice);
    free(twice);
}
"""
SCRIPT = """
import gdb

class Point(gdb.Breakpoint):
    def __init__(self, name, arguments):
        super().__init__("-probe-stap seemalloc:" + name)
        self.name, self.arguments = name, arguments

    def stop(self):
        values = [int(gdb.parse_and_eval(f"$_probe_arg{i}")) for i in range(self.arguments)]
        print("POINT", self.name, *values, flush=True)
        return False

for setting in "pagination off", "confirm off", "debuginfod enabled off", "exec-wrapper env LD_PRELOAD=%s":
    gdb.execute("set " + setting)
gdb.execute("tbreak main")
gdb.execute("run %s")
points = [Point(name, count) for name, count in %s]
gdb.execute("continue")
"""


def documented():
    """Names and numbers of arguments."""
    with open(os.path.join(os.environ["SOURCE_DIR"], "docs", "probes.md")) as file:
        rows = re.findall(r"^\| `(memory_\w+)` \| ([^|]+) \|", file.read(), re.M)
    return {name: len(arguments.split(",")) for name, arguments in rows}


def notes(path):
    text = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    return re.findall(r"Provider: (\w+)\s+Name: (\w+)\s+Location: .*\s+Arguments:(.*)", text)


class Probes(unittest.TestCase):
    def test_the_library_has_what_is_documented(self):
        points = documented()
        self.assertGreater(len(points), 20)
        for path in LIBRARY, os.environ["SEEMALLOC_CHECKED_LIB"]:
            found = notes(path)
            self.assertEqual({provider for provider, _, _ in found}, {"seemalloc"})
            for _, name, arguments in found:
                self.assertEqual(len(arguments.split()), points.get(name), name)
            self.assertEqual({name for _, name, _ in found}, set(points))

    def test_static_beside_the_points_of_others(self):
        """They share a section that the linker keeps once."""
        source = "#include <stdlib.h>\n#include <sys/sdt.h>\nint main(void) { void *volatile mem = malloc(9); STAP_PROBE1(own, here, mem); return mem == NULL; }\n"
        with tempfile.TemporaryDirectory() as folder:
            for form in ["-static"], ["-static-pie", "-fPIE"]:
                program = os.path.join(folder, "program" + form[0])
                subprocess.run([CC, "-fno-builtin", "-x", "c", "-", "-o", program, *form, "-x", "none", os.environ["SEEMALLOC_STATIC_LIB"], "-pthread"],
                               input=source, text=True, check=True)
                subprocess.run([program], env=ENV, check=True)
                found = notes(program)
                self.assertEqual({name for provider, name, _ in found if provider == "seemalloc"}, set(documented()))
                self.assertIn(("own", "here"), [found[:2] for found in found])

    @unittest.skipUnless(shutil.which("gdb"), "no gdb")
    def test_met_in_gdb(self):
        with tempfile.TemporaryDirectory() as folder:
            program, script, output = (os.path.join(folder, name) for name in ("program", "script.py", "output"))
            subprocess.run([CC, "-O1", "-fno-builtin", "-x", "c", "-", "-o", program, "-pthread"], input=PROGRAM, text=True, check=True)
            with open(script, "w") as file:
                file.write(SCRIPT % (LIBRARY, output, list(documented().items())))
            done = subprocess.run(["gdb", "-nx", "-q", "-batch", "-x", script, program], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=ENV,
                                  timeout=100)
            with open(output) if os.path.exists(output) else open(os.devnull) as file:
                printed = file.read()
        said = done.stdout + done.stderr
        if "POINT" not in said and ("ptrace" in said or "Operation not permitted" in said):
            self.skipTest("gdb can't run programs here")
        met = {}
        for name, *values in (line.split() for line in re.findall(r"POINT (.*)", done.stdout)):
            met.setdefault(name, []).append([int(value) for value in values])
        self.assertEqual(re.findall(r"^\w+", printed, re.M), ["END", "THREAD", "TWICE"], said)
        end, thread, twice = ([int(n, 16) for n in line.split()[1:]] for line in printed.splitlines())
        self.assertEqual(met["memory_mallopt"], [[-3, 300000]], said)
        self.assertEqual(met["memory_mallopt_mmap_threshold"], [[300000, 131072, 0]])
        grown = met["memory_sbrk_more"]
        for (start, size), (following, _) in zip(grown, grown[1:]):
            self.assertEqual(start + size, following)
        self.assertGreaterEqual(sum(size for _, size in grown), 50 * 100000 - (1 << 20))
        self.assertIn(end[0], [start + size for start, size in grown])
        self.assertEqual(len(met["memory_arena_new"]), 1)
        (heap, size), = met["memory_heap_new"]
        self.assertTrue(heap <= thread[0] < heap + size, (hex(heap), size))
        sizes = [size] + [more for where, more in met["memory_heap_more"] if where == heap]
        self.assertEqual(sizes, sorted(set(sizes)))
        self.assertTrue(heap <= thread[1] < heap + sizes[-1])
        (mem, size_class), = met["memory_tcache_double_free"]
        self.assertEqual((mem, size_class), (twice[0], 3))
        self.assertIn("double free detected in tcache 2", said)


has_header = subprocess.run([CC, "-E", "-x", "c", "-"], input="#include <sys/sdt.h>\n", text=True, capture_output=True).returncode == 0
if not has_header and not notes(LIBRARY):
    print("probes.py: the library was built without <sys/sdt.h> (Debian package systemtap-sdt-dev)")
    sys.exit(77)
unittest.main(verbosity=2)
