# terminal.py: a command on a terminal of its own, and what its screen shows.
# SPDX-License-Identifier: MIT
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian's pyte is, whichever python3 this is
import pyte

PATIENCE = 30  # seconds until a test gives up
TERM = "pyte-256color"


def describe_terminal(folder):
    """Puts what pyte understands into a folder for TERMINFO: it does not scroll parts of the screen, or repeat characters."""
    subprocess.run(["tic", "-x", "-o", folder, "-"], input=f"{TERM}|pyte,\n\tuse=screen-256color, rin@, indn@, rep@,\n", text=True, check=True)


class Terminal:
    def __init__(self, command, columns=80, lines=24, env=None, corner=False):
        """`corner`: the command leaves the cursor in the last corner when the screen is whole; before that nothing is looked at."""
        self.corner = corner
        self.master, self.slave = pty.openpty()
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.size(columns, lines)
        self.modes = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in self.master, self.slave:
            if file is not None:
                os.close(file)

    def size(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        self.size(columns, lines)

    def type(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        """What comes within that time is shown; whether anything came."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        data = os.read(self.master, 1 << 16)
        self.written += data
        self.stream.feed(data)
        return True

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def wait(self, condition):
        """Until the condition holds of the lines on the screen; what it returned."""
        end = time.monotonic() + PATIENCE
        while True:
            while self.read(0):
                pass
            cursor = self.screen.cursor
            whole = not self.corner or (cursor.y == self.screen.lines - 1 and cursor.x >= self.screen.columns - 1)
            result = whole and condition(self.lines())
            if result:
                return result
            if time.monotonic() > end:
                raise AssertionError("the screen never showed it:\n" + "\n".join(self.lines()))
            self.read(0.05)

    def wait_for(self, text):
        return self.wait(lambda lines: text in "\n".join(lines))

    def ended(self):
        """The status, once it has ended and all that it wrote is read."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self.read(0.05)
            if time.monotonic() > end:
                raise AssertionError("it does not end:\n" + "\n".join(self.lines()))
        while self.read(0):
            pass
        return self.process.returncode

    def is_as_it_was(self):
        """The modes of the terminal, its cursor, its first screen."""
        if termios.tcgetattr(self.slave) != self.modes:
            return False
        for begin, end in (b"\033[?1049h", b"\033[?1049l"), (b"\033[?1h", b"\033[?1l"), (b"\033[?25l", b"\033[?25h"):
            if self.written.rfind(begin) > self.written.rfind(end):
                return False
        return self.written.count(b"\033[?1049h") == self.written.count(b"\033[?1049l") != 0

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)
