// page.js: the page: reads the heap, then fills each section. SPDX-License-Identifier: MIT
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { BUCKETS, analyse, bucketFrom } from "./analyse.js";
import { Timeline, columns } from "./charts.js";
import { addressAt, chunkAt, findAddress, readHeap } from "./data.js";
import { $, el, finding, hint, pressed, table, tiles } from "./dom.js";
import { address, bytes, count, exact, percent, plural, seconds } from "./format.js";
import { HeapMap, Painter, makePalette } from "./map.js";
import { PADDING, isFree, isLive, states } from "./states.js";
import { watchTheme } from "./theme.js";
import { describe, findings } from "./words.js";

const swatch = state => el("span", { class: "swatch", style: `background: var(--state-${state}); color: ${palette.states[state].text}`, "aria-hidden": "true" }, states[state].letter);

let heap, facts, map, palette, timeline;

// --- light and dark ---

function applyTheme(dark) {
    palette = makePalette(dark);
    if (!heap) return;
    map.setPalette(palette);
    drawStrips();
    drawLegend();
    drawCharts();
    if (map.selected >= 0) drawCard(map.space, map.selected);
}

// --- header and key figures ---

function drawHeader() {
    const { head } = heap, name = head.process || "a process", when = new Date(head.real_time);
    document.title = `${name}: its heap`;
    $("title").textContent = name;
    const how = { frozen: "read while it was stopped", live: "read while it ran", core: "from a core file", snapshot: "from a snapshot" }[head.read] ?? head.read;
    $("subtitle").textContent = [head.pid ? `process ${head.pid}` : null, `seemalloc ${head.version}`, when.toISOString().replace("T", " ").slice(0, 19) + " UTC",
        how + (head.torn ? ", in parts torn" : "")].filter(Boolean).join(" · ");
    const last = head.samples.at(-1), taken = heap.spaces.reduce((sum, s) => sum + s.total, 0);
    $("figures").replaceChildren(...tiles([
        ["In use", bytes(facts.live), `${plural(facts.count[0] + facts.count[13], "block")}`],
        ["Taken from the system", bytes(taken), `${percent(facts.live, taken)} of it in use`],
        ["Free below the top", bytes(facts.binned + facts.unmerged), plural(facts.runs, "free run")],
        ["Kept ready", bytes(facts.unmerged), "in caches and fast lists"],
        ["In memory", bytes(facts.residentAll), `${percent(facts.residentAll, taken)} of what was taken`],
        last ? ["RSS of the process", bytes(last.resident), `${plural(last.minor_faults, "minor fault")}`] : null,
    ]));
}

// --- map: arenas, legend, card ---

let spaceIndex = 0;

function drawSpaces() {
    $("spaces").replaceChildren(...heap.spaces.map((space, i) => {
        const sums = facts.perSpace.get(space), live = sums.bytes[0] + sums.bytes[13];
        return el("button", { type: "button", "aria-pressed": String(i === spaceIndex), class: "space", onclick: () => chooseSpace(i),
            "aria-label": `${space.name}, ${bytes(space.total)}, ${percent(live, space.total)} in use` },
            el("span", { class: "space-name" }, space.name), el("span", { class: "strip" }, el("canvas", { height: 12, "aria-hidden": "true" }), el("span", { class: "window" })),
            el("span", { class: "space-size" }, bytes(space.total)), el("span", { class: "soft space-share" }, `${percent(live, space.total)} in use`));
    }));
    drawStrips();
}

function drawStrips() {
    for (const [i, button] of [...$("spaces").children].entries()) {
        const canvas = button.querySelector("canvas"), space = heap.spaces[i], ratio = devicePixelRatio || 1;
        const width = Math.round(canvas.parentElement.clientWidth * ratio), height = Math.round(14 * ratio);
        if (width === 0 || space.total === 0) continue;
        canvas.width = width;
        canvas.height = height;
        const image = new ImageData(width, height);
        new Painter(space, palette, map.spotlight, new Uint32Array(image.data.buffer), width).row(0, space.total / width, 0, height);
        canvas.getContext("2d").putImageData(image, 0, 0);
    }
    drawWindow();
}

