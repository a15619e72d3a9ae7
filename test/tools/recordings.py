# recordings.py: writes recordings of known contents, as include/seemalloc_recording.h has them; some on purpose not as it has them.
# SPDX-License-Identifier: MIT
import struct
import zlib

MAGIC = b"seemrec\n"
STACKS, SAMPLED = 1, 2
END, EVENTS, STACK, MODULE, THREAD, PROCESS = range(6)
ALLOC, FREE, MOVED = 1, 2, 128
MS = 10**6


class Recording:
    """Blocks are cut after `block_events` events; all that they refer to comes before them."""

    def __init__(self, command=("program", "-x"), flags=STACKS, pid=4711, begun=1_700_000_000 * 10**9, sample_mean=0, page_bytes=4096, block_events=1000):
        text = b"".join(word.encode() + b"\0" for word in command)
        self.head = struct.pack("<8sIIIIQQII", MAGIC, 1, 48 + len(text), flags, pid, begun, sample_mean, page_bytes, len(text)) + text
        self.blocks, self.pending, self.events, self.time, self.block_events = [], [], 0, 0, block_events
        self.stacks, self.live = 0, {}

    def block(self, kind, body, **changes):
        """A block; `changes` are what its head says that is not so."""
        self.flush()
        packed = zlib.compress(body)
        head = {"type": kind, "raw": len(body), "packed": len(packed), "checksum": zlib.adler32(body), **changes}
        self.blocks.append(struct.pack("<IIII", head["type"], head["raw"], head["packed"], head["checksum"]) + packed)

    def flush(self):
        if self.pending:
            raw, self.pending = b"".join(self.pending), []
            self.block(EVENTS, raw)

    def thread(self, number, tid, name):
        self.block(THREAD, struct.pack("<II16s", number, tid, name.encode()))

    def stack(self, *addresses, number=None):
        """Addresses from the innermost out. The id."""
        self.stacks += 1
        number = number or self.stacks
        self.block(STACK, struct.pack(f"<II{len(addresses)}Q", number, len(addresses), *addresses))
        return number

    def module(self, start, end, offset, path, build_id=b"", time=0):
        path = path.encode()
        self.block(MODULE, struct.pack("<QQQQII", start, end, offset, time, len(path), len(build_id)) + path + build_id)

    def event(self, kind, mem, size=0, usable=0, weight=None, stack=0, thread=0, time=None):
        self.pending.append(struct.pack("<QQQQQIHBB", self.time if time is None else time, mem, size, usable, size if weight is None else weight, stack, thread, kind, 0))
        self.events += 1
        if len(self.pending) == self.block_events:
            self.flush()

    def alloc(self, mem, size, moved=0, **more):
        self.event(ALLOC | moved, mem, size, max(24, (size + 8 + 15) // 16 * 16 - 8), **more)

    def free(self, mem, moved=0, **more):
        self.event(FREE | moved, mem, **more)

    def realloc(self, mem, to, size, stack=0, thread=0):
        self.free(mem, MOVED, thread=thread, stack=stack)
        self.alloc(to, size, MOVED, thread=thread, stack=stack)

    def process(self, time, resident, in_use=0, cached=0, free=0, mapped=0, minor=0, major=0):
        self.block(PROCESS, struct.pack("<8Q", time, resident, in_use, cached, free, mapped, minor, major))

    def end(self, dropped=0, late=0, status=0, forked=0, time=None, events=None):
        self.block(END, struct.pack("<QQQQiI", self.time if time is None else time, self.events if events is None else events, dropped, late, status, forked))

    def bytes(self):
        self.flush()
        return self.head + b"".join(self.blocks)


def simple(**more):
    """Two threads, three stacks, times in milliseconds:

    main    a: 10 blocks of 100 bytes at 1 ... 10, of which 4 are freed at 50; b: 1 block of 1000 at 20, freed at 30; temporary: 5 of 64 at 40
    worker  c: 2 of 4000 at 21 and 22, one of them realloc'ed to 6000 at 25, all freed at 35
    The peak is at 25: 1000 + 1000 + 4000 + 6000 = 12000 bytes in 13 blocks; live at the end are 6 blocks of 600 bytes.
    """
    r = Recording(**more)
    r.thread(0, 4711, "main")
    r.thread(1, 4712, "worker")
    r.module(0x400000, 0x401000, 0x1000, "/nowhere/program")
    a = r.stack(0x400110, 0x400100)
    b = r.stack(0x400120, 0x400100)
    c = r.stack(0x400130, 0x7F0000000130)
    for i in range(10):
        r.time = (i + 1) * MS
        r.alloc(0x10000 + 0x100 * i, 100, stack=a)
    r.process(15 * MS, 1 << 20, 1 << 19, 1 << 18, 1 << 17, 1 << 16, 100, 1)
    r.time = 20 * MS
    r.alloc(0x20000, 1000, stack=b)
    r.time = 21 * MS
    r.alloc(0x30000, 4000, stack=c, thread=1)
    r.time = 22 * MS
    r.alloc(0x32000, 4000, stack=c, thread=1)
    r.time = 25 * MS
    r.realloc(0x32000, 0x34000, 6000, stack=c, thread=1)
    r.process(26 * MS, 2 << 20, 1 << 20, 1 << 18, 1 << 17, 1 << 16, 200, 1)
    r.time = 30 * MS
    r.free(0x20000)
    r.time = 35 * MS
    r.free(0x30000, thread=1)
    r.free(0x34000, thread=1)
    for i in range(5):
        r.time = (40 + i) * MS
        r.alloc(0x40000, 64, stack=b)
        r.free(0x40000, stack=b)
    r.time = 50 * MS
    for i in range(4):
        r.free(0x10000 + 0x100 * i)
    r.time = 60 * MS
    return r


def spoil(recording, dice):
    """Its bytes with a few of them changed: of the file, or of what is compressed in it, so that no checksum stops it early. Or it is cut."""
    recording.flush()
    recording.blocks = list(recording.blocks)
    if dice.random() < 0.6:
        for _ in range(dice.randint(1, 3)):
            index = dice.randrange(len(recording.blocks))
            kind, raw, packed, _ = struct.unpack_from("<IIII", recording.blocks[index])
            body = bytearray(zlib.decompress(recording.blocks[index][16:]))
            change(body, dice)
            kind = dice.randrange(7) if dice.random() < 0.1 else kind
            pressed = zlib.compress(bytes(body))
            recording.blocks[index] = struct.pack("<IIII", kind, len(body), len(pressed), zlib.adler32(bytes(body))) + pressed
        if dice.random() < 0.1:
            dice.shuffle(recording.blocks)
        return recording.bytes()
    data = bytearray(recording.bytes())
    for _ in range(dice.randint(1, 4)):
        change(data, dice)
    return bytes(data)


def change(data, dice):
    if not data:
        return
    at, how = dice.randrange(len(data)), dice.randrange(5)
    width = min(dice.choice((1, 2, 4, 8)), len(data) - at)
    if how == 0:
        data[at] ^= 1 << dice.randrange(8)
    elif how == 1:
        data[at : at + width] = dice.randbytes(width)
    elif how == 2:
        data[at : at + width] = dice.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * width
    elif how == 3:
        other = dice.randrange(len(data) - width + 1)
        data[at : at + width] = data[other : other + width]
    else:
        del data[at:]
