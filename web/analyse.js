// analyse.js: what follows from the chunks: sums, sizes, free runs, pins. One pass over each space, without an object per chunk.
//
//   free run   neighbouring free chunks of whatever state, together
//   pin        a chunk in use that is alone, beside free memory, on at least one page, and less than half of what it keeps there is its own
//
// SPDX-License-Identifier: MIT
import { FAST, IN_USE, LARGE, LAST_REMAINDER, MAPPED, SMALL, STATES, TOP, UNSORTED, isFree, isLive, servesAny } from "./states.js";
import { absentIn } from "./data.js";

const PINS_SHOWN = 12, RUNS_SHOWN = 12;

// Buckets of sizes: four to a doubling, from 32 bytes.
export const bucketOf = size => size < 32 ? 0 : Math.floor(4 * Math.log2(size / 32));
export const bucketFrom = bucket => 32 * 2 ** (bucket / 4);
export const BUCKETS = 4 * 43;

// The largest few of what is offered.
class Largest {
    constructor(room) {
        this.room = room;
        this.items = [];
        this.least = room > 0 ? 0 : Infinity;
    }
    offer(value, make) {
        if (value <= this.least) return;
        this.items.push({ value, ...make() });
        this.items.sort((a, b) => b.value - a.value);
        if (this.items.length > this.room) this.items.pop();
        if (this.items.length === this.room) this.least = this.items[this.room - 1].value;
    }
}

function emptySums() {
    return {
        bytes: new Float64Array(STATES), count: new Float64Array(STATES), resident: new Float64Array(STATES),
        liveBytes: new Float64Array(BUCKETS), liveCount: new Float64Array(BUCKETS), freeBytes: new Float64Array(BUCKETS), freeCount: new Float64Array(BUCKETS),
        binBytes: new Float64Array(128), binCount: new Float64Array(128), fastBytes: new Float64Array(256), fastCount: new Float64Array(256),
        runBytes: new Float64Array(BUCKETS), runCount: new Float64Array(BUCKETS),
        runs: 0, chunks: 0, total: 0, absent: 0, pagesLive: 0, purgeable: 0,
        fits: 0, fitsIn: null, pins: 0, pinKeeps: 0, pinOwn: 0,
    };
}

const bucketCache = new Uint8Array(4096); // of sizes below 64 KiB, by size / 16
for (let i = 1; i < 4096; i++) bucketCache[i] = bucketOf(16 * i);
const bucket = size => size < 65536 ? bucketCache[size >> 4] : bucketOf(size);

function addChunks(sums, space, largestRuns) {
    const { pos, state, bin, count } = space;
    let runFrom = -1, region = 0, boundary = space.regions.length > 1 ? space.regions[1].pos : Infinity;
    const endRun = to => {
        const size = to - runFrom, b = bucket(size);
        sums.runs++;
        sums.runBytes[b] += size;
        sums.runCount[b]++;
        const from = runFrom;
        largestRuns.offer(size, () => ({ space, pos: from }));
        runFrom = -1;
    };
    for (let i = 0; i < count; i++) {
        const from = pos[i], size = pos[i + 1] - from, s = state[i], b = bucket(size);
        while (from >= boundary) {
            if (runFrom >= 0) endRun(boundary);
            region++;
            boundary = region + 1 < space.regions.length ? space.regions[region + 1].pos : Infinity;
        }
        sums.bytes[s] += size;
        sums.count[s]++;
        if (s === IN_USE) {
            sums.liveBytes[b] += size;
            sums.liveCount[b]++;
        } else if (isFreeState[s] && s !== TOP) {
            sums.freeBytes[b] += size;
            sums.freeCount[b]++;
        }
        if (s === FAST) {
            sums.fastBytes[bin[i]] += size;
            sums.fastCount[bin[i]]++;
        } else if (s >= UNSORTED && s <= LAST_REMAINDER) {
            sums.binBytes[bin[i]] += size;
            sums.binCount[bin[i]]++;
        }
        if (servesAnyState[s] && size > sums.fits) {
            sums.fits = size;
            sums.fitsIn = { space, index: i };
        }
        if (isFreeState[s]) {
            if (runFrom < 0) runFrom = from;
        } else if (runFrom >= 0) {
            endRun(from);
        }
    }
    if (runFrom >= 0) endRun(space.total);
    sums.chunks += count;
    sums.total += space.total;
}

const isLiveState = Array.from({ length: STATES }, (_, s) => isLive(s));
const isFreeState = Array.from({ length: STATES }, (_, s) => isFree(s));
const servesAnyState = Array.from({ length: STATES }, (_, s) => servesAny(s));

// Resident bytes of each state: chunks and runs without pages, both in order of position.
function addResident(sums, space) {
    const { pos, state, count, absentFrom, absentTo } = space;
    let run = 0;
    for (let i = 0; i < count; i++) {
        const from = pos[i], to = pos[i + 1];
        let absent = 0;
        while (run < absentFrom.length && absentTo[run] <= from) run++;
        for (let r = run; r < absentFrom.length && absentFrom[r] < to; r++) absent += Math.min(to, absentTo[r]) - Math.max(from, absentFrom[r]);
        sums.resident[state[i]] += to - from - absent;
        sums.absent += absent;
    }
}