function drawWindow() {
    if (!map?.space) return;
    for (const [i, button] of [...$("spaces").children].entries()) {
        const window = button.querySelector(".window"), shown = i === spaceIndex && map.space.total > 0 && map.span < map.space.total * 0.999;
        window.hidden = !shown;
        if (!shown) continue;
        window.style.left = `${100 * map.start / map.space.total}%`;
        window.style.width = `max(4px, ${100 * Math.min(1, map.span / map.space.total)}%)`;
    }
    const perPixel = map.scale >= 1 ? `${bytes(map.scale)} a pixel` : `${(1 / map.scale).toFixed(1)} pixels a byte`;
    $("where").textContent = map.space.total === 0 ? "" : `${bytes(Math.min(map.span, map.space.total))} in view · ${perPixel}`;
}

function chooseSpace(i) {
    spaceIndex = i;
    [...$("spaces").children].forEach((button, k) => button.setAttribute("aria-pressed", String(k === i)));
    map.setSpace(heap.spaces[i]);
    drawCard(null, -1);
    drawLegend();
}

function drawLegend() {
    const space = map.space, sums = space ? facts.perSpace.get(space) : facts;
    const row = (name, state) => {
        const there = sums.count[state] > 0;
        return el("button", { type: "button", class: "state", "aria-pressed": String(map.spotlight === state), disabled: there ? null : "", title: states[state].means,
            onclick: () => spotlight(map.spotlight === state ? -1 : state) },
            swatch(state), el("span", {}, name), el("span", { class: "number" }, there ? bytes(sums.bytes[state]) : "–"), el("span", { class: "number soft" }, there ? count(sums.count[state]) : ""));
    };
    $("legend-title").textContent = space ? `States in ${space.mapped ? "mapped blocks" : space.name}` : "States";
    const shown = states.map((state, i) => [state.name, i]).filter(([, i]) => i < PADDING || sums.count[i] > 0);
    $("legend").replaceChildren(...shown.map(([name, i]) => row(name, i)),
        el("div", { class: "state hatch-key" }, el("span", { class: "swatch hatched" }), el("span", {}, "without memory"), el("span", { class: "number" }, bytes(sums.absent)), el("span")));
}

function spotlight(state) {
    map.spotlight = state;
    map.draw();
    drawStrips();
    drawLegend();
}

function drawCard(space, index) {
    const card = $("card");
    if (!space || index < 0) {
        card.replaceChildren(el("p", { class: "soft empty" }, "Pick a chunk in the map: click, or arrow keys."));
        delete card.dataset.chunk;
        return;
    }
    const facts = describe(heap, space, index), line = (name, value) => value === null ? null : el("div", { class: "fact" }, el("dt", {}, name), el("dd", {}, value));
    const neighbour = (name, at) => at === null ? line(name, "none") : line(name, el("button", { type: "button", class: "link", onclick: () => map.select(at) },
        swatch(space.state[at]), `${states[space.state[at]].name}, ${bytes(space.pos[at + 1] - space.pos[at])}`));
    card.dataset.chunk = address(facts.start);
    card.dataset.size = facts.size;
    card.dataset.state = facts.state;
    card.replaceChildren(
        el("h3", { class: "card-title" }, swatch(facts.state), el("span", {}, states[facts.state].name), el("strong", {}, bytes(facts.size))),
        el("p", { class: "soft" }, states[facts.state].means),
        el("dl", {}, line("chunk", el("code", {}, address(facts.start))), line("mem", facts.mem === null ? null : el("code", {}, address(facts.mem))), line("size", exact(facts.size)),
            line("usable", facts.usable === null ? null : exact(facts.usable)), line("bin", facts.bin), line("arena", facts.arena),
            line("region", `${facts.region.kind}, ${address(facts.region.start)}, ${bytes(facts.region.end - facts.region.start)}`),
            line("pages", facts.absent === 0 ? `${count(facts.pages)}, all in memory` : `${count(facts.pages)}; ${bytes(facts.absent)} without memory`),
            neighbour("before", facts.previous), neighbour("after", facts.next)),
        el("h4", {}, "To free it"), el("p", {}, facts.freeing),
        el("button", { type: "button", onclick: () => map.select(index, "zoom") }, "Zoom to it"));
}

function hintInMap(tip, x, y) {
    const host = $("canvas").getBoundingClientRect();
    hint(tip, host.left + x, host.top + y);
}

