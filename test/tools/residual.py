#!/usr/bin/env python3
# residual.py: the ledger of real programs, each at ten moments of its life: less than 1 % of RSS is left over, and all sums close.
# SPDX-License-Identifier: MIT
import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
import unittest

from outside import OutsideTest
from tool import environment, main

SOURCE = os.environ["SOURCE_DIR"]
PYTHON = """
import random
dice, kept = random.Random(1), {}
while True:
    key = dice.randrange(30000)
    kept[key] = [str(i) * dice.randrange(1, 30) for i in range(dice.randrange(20))]
    if dice.random() < 0.0001: kept.clear()
"""
SQL = """
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT OR REPLACE INTO t SELECT i % 50000, hex(randomblob(i % 90)), randomblob(i % 300) FROM n;
"""
MOMENTS = 10


class Residual(OutsideTest):
    def look(self, name, process):
        dice, most, torn = random.Random(name), 0, 0
        for _ in range(MOMENTS):
            time.sleep(dice.uniform(0, 0.15))
            figures = self.figures("stats", process)
            self.assertIsNone(figures["corrupted"])
            self.check_sums(figures)
            self.assertGreater(figures["states"]["in use"]["resident"], 0)
            percent = abs(figures["resident"]["residual_percent"])
            self.assertLess(percent, 1, figures["resident"])
            most = max(most, percent)
            torn += figures["torn"] != []
        print(f"{name}: {most:.3f} % at most, {torn} torn, RSS {figures['resident']['rss'] >> 20} MiB at last")

    def test_gcc(self):
        compiler = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True).stdout.strip()
        if not os.path.isabs(compiler):
            self.skipTest("no gcc")
        text = self.path("text.i")
        with open(text, "w") as file:
            for i in range(400):
                file.write("".join(f"int f{i}_{k}(int *a, int n) {{ int s = 0; for (int i = 0; i < n; i++) s += a[i] * {k} ^ s >> {k}; return s; }}\n"
                                   for k in range(1, 30)))
        with self.running(compiler, "-O2", "-quiet", text, "-o", os.devnull) as process:
            self.look("gcc", process)

    def test_python3(self):
        with self.running(shutil.which("python3"), "-c", PYTHON, stdout=subprocess.DEVNULL) as process:
            self.wait_for(process)
            self.look("python3", process)

    def test_sqlite3(self):
        if shutil.which("sqlite3") is None:
            self.skipTest("no sqlite3")
        with self.running("sqlite3", ":memory:", SQL, stdout=subprocess.DEVNULL) as process:
            self.wait_for(process)
            self.look("sqlite3", process)

    def test_redis(self):
        if shutil.which("redis-server") is None or shutil.which("redis-benchmark") is None:
            self.skipTest("no redis")
        path = self.path("redis.sock")
        with self.running("redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", self.folder, stdout=subprocess.DEVNULL) as process:
            for _ in range(500):
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                    break
                time.sleep(0.02)
            client = subprocess.Popen(["redis-benchmark", "-s", path, "-t", "set,lpush,sadd,hset", "-r", "100000", "-d", "200", "-l", "-q"], env=environment(),
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self.look("redis", process)
            finally:
                client.kill()
                client.wait()

    def wait_for(self, process):
        """Until it has become the program and has begun."""
        for _ in range(500):
            with open(f"/proc/{process.pid}/maps") as file:
                if "libseemalloc" in file.read():
                    break
            time.sleep(0.01)
        time.sleep(0.2)


main()
