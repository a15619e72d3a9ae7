// words.js: a heap and a chunk in plain words. Each finding says how it was computed.
// SPDX-License-Identifier: MIT
import { absentIn, addressAt, regionAt } from "./data.js";
import { bytes, count, exact, percent, plural } from "./format.js";
import { CACHED, FAST, FENCEPOST, INBOX, IN_USE, LAST_REMAINDER, MAPPED, PADDING, PARKED, TOP, UNSORTED, isFree, states } from "./states.js";

const TCACHE_MAX = 128 << 10;

// --- one chunk ---

const binName = (state, bin) => state === FAST ? `fast bin ${bin} (${count(16 * (bin + 2))} B)` : bin === 1 ? "bin 1 (unsorted)" : bin < 64 ? `bin ${bin} (small, ${count(16 * bin)} B)` : `bin ${bin} (large)`;

// All that the card says of chunk `index`.
export function describe(heap, space, index) {
    const { pos, state, bin } = space, from = pos[index], to = pos[index + 1], size = to - from, region = regionAt(space, from), s = state[index];
    const start = addressAt(space, from), overhead = s === MAPPED ? 16 : 8, pageSize = heap.pageSize;
    const absent = absentIn(space, from, to), pages = Math.ceil((start + size) / pageSize) - Math.floor(start / pageSize);
    const isChunk = s < PADDING && s !== FENCEPOST;
    return {
        state: s, size, start, end: start + size, mem: isChunk ? start + 16 : null, usable: isChunk && s !== TOP ? size - overhead : null,
        bin: s >= FAST && s <= LAST_REMAINDER ? binName(s, bin[index]) : null,
        arena: space.name, region, pages, absent,
        previous: index > region.first ? index - 1 : null,
        next: index + 1 < region.first + region.chunks ? index + 1 : null,
        freeing: freeing(heap, space, index),
    };
}

const named = (space, index) => `the ${states[space.state[index]].name} chunk of ${bytes(space.pos[index + 1] - space.pos[index])}`;
const merges = state => state === TOP || state >= UNSORTED && state <= LAST_REMAINDER;

function freeing(heap, space, index) {
    const { pos, state } = space, s = state[index], size = pos[index + 1] - pos[index], region = regionAt(space, pos[index]);
    if (s === MAPPED) {
        return `munmap: its mapping of ${bytes(region.size)} goes back to the system, or is kept for a second if the like of it was soon wanted again. ` +
            `${bytes(region.size - absentIn(space, region.pos, region.pos + region.size))} of it are in memory.`;
    }
    if (s === TOP) return "The top is no block. What is cut from it next begins at its start; free memory at its end goes back when it is more than the trim threshold.";
    if (s === FENCEPOST) return "A fencepost is no block: it ends a region that can't grow any more.";
    if (s === IN_USE) {
        const setting = heap.head.settings.find(setting => setting.name === "tcache_max"), most = setting ? setting.value : TCACHE_MAX;
        if (size - 8 <= most) {
            return `It goes into the freeing thread's magazine for ${bytes(size)} and is the next one handed out from it. If the magazine is full, its older half ` +
                `goes back first. Nothing returns to the system by this alone. ${neighbourWords(space, index, region, "Once it leaves the cache and is merged, it ")}`;
        }
        return neighbourWords(space, index, region, "Too large for a cache: it ");
    }
    if (isFree(s)) return "It is free already: to free it again would end the process with a message (double free).";
    return "It is no block of the program.";
}

function neighbourWords(space, index, region, begin) {
    const { pos, state } = space, before = index > region.first ? index - 1 : -1, after = index + 1 < region.first + region.chunks ? index + 1 : -1;
    let size = pos[index + 1] - pos[index];
    const with_ = [];
    let top = false;
    for (const neighbour of [before, after]) {
        if (neighbour < 0 || !merges(state[neighbour])) continue;
        with_.push(named(space, neighbour));
        size += pos[neighbour + 1] - pos[neighbour];
        top ||= state[neighbour] === TOP;
    }
    if (with_.length === 0) return `${begin}has no neighbour to merge with, and becomes a free chunk of ${bytes(size)} in the unsorted bin.`;
    return `${begin}merges with ${with_.join(" and ")} to ${bytes(size)}, ${top ? "and is the top then." : "in the unsorted bin."}`;
}

