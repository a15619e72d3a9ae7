# work.py: a program with a heap worth looking at, run by python3 with the dumper preloaded: work.py FILES parses so many of python's own modules, makes an
# index of their words and a table of it, and drops parts of all of them again. SPDX-License-Identifier: MIT
import ast
import ctypes
import glob
import os
import re
import sqlite3
import sys
import threading
import time

heap = ctypes.CDLL(None)
heap.heap_show_cache()
trees, texts, index = [], [], {}


def sample(number):
    if number % 8 == 0:
        heap.heap_sample()


for number, name in enumerate(sorted(glob.glob(os.path.join(os.path.dirname(ast.__file__), "**/*.py"), recursive=True))[: int(sys.argv[1])]):
    try:
        with open(name, encoding="utf-8") as file:
            texts.append(file.read())
        trees.append(ast.parse(texts[-1]))
    except (SyntaxError, UnicodeDecodeError):
        pass
    sample(number)
for number, text in enumerate(texts):
    for word in re.finditer(r"\w{3,}", text):
        index.setdefault(word.group(), []).append((number, word.start()))
    sample(number)
for number in range(len(trees)):
    if number % 3:
        trees[number] = None
    sample(number)
table = sqlite3.connect(":memory:")
table.execute("create table words(word text, times int)")
table.executemany("insert into words values(?, ?)", ((word, len(places)) for word, places in index.items()))
table.execute("create index by_word on words(word)")
heap.heap_sample()
for word in list(index)[::2]:
    del index[word]
heap.heap_sample()

ready, over = threading.Barrier(4), threading.Event()


def work():
    kept = [str(i) * (i % 40) for i in range(20000)]
    heap.heap_show_cache()
    ready.wait()
    over.wait()
    kept.clear()


threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
ready.wait()
time.sleep(0.3)
heap.heap_dump()
over.set()