// Live chunks, the pages that they touch, and those of them that each has for itself.
function addPages(sums, space, pageSize, largestPins) {
    const { pos, state, count } = space;
    for (const region of space.regions) {
        const shift = region.start - region.pos, end = region.first + region.chunks;
        const lowest = region.start, highest = region.start + region.size;
        let before = -1; // the last page that something before touches
        let held = -1, heldFrom = 0, heldTo = 0; // the live chunk before, and its pages: it waits for the one after it
        const settle = next => {
            if (held < 0) return;
            let first = heldFrom, last = heldTo;
            if (first === before) first++;
            if (last === next) last--;
            before = heldTo;
            const index = held;
            held = -1;
            if (last < first || state[index] !== IN_USE) return;
            const from = Math.max(first * pageSize, lowest), to = Math.min((last + 1) * pageSize, highest);
            const own = Math.min(to, pos[index + 1] + shift) - Math.max(from, pos[index] + shift), keeps = to - from;
            if (own * 2 >= keeps) return;
            sums.pins++;
            sums.pinKeeps += keeps;
            sums.pinOwn += own;
            largestPins.offer(keeps - own, () => ({ space, index, keeps, own }));
        };
        let freeFrom = -1;
        const endFree = to => {
            const from = Math.ceil(freeFrom / pageSize) * pageSize, until = Math.floor(to / pageSize) * pageSize;
            if (until > from) sums.purgeable += until - from - absentIn(space, from - shift, until - shift);
            freeFrom = -1;
        };
        for (let i = region.first; i < end; i++) {
            const from = pos[i] + shift, to = pos[i + 1] + shift;
            if (isFreeState[state[i]]) {
                if (freeFrom < 0) freeFrom = from;
                continue;
            }
            if (freeFrom >= 0) endFree(from);
            const first = Math.floor(from / pageSize), last = Math.floor((to - 1) / pageSize);
            settle(first);
            sums.pagesLive += last - Math.max(first, before + 1) + 1;
            held = i;
            heldFrom = first;
            heldTo = last;
        }
        settle(-1);
        if (freeFrom >= 0) endFree(highest);
    }
}

// The live chunks nearest the end of a break: what freeing them would let go. The end of the break can only fall as far as the highest chunk in use.
const NEAR_END = 64;
function nearEnd(space) {
    const region = space.regions.filter(r => r.kind === "brk" || r.kind === "heap").at(-1);
    if (!region || region.chunks === 0) return null;
    const { pos, state } = space;
    let i = region.first + region.chunks - 1;
    while (i >= region.first && !isLiveState[state[i]]) i--;
    if (i < region.first) return null;
    const before = region.pos + region.size - pos[i + 1], steps = [];
    for (let freed = 0; i >= region.first && freed < NEAR_END; freed++) {
        const index = i--;
        while (i >= region.first && !isLiveState[state[i]]) i--;
        steps.push({ chunks: freed + 1, index, bytes: region.pos + region.size - before - (i >= region.first ? pos[i + 1] : region.pos) });
    }
    const most = steps.at(-1).bytes;
    const enough = steps.find(step => step.bytes >= most * 0.8), end = region.pos + region.size - before;
    return { ...enough, space, resident: enough.bytes - absentIn(space, end - enough.bytes, end) };
}

export async function analyse(heap, breathe) {
    const all = emptySums(), perSpace = new Map(), largestRuns = new Largest(RUNS_SHOWN), largestPins = new Largest(PINS_SHOWN);
    for (const space of heap.spaces) {
        const sums = emptySums();
        addChunks(sums, space, space.mapped ? new Largest(0) : largestRuns);
        addResident(sums, space);
        if (!space.mapped) addPages(sums, space, heap.pageSize, largestPins);
        perSpace.set(space, sums);
        for (const [name, value] of Object.entries(sums)) {
            if (typeof value === "number" && name !== "fits") all[name] += value;
            else if (ArrayBuffer.isView(value)) value.forEach((v, i) => all[name][i] += v);
        }
        if (sums.fits > all.fits) {
            all.fits = sums.fits;
            all.fitsIn = sums.fitsIn;
        }
        await breathe();
    }
    const live = all.bytes[IN_USE] + all.bytes[MAPPED];
    const free = all.bytes.reduce((sum, value, state) => sum + (isFreeState[state] ? value : 0), 0);
    const heapBytes = heap.spaces.reduce((sum, space) => sum + (space.mapped ? 0 : space.total), 0);
    return {
        ...all, perSpace, live, free, heapBytes,
        freeHeap: free, binned: all.bytes[UNSORTED] + all.bytes[SMALL] + all.bytes[LARGE] + all.bytes[LAST_REMAINDER],
        unmerged: all.bytes[1] + all.bytes[2] + all.bytes[3] + all.bytes[4],
        residentAll: all.resident.reduce((a, b) => a + b, 0),
        largestRuns: largestRuns.items, largestPins: largestPins.items,
        nearEnd: heap.spaces.filter(s => !s.mapped).map(nearEnd).filter(Boolean),
        counters: Object.fromEntries(heap.head.counters.map(c => [c.name, c.value])),
    };
}