// --- the whole heap ---

// {level: "note" | "good" | "look", title, text, how, show: {space, pos} or null}
export function findings(heap, facts) {
    const list = [], { head } = heap, add = (level, title, text, how, show = null) => list.push({ level, title, text, how, show });
    if (facts.chunks === 0) {
        add("note", "The heap is empty", "The allocator holds no chunk: nothing was allocated yet, or all of it went back.", "No region has a chunk.");
        return list;
    }
    const { heapBytes } = facts;

    if (facts.free > 0 && heapBytes > 0) {
        const untouched = untouchedTop(heap), holes = facts.binned + facts.unmerged, share = holes / heapBytes;
        const pinned = facts.pins > 0 ? ` ${bytes(facts.pinKeeps - facts.pinOwn)} more are pinned by ${plural(facts.pins, "chunk")} in use.` : "";
        add(share > 0.5 ? "look" : share < 0.15 ? "good" : "note",
            `${percent(holes, heapBytes)} of the heap lies free below the top`,
            `${bytes(holes)} of ${bytes(heapBytes)}, in ${plural(facts.runs, "free run")}. ${bytes(facts.purgeable)} of it are whole pages in memory that could go back as they are.${pinned}`,
            "Bytes of free chunks other than the top, over the bytes of all arenas. Free run: free chunks side by side. Pages that can go back: inside free runs, resident.",
            facts.largestRuns[0] ? { space: facts.largestRuns[0].space, pos: facts.largestRuns[0].pos } : null);
        if (untouched.bytes >= 1 << 20)
            add("note", `The top is ${bytes(untouched.top)}, ${bytes(untouched.bytes)} of it untouched`,
                "Memory at the end of the heap that has no pages: it costs address space only.", "Bytes of top chunks without a resident page.", untouched.show);
    }
    if (facts.pins > 0) {
        const first = facts.largestPins[0];
        add(facts.pinKeeps > heapBytes / 10 ? "look" : "note", `${plural(facts.pins, "small block")} pin${facts.pins === 1 ? "s" : ""} ${bytes(facts.pinKeeps)}`,
            `They are ${bytes(facts.pinOwn)} on pages that hold nothing else but free memory. The first of them: ${bytes(first.own)} keep ${bytes(first.keeps)}.`,
            "Chunks in use that share no page with another one in use and fill less than half of the pages they touch. A free chunk's header keeps a page as well: the true figure can be lower.",
            { space: first.space, pos: first.space.pos[first.index] });
    }
    for (const end of facts.nearEnd) {
        if (end.bytes < 1 << 20 || end.bytes < heapBytes / 20 || end.chunks > 32) continue;
        add("look", `Freeing ${plural(end.chunks, "block")} near the end would release ${bytes(end.bytes)}`,
            `${bytes(end.resident)} of it are in memory. The ${end.space.name} can only shrink from its end, and ${end.chunks === 1 ? "this block stands" : "these blocks stand"} between it and memory that is free.`,
            "From the end of the newest region downwards: bytes that would be free without a live block above them, for up to 64 blocks; the fewest that give 80 % of that.",
            { space: end.space, pos: end.space.pos[end.index] });
    }
    const unmergedShare = facts.unmerged / Math.max(1, heapBytes);
    if (facts.unmerged > 0) {
        const caches = facts.bytes[CACHED], known = head.caches.filter(cache => cache.magazines.some(m => m.blocks > 0)).length;
        const where = [[CACHED, "in thread caches"], [PARKED, "parked"], [INBOX, "in inboxes"], [FAST, "in fast bins"]]
            .filter(([s]) => facts.bytes[s] > 0).map(([s, words]) => `${bytes(facts.bytes[s])} ${words}`).join(", ");
        add(unmergedShare > 0.1 ? "look" : "good", known > 0 && caches > 0 ? `Caches of ${plural(known, "thread")} hold ${bytes(caches)}` : `${bytes(facts.unmerged)} are kept ready`,
            `Free but not merged: ${where}; ${percent(facts.unmerged, heapBytes)} of the heap. It serves the next requests of the same sizes without a search.`,
            "Bytes of chunks that are cached, parked, in an inbox or in a fast bin.");
    }
    if (facts.fits > 0)
        add("note", `The largest request that fits now is ${bytes(facts.fits - 8)}`,
            `A request up to this size needs no system call.${facts.largestRuns[0] && facts.largestRuns[0].value > facts.fits * 1.05 ? ` The largest free run is ${bytes(facts.largestRuns[0].value)}: merging would make more of it.` : ""}`,
            "The largest chunk in a bin or at the top of any arena, less 8 bytes.", { space: facts.fitsIn.space, pos: facts.fitsIn.space.pos[facts.fitsIn.index] });
    const pageBytes = facts.pagesLive * heap.pageSize;
    if (pageBytes > 0 && facts.bytes[IN_USE] > 0)
        add(facts.bytes[IN_USE] / pageBytes < 0.5 ? "look" : "good", `Pages with a live block are ${percent(facts.bytes[IN_USE], pageBytes)} full`,
            `${bytes(facts.bytes[IN_USE])} in use lie on ${bytes(pageBytes)} of pages: less can't be resident while they stay where they are.`,
            "Bytes in use over the bytes of all pages that hold a byte of a chunk in use.");
    const absent = facts.absent;
    if (absent > (1 << 20) && absent > 0.05 * facts.total)
        add("good", `${bytes(absent)} of the heap cost no memory`,
            `${percent(absent, facts.total)} of all chunk bytes have no page: never touched, or given back.`, "Bytes on pages that the kernel says are not present, swapped ones included.");
    if (facts.bytes[MAPPED] > 0)
        add("note", `${plural(facts.count[MAPPED], "block")} of ${bytes(facts.bytes[MAPPED])} in mappings of their own`,
            `${percent(facts.bytes[MAPPED], facts.live)} of what the program has. Each goes back to the system when it is freed.`, "Chunks in state mapped.");
    const calls = head.calls.reduce((sum, call) => sum + call.value, 0), failures = facts.counters.failures ?? 0;
    if (failures > 0) add("look", `${plural(failures, "system call")} failed`, "The system refused memory, or to take it back. A limit may be in the way.", "The allocator's own count of failed calls.");
    if (calls > 0 && facts.counters.heap_peak)
        add("note", `${plural(calls, "system call")} for a peak of ${bytes(facts.counters.heap_peak)}`,
            `Now ${bytes(heapBytes + facts.bytes[MAPPED])} are taken from the system, ${percent(heapBytes + facts.bytes[MAPPED], facts.counters.heap_peak)} of the peak.`, "System calls counted by reason; the peak as seen when the system was called.");
    if (facts.count[15] > 0 || head.torn)
        add("look", "Parts of the heap could not be read", `${exact(facts.bytes[15])} are shown as torn: they changed while they were read, or are corrupted.`, "Pieces between chunks whose headers made no sense.");
    const rank = { look: 0, note: 1, good: 2 };
    return list.sort((a, b) => rank[a.level] - rank[b.level]);
}

function untouchedTop(heap) {
    let top = 0, untouched = 0, show = null;
    for (const space of heap.spaces) {
        for (const region of space.regions) {
            const last = region.first + region.chunks - 1;
            for (let i = last; i >= Math.max(region.first, last - 1); i--) {
                if (space.state[i] !== TOP) continue;
                top += space.pos[i + 1] - space.pos[i];
                untouched += absentIn(space, space.pos[i], space.pos[i + 1]);
                show ??= { space, pos: space.pos[i] };
            }
        }
    }
    return { top, bytes: untouched, show };
}

