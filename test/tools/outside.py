# outside.py: what the tests of `stats` and `pins` share: subjects that are brought into a shape, and their figures.
# SPDX-License-Identifier: MIT
import contextlib
import json
import os
import signal
import subprocess

from tool import LIBRARY, ToolTest, environment

HERE = os.path.dirname(os.path.abspath(__file__))
INCLUDE = "-I" + os.path.join(os.environ["SOURCE_DIR"], "include")
PAGE = os.sysconf("SC_PAGESIZE")


class OutsideTest(ToolTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(HERE, "subject.c")) as file:
            cls.source = file.read()
        cls.subject = cls.compile("subject", cls.source, INCLUDE, "-fno-builtin", "-pthread", "-ldl")

    @contextlib.contextmanager
    def running(self, *command, conf=None, library=LIBRARY, **more):
        """A process on seemalloc, killed at the end."""
        env = environment(LD_PRELOAD=library, SEEMALLOC_CONF=conf)
        process = subprocess.Popen(command, env=env, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **more})
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for file in process.stdin, process.stdout:
                if file is not None:
                    file.close()

    @contextlib.contextmanager
    def shaped(self, *arguments, conf=None, subject=None, library=LIBRARY):
        """The subject, and what it said of itself once it was ready."""
        with self.running(subject or self.subject, *arguments, conf=conf, library=library) as process:
            line = process.stdout.readline()
            self.assertTrue(line, "the subject ended")
            yield process, json.loads(line)

    def figures(self, command, process, *options, status=0):
        done = self.tool(command, str(process.pid), "--json", *options)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return json.loads(done.stdout)

    def check_sums(self, figures):
        """What holds at any moment: arenas that are not torn close, the states of all are the total's, and no resident byte is left over or counted twice."""
        total = {}
        for arena in figures["arenas"]:
            if not arena["torn"]:
                self.assertEqual(sum(arena["bytes"].values()), arena["system_bytes"], arena)
            for name, size in arena["bytes"].items():
                total[name] = total.get(name, 0) + size
        for name, state in figures["states"].items():
            if name != "mapped":
                self.assertEqual(state["bytes"], total.get(name, 0), name)
                self.assertLessEqual(state["resident"], state["bytes"], name)
        resident = figures["resident"]
        self.assertEqual(sum(state["resident"] for state in figures["states"].values()) + resident["slack"] + resident["retained"] + resident["metadata"],
                         resident["ours"])
        self.assertEqual(resident["rss"], resident["accounted"] + resident["residual"])

    def check_same(self, figures, said):
        """What the reader sees is what a walk inside the process saw."""
        self.assertEqual(figures["torn"], [])
        self.assertIsNone(figures["corrupted"])
        self.assertEqual({name: [state["bytes"], state["count"]] for name, state in figures["states"].items() if name != "unknown"}, said["states"])
        self.assertEqual(figures["states"]["unknown"]["count"], 0)
        self.assertEqual(sum(arena["system_bytes"] for arena in figures["arenas"]), said["heap_bytes"])
        self.assertEqual(figures["metadata_mapped"], said["metadata_bytes"])
        self.assertEqual(sum(cache["live"] for cache in figures["caches"]), said["threads"])
        self.assertEqual(figures["calls"], {**said["calls"], "refused": said["failures"]})
        self.check_sums(figures)


def stop(process):
    os.kill(process.pid, signal.SIGSTOP)
    wait_for_stop(process)


def wait_for_stop(process):
    """Also after a tracer let go: the thread runs for a moment until it stops again."""
    while state(process.pid) != "T":
        pass


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
