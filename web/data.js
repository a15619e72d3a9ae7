// data.js: reads "seemalloc heap data, version 1" (docs/heap-data.md) out of the page, into typed arrays.
//
// A space is what the map shows as one: an arena, or all mapped blocks. Its regions stand one behind the other in address order, so that a chunk has a
// position as well as an address:
//
//   pos[i] .. pos[i + 1]     the bytes of chunk i; pos[n] = total               address = region.start + (pos - region.pos)
//
// SPDX-License-Identifier: MIT
import { inflate } from "./inflate.js";
import { PADDING, STATES, TORN } from "./states.js";

const FILE_PADDING = 254, FILE_TORN = 255;

const inflateBytes = async element => new Uint8Array(await inflate(element).arrayBuffer());

// Some at a time: enough to keep the decompressor busy, few enough that the blocks of a large heap never lie in memory together.
async function* inflated(elements) {
    const ahead = 4, pending = [];
    for (let i = 0; i < elements.length || pending.length > 0; i++) {
        if (i < elements.length) pending.push(inflateBytes(elements[i]));
        if (pending.length === ahead || i >= elements.length) yield pending.shift();
    }
}

function makeSpaces(head) {
    const spaces = new Map();
    head.regions.forEach((region, order) => {
        const block = region.kind === "block", key = block ? "mapped" : `arena ${region.arena}`;
        if (!spaces.has(key)) {
            const arena = block ? null : head.arenas.find(a => a.id === region.arena) ?? { id: region.arena, kind: "thread", threads: 0 };
            spaces.set(key, { key, arena, mapped: block, regions: [], count: 0, total: 0 });
        }
        const start = Number(region.start), end = Number(region.end);
        spaces.get(key).regions.push({ ...region, start, end, limit: Number(region.limit), order, size: Math.floor((end - start) / 16) * 16 });
    });
    for (const space of spaces.values()) {
        space.regions.sort((a, b) => a.start - b.start);
        for (const region of space.regions) {
            region.pos = space.total;
            region.first = space.count;
            space.total += region.size;
            space.count += region.chunks;
        }
        space.pos = new Float64Array(space.count + 1);
        space.pos[space.count] = space.total;
        space.state = new Uint8Array(space.count);
        space.bin = new Uint8Array(space.count);
        space.absentFrom = new Float64Array(0); // positions without pages: [absentFrom[i], absentTo[i])
        space.absentTo = space.absentFrom;
        space.name = space.mapped ? "mapped blocks"
            : space.arena.id === 0 ? "main arena"
            : space.arena.kind === "spare" ? `arena ${space.arena.id} (spare)` : `arena ${space.arena.id}`;
    }
    return [...spaces.values()].sort((a, b) => a.mapped - b.mapped || a.arena.id - b.arena.id);
}

// Where the next chunk of the file goes: regions in the file's order.
function* places(head, spaces) {
    const places = new Array(head.regions.length);
    for (const space of spaces) for (const region of space.regions) places[region.order] = { space, region };
    yield* places;
}

function badData(what) {
    return new Error(`The data in this page can't be read: ${what}.`);
}

class ChunkReader {
    constructor(head, spaces) {
        this.places = places(head, spaces);
        this.left = 0;
    }
    next() {
        do {
            const { value, done } = this.places.next();
            if (done) throw badData("more chunks than the regions have");
            this.space = value.space;
            this.region = value.region;
            this.index = value.region.first;
            this.left = value.region.chunks;
            this.pos = value.region.pos;
        } while (this.left === 0);
    }
    read(block) {
        const view = new DataView(block.buffer), count = view.getUint32(0, true), columns = {};
        for (let at = 4; at < block.length;) {
            const length = view.getUint32(at + 4, true);
            columns[view.getUint32(at, true)] = block.subarray(at + 8, at + 8 + length);
            at += 8 + length;
        }
        const sizes = columns[1], states = columns[2], bins = columns[3];
        if (!sizes || !states || !bins || states.length !== count) throw badData("a block of chunks is incomplete");
        let at = 0, binAt = 0;
        for (let i = 0; i < count;) {
            if (this.left === 0) this.next();
            const n = Math.min(count - i, this.left), space = this.space;
            let index = this.index, pos = this.pos;
            for (let k = 0; k < n; k++, i++, index++) {
                let byte = sizes[at++], size = byte & 127;
                for (let scale = 128; byte > 127; scale *= 128) {
                    byte = sizes[at++];
                    size += (byte & 127) * scale;
                }
                const state = states[i];
                space.pos[index] = pos;
                space.state[index] = state < PADDING ? state : state === FILE_PADDING ? PADDING : TORN;
                if (state >= 4 && state <= 8) space.bin[index] = bins[binAt++];
                pos += size * 16;
            }
            this.index = index;
            this.pos = pos;
            this.left -= n;
            if (this.left === 0 && pos !== this.region.pos + this.region.size) throw badData(`the chunks of the region at ${this.region.start} don't fill it`);
        }
    }
}

