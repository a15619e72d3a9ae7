// browser.mjs: pages with heaps of all shapes, opened from files in headless Chromium. What the page shows is compared with the plain list of chunks
// that the walk gave. Times are printed, not asserted. SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { checkThemes, findOnScreen, launch, openPage } from "./steps.mjs";

const { BUILD_DIR, SOURCE_DIR, WEB } = process.env;
const folder = mkdtempSync(join(tmpdir(), "heap-"));
const template = join(SOURCE_DIR, "web/heap.html");
const names = ["in use", "cached", "parked", "inbox", "fast", "unsorted", "small", "large", "last remainder", "purging", "top", "fencepost", "abandoned", "mapped"];

// The page and the list that `command` writes of its heap.
function dump(name, shape, step = 1, command = [join(WEB, "heaps"), ...shape]) {
    const page = join(folder, `${name}.html`), list = join(folder, `${name}.list`), env = { ...process.env };
    for (const key of Object.keys(env)) if (/^(SEEMALLOC_|MALLOC_|LD_|GLIBC_TUNABLES)/.test(key)) delete env[key];
    Object.assign(env, { LD_PRELOAD: join(WEB, "dumper.so"), HEAP_DUMP: page, HEAP_LIST: list, HEAP_LIST_STEP: String(step), HEAP_TEMPLATE: template, HEAP_NAME: name, PYTHONMALLOC: "malloc" });
    const ran = spawnSync(command[0], command.slice(1).map(String), { env, stdio: "inherit" });
    assert.equal(ran.status, 0, command.join(" "));
    const chunks = readFileSync(list, "utf8").trim().split("\n").map(line => {
        const [chunk, mem, size, state, bin, arena] = line.split(" ");
        return { chunk, mem, size: Number(size), state: Number(state), bin: Number(bin), arena: Number(arena) };
    });
    return { page, chunks, bytes: statSync(page).size };
}

const browser = await launch();
const open = (file, options) => openPage(browser, file, options);

// Whatever a page complained about or loaded from elsewhere fails the test.
async function close(page) {
    assert.deepEqual(page.complaints, []);
    await page.close();
}

const shownCard = page => page.evaluate(() => ({ ...document.getElementById("card").dataset, text: document.getElementById("card").innerText }));
const exact = size => size.toLocaleString("en-US") + "\u00a0B";

function assertCard(card, chunk) {
    assert.equal(card.chunk, chunk.chunk);
    assert.equal(Number(card.size), chunk.size);
    assert.equal(Number(card.state), chunk.state);
    assert.ok(card.text.includes(names[chunk.state]), card.text);
    assert.ok(card.text.includes(exact(chunk.size)), `${exact(chunk.size)} in ${card.text}`);
    if (chunk.state !== 11) assert.ok(card.text.includes(chunk.mem), card.text);
}

// Jumps to a chunk, forgets the choice, and clicks on the place where it is now.
async function clickOn(page, chunk) {
    const place = await findOnScreen(page, chunk.mem);
    assert.equal((await shownCard(page)).chunk, undefined);
    await page.mouse.click(place.x, place.y);
    assertCard(await shownCard(page), chunk);
}

// What the page says of fragmentation, worked out from the list in the plainest way: page by page, with every live chunk that touches it.
function fragmentation(chunks, regions) {
    const free = state => state >= 1 && state <= 10, cutFrom = state => state >= 5 && state <= 8 || state === 10, found = { runs: 0, fits: 0, pins: 0, pinKeeps: 0, pagesLive: 0 };
    const starts = new Set(regions.map(region => Number(region.start)));
    let before = null;
    for (const chunk of chunks.filter(chunk => chunk.state !== 13)) {
        const at = Number(chunk.chunk);
        if (free(chunk.state) && (before === null || !free(before.state) || starts.has(at))) found.runs++;
        if (cutFrom(chunk.state)) found.fits = Math.max(found.fits, chunk.size);
        before = chunk;
    }
    const touched = new Map();
    for (const chunk of chunks.filter(chunk => !free(chunk.state) && chunk.state !== 13)) {
        const from = Number(chunk.chunk), to = from + chunk.size;
        for (let page = Math.floor(from / 4096); page * 4096 < to; page++) {
            if (!touched.has(page)) touched.set(page, []);
            touched.get(page).push([chunk, Math.min(to, (page + 1) * 4096) - Math.max(from, page * 4096)]);
        }
    }
    found.pagesLive = touched.size;
    const alone = new Map();
    for (const those of touched.values()) {
        const [chunk, own] = those[0];
        if (those.length > 1 || chunk.state !== 0) continue;
        const kept = alone.get(chunk) ?? { pages: 0, own: 0 };
        alone.set(chunk, { pages: kept.pages + 1, own: kept.own + own });
    }
    for (const { pages, own } of alone.values()) {
        if (own * 2 >= pages * 4096) continue;
        found.pins++;
        found.pinKeeps += pages * 4096;
    }
    return found;
}