function show(target, chunk = true) {
    const i = heap.spaces.indexOf(target.space);
    if (i !== spaceIndex || map.space !== target.space) chooseSpace(i);
    map.select(target.index ?? chunkAt(target.space, target.pos), chunk ? "zoom" : undefined);
    $("map").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function jump(text) {
    const input = $("jump-to"), value = /^\s*(0x)?[0-9a-f]+\s*$/i.test(text) ? parseInt(text.trim().replace(/^0x/i, ""), 16) : NaN;
    const found = Number.isFinite(value) ? findAddress(heap, value) : null;
    input.setCustomValidity(found ? "" : Number.isFinite(value) ? "No chunk lies at this address." : "An address is hexadecimal, such as 0x55d01c2a0.");
    if (!found) return input.reportValidity();
    show(found);
    map.canvas.focus({ preventScroll: true });
    return true;
}

// --- findings ---

function drawFindings() {
    $("finding-list").replaceChildren(...findings(heap, facts).map(found =>
        finding(found, found.show ? el("button", { type: "button", onclick: () => show(found.show) }, "Show in the map") : null)));
}

// --- charts ---

let sizeUnit = "bytes";

function drawSizes() {
    const inUse = sizeUnit === "bytes" ? facts.liveBytes : facts.liveCount, free = sizeUnit === "bytes" ? facts.freeBytes : facts.freeCount;
    let last = 24;
    for (let i = 0; i < BUCKETS; i++) if (inUse[i] > 0 || free[i] > 0) last = Math.max(last, i + 1);
    const buckets = Array.from({ length: last }, (_, i) => i), format = sizeUnit === "bytes" ? bytes : count;
    columns($("size-chart"), {
        title: `Histogram of chunk sizes, in use and free, in ${sizeUnit}`, unit: sizeUnit, tickEvery: last > 60 ? 16 : 8, height: 220,
        labels: buckets.map(i => i % 4 === 0 ? bytes(bucketFrom(i)) : ""),
        series: [{ name: "in use", colour: "var(--state-0)", values: buckets.map(i => inUse[i]) }, { name: "free", colour: "var(--state-7)", values: buckets.map(i => free[i]) }],
        tips: buckets.map(i => `${bytes(bucketFrom(i))} to ${bytes(bucketFrom(i + 1))}: in use ${format(inUse[i])}, free ${format(free[i])}`),
    });
}

function drawHoles() {
    let first = BUCKETS, last = 8;
    for (let i = 0; i < BUCKETS; i++) {
        if (facts.runCount[i] === 0) continue;
        first = Math.min(first, i);
        last = Math.max(last, i + 1);
    }
    first = Math.min(first - first % 4, 8);
    const buckets = Array.from({ length: Math.max(24, last - first) }, (_, i) => i + first);
    columns($("hole-chart"), {
        title: "Bytes in free runs by the size of the run", unit: "bytes", tickEvery: buckets.length > 48 ? 16 : 8, height: 170,
        labels: buckets.map(i => i % 4 === 0 ? bytes(bucketFrom(i)) : ""),
        series: [{ name: "free", colour: "var(--state-7)", values: buckets.map(i => facts.runBytes[i] ?? 0) }],
        tips: buckets.map(i => `runs of ${bytes(bucketFrom(i))} to ${bytes(bucketFrom(i + 1))}: ${bytes(facts.runBytes[i] ?? 0)} in ${count(facts.runCount[i] ?? 0)}`),
    });
    const pageBytes = facts.pagesLive * heap.pageSize;
    const list = [
        ["free, share of the heap", percent(facts.freeHeap, facts.heapBytes)], ["largest request that fits", facts.fits > 0 ? exact(facts.fits - 8) : "none"],
        ["free runs", `${count(facts.runs)}, ${bytes(facts.runs > 0 ? facts.freeHeap / facts.runs : 0)} on average`], ["whole free pages in memory", bytes(facts.purgeable)],
        ["pages with a live block", pageBytes > 0 ? `${bytes(pageBytes)}, ${percent(facts.bytes[0], pageBytes)} full` : "none"], ["pins", facts.pins > 0 ? `${count(facts.pins)}, keeping ${bytes(facts.pinKeeps)}` : "none"],
    ];
    $("hole-facts").replaceChildren(el("dl", { class: "facts" }, ...list.map(([name, value]) => el("div", { class: "fact" }, el("dt", {}, name), el("dd", {}, value)))));
    const link = target => el("button", { type: "button", class: "link", onclick: () => show(target) }, el("code", {}, address(Math.floor(addressAt(target.space, target.pos ?? target.space.pos[target.index])))));
    $("run-table").replaceChildren(facts.largestRuns.length > 0 ? table([["from", ""], ["bytes", "number"]], facts.largestRuns.slice(0, 8).map(run => [link(run), bytes(run.value)])) : el("p", { class: "soft" }, "No free memory."));
    $("pin-table").replaceChildren(facts.largestPins.length > 0 ? table([["chunk", ""], ["its bytes there", "number"], ["keeps", "number"]], facts.largestPins.slice(0, 8).map(pin => [link(pin), bytes(pin.own), bytes(pin.keeps)]))
        : el("p", { class: "soft" }, "No block keeps a page that is mostly free."));
}

function drawBins() {
    drawBinCharts();
    drawMagazines();
}

function drawBinCharts() {
    const fast = [], bins = [];
    for (let i = 0; i < 64; i++) if (facts.fastCount[i] > 0) fast.push(i);
    for (let i = 1; i < 127; i++) bins.push(i);
    if (facts.binned + facts.bytes[4] === 0) {
        for (const host of ["bin-bytes", "bin-count"]) $(host).replaceChildren(el("p", { class: "soft" }, "No chunk is in a bin."));
        return;
    }
    const labels = [...fast.map((_, k) => k === 0 ? "fast" : ""), ...bins.map(i => i === 1 ? "unsorted" : i % 16 === 0 ? String(i) : "")];
    const name = i => i === 1 ? "unsorted" : i < 64 ? `bin ${i}, ${16 * i} B` : `bin ${i}, large`;
    const tips = [...fast.map(i => `fast bin ${i}, ${16 * (i + 2)} B: ${bytes(facts.fastBytes[i])} in ${count(facts.fastCount[i])}`), ...bins.map(i => `${name(i)}: ${bytes(facts.binBytes[i])} in ${plural(facts.binCount[i], "chunk")}`)];
    for (const [host, unit, fastValues, binValues] of [["bin-bytes", "bytes", facts.fastBytes, facts.binBytes], ["bin-count", "count", facts.fastCount, facts.binCount]]) {
        // One series a kind, so that each bin has the colour of its state.
        const values = [...fast.map(i => fastValues[i]), ...bins.map(i => binValues[i])], kind = (_, k) => k < fast.length ? 4 : bins[k - fast.length] === 1 ? 5 : bins[k - fast.length] < 64 ? 6 : 7;
        columns($(host), { title: `${unit === "bytes" ? "Bytes" : "Chunks"} in each bin`, unit, labels, tips, height: 170, stacked: true,
            series: [4, 5, 6, 7].map(state => ({ name: states[state].name, colour: `var(--state-${state})`, values: values.map((value, k) => kind(value, k) === state ? value : 0) })) });
    }
}

function drawMagazines() {
    const classes = new Map();
    for (const cache of heap.head.caches) {
        for (const magazine of cache.magazines) {
            const sum = classes.get(magazine.block_size) ?? { blocks: 0, limit: 0 };
            sum.blocks += magazine.blocks;
            sum.limit += magazine.limit;
            classes.set(magazine.block_size, sum);
        }
    }
    const sizes = [...classes.keys()].sort((a, b) => a - b);
    if (sizes.length === 0) {
        $("magazine-chart").replaceChildren(el("p", { class: "soft" }, "No cache holds anything."));
        $("cache-table").replaceChildren(el("p", { class: "soft" }, "No thread has a cache."));
        return;
    }
    columns($("magazine-chart"), { title: "Bytes in magazines by block size", unit: "bytes", height: 190, stacked: true, tickEvery: 1,
        labels: sizes.map((size, i) => i % Math.ceil(sizes.length / 7) === 0 ? bytes(size) : ""),
        series: [{ name: "cached", colour: "var(--state-1)", values: sizes.map(size => size * classes.get(size).blocks) }, { name: "room", colour: "var(--room)", values: sizes.map(size => size * Math.max(0, classes.get(size).limit - classes.get(size).blocks)) }],
        tips: sizes.map(size => `blocks of ${bytes(size)}: ${count(classes.get(size).blocks)} cached, room for ${count(classes.get(size).limit)}`) });
    const rows = heap.head.caches.map((cache, i) => ({ name: cache.thread ? `thread ${cache.thread}` : `thread ${i + 1}`, arena: cache.arena,
        held: cache.magazines.reduce((sum, m) => sum + m.block_size * m.blocks, 0), limit: cache.magazines.reduce((sum, m) => sum + m.block_size * m.limit, 0) })).sort((a, b) => b.held - a.held);
    const most = Math.max(...rows.map(row => Math.max(row.held, row.limit)), 1);
    $("cache-table").replaceChildren(table([["cache", ""], ["arena", "number"], ["held of room", "meter"], ["", "number"]], rows.slice(0, 12).map(row => [row.name, String(row.arena),
        el("span", { class: "meter-bar", role: "img", "aria-label": `${bytes(row.held)} of ${bytes(row.limit)}` }, el("span", { style: `width: ${100 * row.limit / most}%`, class: "room" }), el("span", { style: `width: ${100 * row.held / most}%`, class: "held" })),
        `${bytes(row.held)} / ${bytes(row.limit)}`])), rows.length > 12 ? el("p", { class: "soft" }, `and ${rows.length - 12} more`) : "");
}

function drawCharts() {
    drawSizes();
    drawHoles();
    drawBins();
    timeline.draw();
}

// --- figures ---

function drawFigures() {
    const { head } = heap, totals = states.map((_, i) => i).filter(i => facts.count[i] > 0);
    $("state-table").replaceChildren(table([["state", ""], ["bytes", "number"], ["in memory", "number"], ["chunks", "number"], ["share", "number"]],
        totals.map(i => [el("span", { class: "named" }, swatch(i), states[i].name), bytes(facts.bytes[i]), bytes(facts.resident[i]), count(facts.count[i]), percent(facts.bytes[i], facts.total)])));
    const last = head.samples.at(-1);
    let ledger = head.ledger.map(row => [row.name, row.value]), note = "As the reader summed it up.";
    if (ledger.length === 0) {
        const sum = test => totals.filter(test).reduce((all, i) => all + facts.resident[i], 0);
        ledger = [["in use", sum(isLive)], ["free", sum(isFree)], ["fenceposts, padding and others", sum(i => !isLive(i) && !isFree(i))]];
        if (last) ledger.push(["the rest of the process: code, stacks, the allocator's books", last.resident - ledger.reduce((all, row) => all + row[1], 0)]);
        note = "Resident bytes of chunks by state, from the page table; the rest is what remains to the RSS of the process.";
    }
    const whole = ledger.reduce((all, row) => all + row[1], 0);
    $("ledger").replaceChildren(table([["resident", ""], ["bytes", "number"], ["share", "number"]], [...ledger.map(([name, value]) => [name, bytes(value), percent(value, whole)]), [el("strong", {}, last ? "RSS" : "sum"), el("strong", {}, bytes(whole)), ""]]),
        el("p", { class: "soft remark" }, note));
    const calls = head.calls.filter(call => call.value > 0);
    $("calls").replaceChildren(calls.length > 0 ? table([["reason", ""], ["calls", "number"]], calls.map(call => [call.name, count(call.value)])) : el("p", { class: "soft" }, "None."));
    const inBytes = name => /bytes|peak|threshold/.test(name);
    $("counters").replaceChildren(table([["name", ""], ["value", "number"]], head.counters.map(c => [c.name.replaceAll("_", " "), inBytes(c.name) ? (c.value >= 2 ** 60 ? "no limit" : bytes(c.value)) : count(c.value)])),
        head.settings.length > 0 ? table([["setting", ""], ["value", "number"], ["set by", ""]], head.settings.map(s => [s.name, s.unit === "bytes" ? bytes(s.value) : `${count(s.value)} ${s.unit}`, s.source]))
            : el("p", { class: "soft remark" }, "All settings have their defaults."));
    const regions = heap.spaces.flatMap(space => space.regions.map(region => [space, region]));
    $("regions").replaceChildren(table([["region", ""], ["kind", ""], ["of", ""], ["bytes", "number"], ["reserved", "number"], ["chunks", "number"]], regions.slice(0, 200).map(([space, region]) => [
        el("button", { type: "button", class: "link", disabled: region.chunks === 0 ? "" : null, onclick: () => show({ space, index: region.first }, false) }, el("code", {}, `${address(region.start)} – ${address(region.end)}`)),
        region.kind, space.name, bytes(region.end - region.start), region.limit > region.end ? bytes(region.limit - region.end) : "–", count(region.chunks)])),
        regions.length > 200 ? el("p", { class: "soft" }, `and ${count(regions.length - 200)} more`) : "");
    const clock = Number(head.clock);
    $("event-table").replaceChildren(head.events.length > 0 ? table([["when", "number"], ["call", ""], ["address", ""], ["bytes", "number"]], [...head.events].reverse().map(event => [
        seconds((Number(event.time) - clock) / 1e9), event.call, el("code", {}, event.address), bytes(event.size)])) : el("p", { class: "soft" }, "None is recorded."));
    $("time-note").textContent = head.samples.length > 1 ? "Lines are samples; “from system” follows from the calls below. Drag to zoom, double click for all."
        : head.events.length > 0 ? "One sample only: the line “from system” follows from the system calls that are recorded. Drag to zoom, double click for all." : "One sample only, and no system call is recorded.";
}

function eventWords(event) {
    $("event").textContent = event ? `${seconds(event.x)}: ${event.call}, ${bytes(event.size)} at ${event.address}` : "";
}

// --- start ---

function listen() {
    $("help").addEventListener("click", () => $("help-box").showModal());
    $("zoom-in").addEventListener("click", () => map.zoom(2));
    $("zoom-out").addEventListener("click", () => map.zoom(0.5));
    $("zoom-all").addEventListener("click", () => map.fit());
    $("jump").addEventListener("submit", event => { event.preventDefault(); jump($("jump-to").value); });
    $("jump-to").addEventListener("input", () => $("jump-to").setCustomValidity(""));
    for (const [id, unit] of [["size-bytes", "bytes"], ["size-count", "count"]]) {
        $(id).addEventListener("click", () => {
            sizeUnit = unit;
            pressed([["size-bytes", "bytes"], ["size-count", "count"]], unit);
            drawSizes();
        });
    }
    document.addEventListener("keydown", event => {
        if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey || $("help-box").open) return;
        const keys = {
            "?": () => $("help-box").showModal(),
            t: () => $("theme").click(),
            g: () => { $("jump-to").focus(); event.preventDefault(); },
            a: () => { if (heap.spaces.length > 0) chooseSpace((spaceIndex + 1) % heap.spaces.length); },
            "+": () => map.zoom(2), "-": () => map.zoom(0.5), 0: () => map.fit(),
        };
        keys[event.key]?.();
    });
    let waiting;
    addEventListener("resize", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => { drawStrips(); drawCharts(); }, 120);
    });
    addEventListener("hashchange", () => { if (/^#0x/i.test(location.hash)) jump(location.hash.slice(1)); });
}

async function start() {
    watchTheme(applyTheme);
    const status = $("progress"), breathe = () => new Promise(resolve => setTimeout(resolve, 0));
    const read = await readHeap(share => { status.textContent = `Reading the heap … ${Math.round(100 * share)} %`; });
    if (read === null) {
        status.textContent = "This is the template: no heap is in it. seemalloc map PID -o heap.html makes a page of one.";
        return;
    }
    facts = await analyse(read, breathe);
    heap = read;
    status.remove();
    for (const section of document.querySelectorAll("section[hidden]")) section.hidden = false;
    map = new HeapMap($("canvas"), { select: drawCard, moved: drawWindow, hover: hintInMap });
    const counted = facts.heapBytes + facts.bytes[13];
    timeline = new Timeline($("timeline"), heap.head, counted, eventWords);
    listen();
    map.palette = palette;
    drawHeader();
    drawSpaces();
    map.resize();
    if (heap.spaces.length > 0) chooseSpace(0);
    else { drawCard(null, -1); drawLegend(); }
    drawStrips();
    drawFindings();
    drawCharts();
    drawFigures();
    if (/^#0x/i.test(location.hash)) jump(location.hash.slice(1));
    window.seemalloc = { heap, facts, map, openedAfter: performance.now() }; // for the console, and for the tests
    document.documentElement.dataset.ready = "yes";
}

start().catch(error => {
    $("progress").textContent = error.message;
    $("progress").classList.add("bad");
    document.documentElement.dataset.ready = "failed";
    console.error(error);
});
