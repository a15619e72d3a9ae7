# recording.py: reads a file of `seemalloc run --record` as include/seemalloc_recording.h describes it; written from the header alone.
# SPDX-License-Identifier: MIT
import collections
import struct
import sys
import zlib

ALLOC, FREE, MOVED = 1, 2, 128
Event = collections.namedtuple("Event", "time mem bytes usable weight stack thread kind reserved")
Module = collections.namedtuple("Module", "start end offset time path build_id")
Process = collections.namedtuple("Process", "time resident in_use cached free_bytes mapped minor_faults major_faults")
End = collections.namedtuple("End", "time events dropped late status forked")


class Recording:
    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        magic, self.version, head, self.flags, self.pid, self.begun, self.mean, self.page, command = struct.unpack_from("<8s4I2Q2I", data)
        assert magic == b"seemrec\n" and self.version == 1 and head == 48 + command, (magic, self.version, head, command)
        self.command = data[48:head].split(b"\0")[:-1]
        self.events, self.stacks, self.modules, self.threads, self.processes, self.end = [], {}, [], {}, [], None
        at = head
        while at < len(data):
            assert self.end is None, "something follows the end"
            kind, raw, packed, checksum = struct.unpack_from("<4I", data, at)
            block = zlib.decompress(data[at + 16:at + 16 + packed])
            assert len(block) == raw <= 1 << 24 and zlib.adler32(block) == checksum
            self.block(kind, block)
            at += 16 + packed
        assert at == len(data)

    def block(self, kind, data):
        if kind == 0:
            self.end = End(*struct.unpack("<4QiI", data))
        elif kind == 1:
            for fields in struct.iter_unpack("<5QIHBB", data):
                event = Event(*fields)
                assert event.thread in self.threads and (event.stack == 0 or event.stack in self.stacks), event
                self.events.append(event)
        elif kind == 2:
            at = 0
            while at < len(data):
                number, count = struct.unpack_from("<2I", data, at)
                self.stacks[number] = struct.unpack_from(f"<{count}Q", data, at + 8)
                at += 8 + 8 * count
        elif kind == 3:
            at = 0
            while at < len(data):
                *numbers, path, build = struct.unpack_from("<4Q2I", data, at)
                at += 40
                self.modules.append(Module(*numbers, data[at:at + path].decode(), data[at + path:at + path + build].hex()))
                at += path + build
        elif kind == 4:
            for number, tid, name in struct.iter_unpack("<2I16s", data):
                self.threads[number] = (tid, name.split(b"\0")[0].decode())
        elif kind == 5:
            self.processes += [Process(*fields) for fields in struct.iter_unpack("<8Q", data)]

    def module(self, address):
        for module in reversed(self.modules):
            if module.start <= address < module.end:
                return module
        return None


if __name__ == "__main__":
    recording = Recording(sys.argv[1])
    print(recording.command, recording.threads, recording.end, len(recording.events), "events", len(recording.stacks), "stacks")
    for module in recording.modules:
        print(module)
    for event in recording.events[:int(sys.argv[2]) if len(sys.argv) > 2 else 20]:
        print(event, [hex(a) for a in recording.stacks.get(event.stack, ())])