const tests = {
    async "a click shows the true size and state"() {
        for (const shape of ["states", "threads"]) {
            const { page: file, chunks } = dump(shape, [shape]), page = await open(file), seen = new Map();
            for (let i = 0; i < chunks.length; i += 1 + Math.floor(chunks.length / 3000)) {
                const chunk = chunks[i], times = seen.get(chunk.state) ?? 0;
                if (times >= 2) continue;
                seen.set(chunk.state, times + 1);
                await clickOn(page, chunk);
            }
            assert.ok(seen.size >= 5, `states seen: ${[...seen.keys()]}`);
            const sums = await page.evaluate(() => ({ bytes: [...seemalloc.facts.bytes], count: [...seemalloc.facts.count] }));
            for (let state = 0; state < 14; state++) {
                const those = chunks.filter(chunk => chunk.state === state);
                assert.equal(sums.count[state], those.length);
                assert.equal(sums.bytes[state], those.reduce((sum, chunk) => sum + chunk.size, 0));
            }
            const { regions, facts } = await page.evaluate(() => {
                const { runs, fits, pins, pinKeeps, pagesLive } = seemalloc.facts;
                return { regions: seemalloc.heap.head.regions, facts: { runs, fits, pins, pinKeeps, pagesLive } };
            });
            assert.deepEqual(facts, fragmentation(chunks, regions));
            assert.ok(facts.pins > 5, `${facts.pins} pins`);
            await close(page);
        }
    },

    async "keys zoom, and go from chunk to chunk"() {
        const { page: file, chunks } = dump("keys", ["states"]), page = await open(file), scale = () => page.evaluate(() => seemalloc.map.scale);
        await page.focus("#canvas canvas");
        const whole = await scale();
        for (let i = 0; i < 6; i++) await page.keyboard.press("+");
        const near = await scale();
        assert.ok(near < whole / 8, `${near} of ${whole}`);
        await page.keyboard.press("-");
        assert.ok(await scale() > near * 1.9);
        await page.keyboard.press("0");
        assert.equal(await scale(), whole);
        await page.keyboard.press("Enter"); // the chunk in the middle
        const card = await shownCard(page), index = chunks.findIndex(chunk => chunk.chunk === card.chunk);
        assertCard(card, chunks[index]);
        await page.keyboard.press("ArrowRight");
        assertCard(await shownCard(page), chunks[index + 1]);
        await page.keyboard.press("ArrowLeft");
        await page.keyboard.press("ArrowLeft");
        assertCard(await shownCard(page), chunks[index - 1]);
        await page.keyboard.press("Enter");
        const { x, y, width } = await page.evaluate(() => seemalloc.map.placeOf(seemalloc.map.selected));
        assert.ok(x > 0 && y > 0 && width > 20, `after Enter the chunk is ${width} pixels wide`);
        await page.keyboard.press("?");
        assert.ok(await page.evaluate(() => document.getElementById("help-box").open));
        await page.keyboard.press("Escape");
        assert.ok(!await page.evaluate(() => document.getElementById("help-box").open));
        await close(page);
    },

    async "the wheel zooms around the pointer, dragging moves what is under it"() {
        const page = await open(dump("wheel", ["threads"]).page);
        const box = await page.locator("#canvas canvas").boundingBox(), x = Math.round(box.x + box.width * 0.6), y = Math.round(box.y + box.height * 0.5);
        const under = (x, y) => page.evaluate(([x, y]) => {
            const { map } = seemalloc, box = map.canvas.getBoundingClientRect();
            return { pos: map.positionAt(x - box.left, y - box.top), scale: map.scale };
        }, [x, y]);
        await page.mouse.move(x, y);
        let before = await under(x, y);
        for (let i = 0; i < 12; i++) {
            await page.mouse.wheel(0, -200);
            const after = await under(x, y);
            assert.ok(after.scale < before.scale && Math.abs(after.pos - before.pos) <= 16 + 2 * before.scale, `from ${JSON.stringify(before)} to ${JSON.stringify(after)}`);
            before = after;
        }
        await page.mouse.down();
        for (let i = 1; i <= 40; i++) await page.mouse.move(x + i, y);
        const dragged = await under(x + 40, y);
        assert.ok(Math.abs(dragged.pos - before.pos) <= 16 + 6 * before.scale, `from ${JSON.stringify(before)} to ${JSON.stringify(dragged)}`);
        await page.mouse.up();
        assert.equal((await shownCard(page)).chunk, undefined, "a drag is no click");
        await close(page);
    },

    // With PICTURE=FILE it takes more memory, and a picture of the page is kept there.
    async "a real program: python3"() {
        const { PICTURE } = process.env;
        const { page: file, chunks } = dump("python3", [], 1, ["python3", join(SOURCE_DIR, "test/web/work.py"), PICTURE ? 260 : 12]), page = await open(file);
        const sizes = await page.evaluate(() => seemalloc.heap.spaces.map(space => space.count));
        assert.equal(sizes.reduce((a, b) => a + b), chunks.length);
        for (let i = 1; i <= 5; i++) await clickOn(page, chunks[Math.floor(chunks.length * i / 6)]);
        await close(page);
        if (!PICTURE) return;
        const fresh = await open(file);
        await fresh.evaluate(() => seemalloc.map.zoom(6, 300, 200));
        await fresh.screenshot({ path: PICTURE });
        await close(fresh);
    },

    async "tab reaches the map, and every control has a name"() {
        const page = await open(dump("tab", ["states"]).page);
        let reached = false;
        for (let i = 0; i < 40 && !reached; i++) {
            await page.keyboard.press("Tab");
            reached = await page.evaluate(() => document.activeElement.tagName === "CANVAS");
        }
        assert.ok(reached, "40 times Tab");
        const nameless = await page.evaluate(() => [...document.querySelectorAll("button, a, input, canvas[tabindex], [role=img]")]
            .filter(element => !(element.getAttribute("aria-label") || element.textContent.trim())).map(element => element.outerHTML));
        assert.deepEqual(nameless, []);
        await close(page);
    },

    async "light and dark, wide and narrow"() {
        const { page: file } = dump("looks", ["threads"]);
        const light = await open(file), dark = await open(file, { colorScheme: "dark" });
        await checkThemes(light, dark);
        await close(light);
        await close(dark);
        for (const width of [360, 700, 1280]) {
            const page = await open(file, { width });
            const wide = await page.evaluate(() => document.documentElement.scrollWidth);
            assert.ok(wide <= width, `the page is ${wide} wide in a window of ${width}`);
            await close(page);
        }
    },

    async "what has no chunk, and what can't be read"() {
        const text = readFileSync(template, "utf8"), file = join(folder, "made.html"), place = "<!--seemalloc heap data-->";
        const filled = head => writeFileSync(file, text.replace(place, () => `<script type="application/json" id="heap-head">${JSON.stringify(head)}</script>`));
        const head = { format: "seemalloc heap data", format_version: 1, process: "none", pid: 0, version: "0", read: "core", torn: false, page_size: 4096, real_time: 0, clock: "0",
            states: names, regions: [], arenas: [], caches: [], settings: [], events: [], samples: [], calls: [], counters: [], ledger: [] };
        filled(head);
        const empty = await open(file);
        assert.match(await empty.innerText("#finding-list"), /The heap is empty/);
        await close(empty);

        writeFileSync(file, text);
        const bare = await browser.newPage();
        await bare.goto(`file://${file}`);
        await bare.waitForFunction(() => /template/.test(document.getElementById("progress").textContent));
        await bare.close();

        for (const [change, message] of [[{ format_version: 2 }, /version 2, expected/],
            [{ regions: [{ kind: "brk", arena: 0, start: "0x1000", end: "0x2000", limit: "0x2000", chunks: 1 }] }, /can't be read/]]) {
            filled({ ...head, ...change });
            const page = await open(file, { ready: "failed" });
            assert.match(await page.innerText("#progress"), message);
            await page.close();
        }
    },

    async "what is torn, huge or in many regions"() {
        const file = join(folder, "fed.html"), ran = spawnSync(join(WEB, "feed"), [template], { maxBuffer: 1 << 26 });
        assert.equal(ran.status, 0, String(ran.stderr));
        writeFileSync(file, ran.stdout);
        const page = await open(file);
        assert.match(await page.innerText("h1"), /^"\\<\/script>/);
        assert.match(await page.innerText("#finding-list"), /Parts of the heap could not be read/);
        await clickOn(page, { chunk: "0x10200", mem: "0x10210", size: 256, state: 6 });
        await clickOn(page, { chunk: "0x13e700040", mem: "0x13e700050", size: 32, state: 0 });
        await clickOn(page, { chunk: "0x7f0000010000", mem: "0x7f0000010010", size: 2 ** 37 - 2 ** 16, state: 13 });
        await page.fill("#jump-to", "0x5");
        await page.press("#jump-to", "Enter");
        assert.match(await page.evaluate(() => document.getElementById("jump-to").validationMessage), /No chunk lies/);
        await close(page);
    },

    async "five million chunks"() {
        const available = Number(/MemAvailable:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))[1]) / (1 << 20);
        const share = available > 8 ? 1 : 0.1; // GiB: the heap has two of them, and the browser needs one
        const began = performance.now(), { page: file, chunks, bytes } = dump("big", ["big", 6400000 * share, 2 ** 31 * share], 9973), made = performance.now();
        const page = await open(file);
        const sums = await page.evaluate(() => ({ chunks: seemalloc.facts.chunks, heap: seemalloc.facts.heapBytes, counters: seemalloc.facts.counters,
            mapped: seemalloc.heap.spaces.filter(space => space.mapped).reduce((sum, space) => sum + space.total, 0) }));
        assert.ok(sums.chunks > 5e6 * share && sums.chunks >= (chunks.length - 1) * 9973, `${sums.chunks} chunks`);
        assert.equal(sums.heap, sums.counters.heap_bytes);
        assert.equal(sums.mapped, sums.counters.mapped_bytes);
        const wrong = await page.evaluate(chunks => chunks.filter(chunk => {
            const address = Number(chunk.chunk), regions = seemalloc.heap.spaces.flatMap(space => space.regions.map(region => ({ space, region })));
            const { space, region } = regions.find(({ region }) => address >= region.start && address < region.end), pos = region.pos + address - region.start;
            let low = region.first, high = region.first + region.chunks; // the first at or behind pos
            while (low < high) {
                const middle = low + high >> 1;
                if (space.pos[middle] < pos) low = middle + 1;
                else high = middle;
            }
            return space.pos[low] !== pos || space.pos[low + 1] - pos !== chunk.size || space.state[low] !== chunk.state || chunk.bin >= 0 && space.bin[low] !== chunk.bin;
        }), chunks);
        assert.deepEqual(wrong, []);
        for (const chunk of [chunks[1], chunks[chunks.length >> 1]]) await clickOn(page, chunk);
        console.log(`    ${sums.chunks} chunks in ${(sums.heap / 2 ** 30).toFixed(2)} GiB: made in ${((made - began) / 1000).toFixed(1)} s`);
        await times(page, bytes);
        await close(page);
    },

    async "five million chunks without order"() {
        const count = 5000000, file = join(folder, "disorder.html"), out = openSync(file, "w"), began = performance.now();
        assert.equal(spawnSync(join(WEB, "feed"), [template, String(count)], { stdio: ["ignore", out, "inherit"] }).status, 0);
        closeSync(out);
        console.log(`    written in ${((performance.now() - began) / 1000).toFixed(1)} s`);
        const page = await open(file);
        assert.equal(await page.evaluate(() => seemalloc.facts.chunks), count + 1);
        await times(page, statSync(file).size);
        await close(page);
    },
};

// Prints what the page takes: its file, until it is open, and the frames of a walk from the whole heap to single chunks and along them.
async function times(page, bytes) {
    const { opened, frames } = await page.evaluate(() => {
        const { map } = seemalloc, frames = [];
        map.fit();
        for (let step = 0; step < 60; step++) {
            step < 40 ? map.zoom(1.5, 300, 200) : map.pan(map.width);
            const began = performance.now();
            map.paint();
            frames.push(performance.now() - began);
        }
        return { opened: seemalloc.openedAfter, frames: frames.sort((a, b) => a - b) };
    });
    console.log(`    page ${(bytes / 2 ** 20).toFixed(2)} MiB, open after ${(opened / 1000).toFixed(2)} s; a frame takes ${frames[30].toFixed(1)} ms (median), ${frames[59].toFixed(1)} ms (most)`);
}

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
    const began = performance.now();
    try {
        await test();
        console.log(`ok      ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
        failed++;
        console.log(`FAILED  ${name}\n${error.stack}`);
    }
}
await browser.close();
rmSync(folder, { recursive: true });
process.exit(failed > 0 ? 1 : 0);