// Runs of pages, as positions without pages; neighbours are joined.
function readPages(head, spaces, blocks) {
    const bytes = new Uint8Array(blocks.reduce((sum, block) => sum + block.length, 0));
    let at = 0;
    for (const block of blocks) {
        bytes.set(block, at);
        at += block.length;
    }
    const found = new Map(spaces.map(space => [space, []])), pageSize = head.page_size;
    at = 0;
    for (const { space, region } of places(head, spaces)) {
        let page = Math.floor(region.start / pageSize), left = Math.ceil(region.end / pageSize) - page;
        for (let resident = true; left > 0; resident = !resident) {
            if (at >= bytes.length) throw badData("pages are missing");
            let run = 0, scale = 1, byte;
            do {
                byte = bytes[at++];
                run += (byte & 127) * scale;
                scale *= 128;
            } while (byte > 127);
            if (!resident && run > 0) {
                const from = Math.max(region.start, page * pageSize), to = Math.min(region.start + region.size, (page + run) * pageSize);
                if (to > from) found.get(space).push([region.pos + from - region.start, region.pos + to - region.start]);
            }
            page += run;
            left -= run;
        }
    }
    for (const [space, runs] of found) {
        runs.sort((a, b) => a[0] - b[0]);
        space.absentFrom = Float64Array.from(runs, run => run[0]);
        space.absentTo = Float64Array.from(runs, run => run[1]);
    }
}

// For each state that occurs, and for memory without pages, the bytes below each bucket: the mix of any range of buckets is a difference.
function addSums(space, pageSize) {
    let bucket = pageSize;
    while (space.total / bucket > 1 << 19) bucket *= 2;
    const buckets = Math.ceil(space.total / bucket), Sums = space.total < 2 ** 36 ? Uint32Array : Float64Array;
    space.bucket = bucket;
    space.present = [];
    const seen = new Uint8Array(STATES), { pos, state, count } = space;
    for (let i = 0; i < count; i++) seen[state[i]] = 1;
    space.sums = Array.from(seen, (there, s) => {
        if (there) space.present.push(s);
        return there ? new Sums(buckets + 1) : null;
    });
    const add = (sums, from, to) => {
        for (let b = Math.floor(from / bucket); from < to; b++) {
            const end = Math.min(to, (b + 1) * bucket);
            sums[b + 1] += (end - from) / 16;
            from = end;
        }
    };
    for (let i = 0; i < count; i++) add(space.sums[state[i]], pos[i], pos[i + 1]);
    space.absentSums = new Float64Array(buckets + 1);
    for (let i = 0; i < space.absentFrom.length; i++) add(space.absentSums, space.absentFrom[i], space.absentTo[i]);
    for (const sums of [...space.sums, space.absentSums]) {
        if (sums === null) continue;
        for (let b = 1; b <= buckets; b++) sums[b] += sums[b - 1];
    }
}

const breathe = () => new Promise(resolve => setTimeout(resolve, 0));

// The heap in this document. `progress` is told the share that is done.
export async function readHeap(progress) {
    const element = document.getElementById("heap-head");
    if (element === null) return null;
    const head = JSON.parse(element.textContent);
    if (head.format !== "seemalloc heap data" || head.format_version !== 1)
        throw badData(`found format "${head.format}" version ${head.format_version}, expected "seemalloc heap data" version 1`);
    const spaces = makeSpaces(head), reader = new ChunkReader(head, spaces);
    const chunkBlocks = document.getElementsByClassName("heap-chunks");
    let done = 0;
    for await (const block of inflated(chunkBlocks)) {
        reader.read(block);
        progress(0.8 * ++done / chunkBlocks.length);
    }
    const pageBlocks = [];
    for await (const block of inflated(document.getElementsByClassName("heap-pages"))) pageBlocks.push(block);
    readPages(head, spaces, pageBlocks);
    for (const space of spaces) {
        addSums(space, head.page_size);
        await breathe();
    }
    progress(0.9);
    return { head, spaces, pageSize: head.page_size };
}

// --- looking things up ---

// The last index with sorted[index] <= value, or -1.
export function lastAtMost(sorted, value, count = sorted.length) {
    let low = 0, high = count;
    while (low < high) {
        const middle = low + high >> 1;
        if (sorted[middle] <= value) low = middle + 1;
        else high = middle;
    }
    return low - 1;
}

export const chunkAt = (space, pos) => lastAtMost(space.pos, pos, space.count);

export function regionAt(space, pos) {
    let low = 0, high = space.regions.length;
    while (low < high) {
        const middle = low + high >> 1;
        if (space.regions[middle].pos <= pos) low = middle + 1;
        else high = middle;
    }
    return space.regions[Math.max(0, low - 1)];
}

export function addressAt(space, pos) {
    const region = regionAt(space, pos);
    return region.start + (pos - region.pos);
}

// {space, index} of the chunk that an address lies in, or null.
export function findAddress(heap, address) {
    for (const space of heap.spaces) {
        for (const region of space.regions) {
            if (address < region.start || address >= region.start + region.size) continue;
            return { space, index: chunkAt(space, region.pos + address - region.start) };
        }
    }
    return null;
}

// Bytes of [from, to) that have no page.
export function absentIn(space, from, to) {
    let sum = 0;
    for (let i = Math.max(0, lastAtMost(space.absentFrom, from)); i < space.absentFrom.length && space.absentFrom[i] < to; i++)
        sum += Math.max(0, Math.min(to, space.absentTo[i]) - Math.max(from, space.absentFrom[i]));
    return sum;
}
