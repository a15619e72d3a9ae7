# web.py: what the tests of the page share: sample heaps, and a decoder of docs/heap-data.md that is not the page's own.
# SPDX-License-Identifier: MIT
import base64
import json
import os
import re
import subprocess
import sys
import zlib

sys.dont_write_bytecode = True

WEB = os.environ["WEB"]
SOURCE = os.environ["SOURCE_DIR"]
TEMPLATE = os.path.join(SOURCE, "web/heap.html")


def dump(folder, name, *shape, template=TEMPLATE):
    """Runs heaps with `shape`; returns the paths of the page and of the list of chunks."""
    page, chunks = os.path.join(folder, name + ".html"), os.path.join(folder, name + ".list")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SEEMALLOC_", "MALLOC_", "LD_", "GLIBC_TUNABLES"))}
    env.update(LD_PRELOAD=os.path.join(WEB, "dumper.so"), HEAP_DUMP=page, HEAP_LIST=chunks, HEAP_TEMPLATE=template)
    subprocess.run([os.path.join(WEB, "heaps"), *map(str, shape)], env=env, check=True, timeout=60)
    return page, chunks


def read_list(path):
    """(chunk, mem, size, state, bin, arena) of every chunk, as the walk showed them."""
    with open(path) as file:
        rows = [line.split() for line in file]
    return [(int(r[0], 16), int(r[1], 16), int(r[2]), int(r[3]), int(r[4]), int(r[5])) for r in rows]


def varints(data):
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
    assert shift == 0, "a varint ends early"


def blocks(text, kind):
    for found in re.findall(r'<script type="application/octet-stream" class="%s">([A-Za-z0-9+/=]*)</script>' % kind, text):
        yield zlib.decompress(base64.b64decode(found, validate=True))


def word(data, at):
    return int.from_bytes(data[at : at + 4], "little")


class Heap:
    """A decoded page: head, chunks as (address, size, state, bin), and for each region the pages that are in memory."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.head = json.loads(re.search(r'<script type="application/json" id="heap-head">(.*?)</script>', text, re.S).group(1))
        sizes, states, bins = [], [], []
        for block in blocks(text, "heap-chunks"):
            count, at, columns = word(block, 0), 4, {}
            while at < len(block):
                name, length = word(block, at), word(block, at + 4)
                columns[name] = block[at + 8 : at + 8 + length]
                at += 8 + length
            assert at == len(block) and len(columns[2]) == count <= 65536
            here = list(varints(columns[1]))
            assert len(here) == count
            sizes += here
            states += columns[2]
            bins += columns[3]
        binned = iter(bins)
        self.chunks, index = [], 0
        for region in self.head["regions"]:
            address = int(region["start"], 16)
            for _ in range(region["chunks"]):
                state = states[index]
                self.chunks.append((address, sizes[index] * 16, state, next(binned) if 4 <= state <= 8 else -1))
                address += sizes[index] * 16
                index += 1
        assert index == len(sizes) and next(binned, None) is None
        runs = varints(b"".join(blocks(text, "heap-pages")))
        size = self.head["page_size"]
        self.resident = []
        for region in self.head["regions"]:
            left, resident = -(-int(region["end"], 16) // size) - int(region["start"], 16) // size, True
            pages = bytearray()
            while left > 0:
                run = next(runs)
                pages += bytes([resident]) * run
                left -= run
                resident = not resident
            assert left == 0
            self.resident.append(bytes(pages))
        assert next(runs, None) is None
