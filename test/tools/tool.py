# tool.py: what the tests of the command share: the command, a scratch folder, small programs made on the spot.
# SPDX-License-Identifier: MIT
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

TOOL = os.environ["SEEMALLOC_BIN"]
LIBRARY = os.environ["SEEMALLOC_LIB"]
CC = os.environ.get("CC") or "cc"
ROOT = os.geteuid() == 0


def environment(**changes):
    """This process's environment without what would steer the command; a change of None takes a variable away."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SEEMALLOC_", "MALLOC_", "LD_", "GLIBC_TUNABLES"))}
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env


class ToolTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.realpath(tempfile.mkdtemp(prefix="seemalloc-tools-"))
        os.chmod(cls.folder, 0o755)  # for the tests that run as another user

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def write(cls, name, text, mode=0o755):
        path = cls.path(name)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    @classmethod
    def compile(cls, name, source, *options):
        """A program (or library) from C source."""
        path = cls.path(name)
        subprocess.run([CC, "-O1", "-x", "c", "-", "-o", path, *options], input=source.encode(), check=True)
        return path

    def tool(self, *arguments, env=None, command=TOOL, **more):
        return subprocess.run([command, *arguments], env=environment() if env is None else env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, timeout=50, **more)

    def refused(self, status, message, *arguments, **more):
        """The command ends with `status` and one line on stderr that matches `message`; nothing is on stdout."""
        done = self.tool(*arguments, **more)
        error = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (status, b""), error)
        self.assertRegex(error, message)
        return error


def main():
    unittest.main(verbosity=2)
