# cores.py: core files for the tests, written by gdb's gcore. SPDX-License-Identifier: MIT
import os
import shutil
import subprocess
import unittest

from outside import OutsideTest

GCORE = shutil.which("gcore")


class CoreTest(OutsideTest):
    def core(self, process):
        """A core of the running process; the test is skipped where none can be had."""
        if GCORE is None:
            raise unittest.SkipTest("no gcore (Debian package gdb)")
        name = self.path("core")
        done = subprocess.run([GCORE, "-o", name, str(process.pid)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100)
        file = f"{name}.{process.pid}"
        if not os.path.exists(file):
            raise unittest.SkipTest("gcore wrote no core: " + done.stdout.decode(errors="replace"))
        return file

    def snapshot(self, subject, name):
        file = self.path(name)
        done = self.tool("snapshot", str(subject), "-o", file)
        self.assertEqual(done.returncode, 0, done.stderr)
        return file
