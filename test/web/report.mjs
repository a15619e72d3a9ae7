// report.mjs: pages of recordings of known contents, written by `seemalloc report`, opened from files in headless Chromium. With PICTURE=FILE and
// RECORDING=FILE a picture of the page of that recording is kept besides. SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateSync } from "node:zlib";

import { checkThemes, launch, openPage } from "./steps.mjs";

const { PICTURE, RECORDING, SEEMALLOC_BIN, SOURCE_DIR } = process.env;
const folder = mkdtempSync(join(tmpdir(), "report-"));
assert.equal(spawnSync("python3", [join(SOURCE_DIR, "test/web/recordings.py"), folder], { stdio: "inherit" }).status, 0);

function pageOf(name, file = join(folder, `${name}.rec`)) {
    const page = join(folder, `${name}.html`), ran = spawnSync(SEEMALLOC_BIN, ["report", file, "-o", page], { encoding: "utf8" });
    assert.equal(ran.status, name === "cut" ? 1 : 0, ran.stderr);
    return page;
}

const browser = await launch();
const open = (name, options) => openPage(browser, pageOf(name), options);

// Whatever a page complained about or loaded from elsewhere fails the test.
async function close(page) {
    assert.deepEqual(page.complaints, []);
    await page.close();
}

const card = page => page.evaluate(() => ({ ...document.getElementById("frame-card").dataset }));
const rows = page => page.$$eval("#sites tbody tr:not(.detail)", found => found.map(row => [...row.cells].map(cell => cell.innerText.replaceAll("\u00a0", " "))));

// Where the frame with this text is on the screen.
async function frameAt(page, text) {
    await page.evaluate(() => document.getElementById("flame-panel").scrollIntoView({ behavior: "instant" }));
    return page.evaluate(text => {
        const { flame } = seemalloc, node = flame.boxes.find(({ node }) => flame.tree.frames[node]?.text === text).node;
        const place = flame.middleOf(node), box = flame.canvas.getBoundingClientRect();
        return { x: box.left + place.x, y: box.top + place.y };
    }, text);
}

const tests = {
    async "totals are the known ones"() {
        const page = await open("simple"), text = (await page.innerText("#figures")).replaceAll("\u00a0", " ");
        for (const part of ["Peak in use\n11.7 KiB\n13 blocks, after 25 ms", "Live at the end\n600 B\n6 blocks", "Allocated in all\n15.9 KiB", "Allocations\n19", "Temporary\n37 %\n7 allocations", "Peak RSS\n2.00 MiB"])
            assert.ok(text.includes(part), `${part} in ${text}`);
        assert.equal(await page.innerText("h1"), "program -x");
        assert.match(await page.innerText("#subtitle"), /process 4711 · 2023-11-14 22:13:20 UTC · 60 ms long · ended with status 1/);
        assert.match((await page.innerText("#finding-list")).replaceAll("\u00a0", " "), /600 B are live at the end, most from program\+0x1110/);
        assert.match((await page.innerText("#threads")).replaceAll("\u00a0", " "), /worker \(4712\)\s+3\s+13.7 KiB\s+9.77 KiB\s+0 B/);
        await close(page);
    },

    async "a click on a frame shows its numbers"() {
        const page = await open("simple");
        await page.click("#show-bytes");
        for (const [text, live, peak, bytes, count, temporary] of [["/nowhere/program+0x1100", 600, 2000, 2320, 16, 6], ["/nowhere/program+0x1110", 600, 1000, 1000, 10, 0], ["0x7f0000000130", 0, 10000, 14000, 3, 1]]) {
            await page.evaluate(() => seemalloc.flame.pick(0, true));
            const { x, y } = await frameAt(page, text);
            await page.mouse.click(x, y);
            assert.deepEqual(await card(page), { frame: text, live: String(live), peak: String(peak), bytes: String(bytes), count: String(count), temporary: String(temporary) });
        }
        for (const [button, all] of [["show-live", "600 B"], ["show-peak", "11.7 KiB"], ["show-bytes", "15.9 KiB"], ["show-count", "19"], ["show-temporary", "7"]]) {
            await page.click(`#${button}`);
            assert.equal(await page.getAttribute(`#${button}`, "aria-pressed"), "true");
            assert.equal((await page.evaluate(() => seemalloc.flame.labelOf(0))).replaceAll("\u00a0", " "), `all: ${all}`);
        }
        await page.click("#from-malloc");
        assert.deepEqual(await page.evaluate(() => seemalloc.flame.childrenOf(0).map(node => seemalloc.flame.tree.frames[node].name)), ["program+0x1120", "program+0x1130"]);
        await page.fill("#flame-search", "1130");
        assert.equal((await page.innerText("#flame-found")).replaceAll("\u00a0", " "), "14 % of all");
        await close(page);
    },

    async "keys walk through the flame graph"() {
        const page = await open("simple");
        await page.keyboard.press("3");
        assert.equal(await page.getAttribute("#show-bytes", "aria-pressed"), "true");
        let reached = false;
        for (let i = 0; i < 60 && !reached; i++) {
            await page.keyboard.press("Tab");
            reached = await page.evaluate(() => document.activeElement.tagName === "CANVAS");
        }
        assert.ok(reached, "60 times Tab");
        const steps = [["ArrowDown", "0x7f0000000130"], ["ArrowRight", "/nowhere/program+0x1100"], ["ArrowDown", "/nowhere/program+0x1120"], ["ArrowRight", "/nowhere/program+0x1110"],
            ["ArrowUp", "/nowhere/program+0x1100"], ["ArrowLeft", "0x7f0000000130"]];
        for (const [key, text] of steps) {
            await page.keyboard.press(key);
            assert.equal((await card(page)).frame, text, key);
        }
        const width = () => page.evaluate(() => seemalloc.flame.placeOf(seemalloc.flame.selected).wide);
        const before = await width();
        await page.keyboard.press("Enter");
        assert.ok(await width() > before);
        await page.keyboard.press("Escape");
        assert.equal((await card(page)).frame, "");
        await page.keyboard.press("?");
        assert.ok(await page.evaluate(() => document.getElementById("help-box").open));
        await page.keyboard.press("Escape");
        const nameless = await page.evaluate(() => [...document.querySelectorAll("button, a, input, canvas[tabindex], [role=img]")]
            .filter(element => !(element.getAttribute("aria-label") || element.textContent.trim())).map(element => element.outerHTML));
        assert.deepEqual(nameless, []);
        await close(page);
    },

    async "the table sorts, finds and shows a site"() {
        const page = await open("simple");
        await page.click("#by-stack");
        assert.equal((await rows(page))[0][1], "600 B"); // what is live comes first
        await page.click("#sites [data-sort=temporary]");
        assert.deepEqual((await rows(page)).map(row => row[5]), ["6 (100 %)", "1 (33 %)", "–"]);
        await page.click("#sites [data-sort=temporary]");
        assert.deepEqual((await rows(page)).map(row => row[5]), ["–", "1 (33 %)", "6 (100 %)"]);
        await page.click("#sites [data-sort=bytes]");
        assert.deepEqual((await rows(page)).map(row => row.slice(1)), [["0 B", "9.77 KiB", "13.7 KiB", "3", "1 (33 %)", "4.56 KiB", "24 B"], ["0 B", "1000 B", "1.29 KiB", "6", "6 (100 %)", "220 B", "40 B"],
            ["600 B", "1000 B", "1000 B", "10", "–", "100 B", "40 B"]]);
        await page.fill("#site-search", "0x7f0000000130");
        assert.equal((await rows(page)).length, 1);
        await page.press("#sites tbody button", "Enter");
        const detail = (await page.innerText("#detail")).replaceAll("\u00a0", " ");
        for (const part of ["14,000 B (13.7 KiB) in 3", "3.91 KiB to 5.86 KiB, 4.56 KiB on average", "/nowhere/program+0x1130", "0x7f0000000130", "9 ms on average"]) assert.ok(detail.includes(part), `${part} in ${detail}`);
        const bars = await page.$$eval("#detail svg title", titles => titles.map(title => title.textContent.replaceAll("\u00a0", " ")));
        assert.ok(bars.includes("3.50 KiB to 4.00 KiB: 7.81 KiB in 2"), bars.join("\n"));
        await close(page);
    },

    async "many stacks: sums, and what a finding shows"() {
        const page = await open("wide"), live = i => i % 3 === 0 ? 0 : (i % 7 + 1) * 16 * (i + 1);
        const all = Array.from({ length: 500 }, (_, i) => i), sum = all.reduce((total, i) => total + live(i), 0);
        assert.match(await page.innerText("h1"), /<script>alert\(1\)<\/script>/);
        const sums = await page.evaluate(() => ({ tree: seemalloc.flame.tree.value[0][0], groups: seemalloc.groups.reduce((total, group) => total + group.live, 0),
            inside: seemalloc.flame.childrenOf(0).length, widest: Math.max(...seemalloc.flame.boxes.map(box => box.x + box.wide)), width: seemalloc.flame.host.clientWidth }));
        assert.deepEqual([sums.tree, sums.groups, sums.inside], [sum, sum, 1]);
        assert.ok(sums.widest <= sums.width + 0.01);
        await page.click("#from-malloc");
        assert.equal(await page.evaluate(() => seemalloc.flame.tree.value[0][0]), sum);
        await page.click("#by-stack");
        assert.equal((await rows(page)).length, 30);
        await page.click("text=Show 30 more");
        assert.equal((await rows(page)).length, 60);
        await page.click("#finding-list button >> nth=0");
        assert.ok(await page.isVisible("#detail"));
        await close(page);
    },

    async "what is cut short, sampled, without stacks, or nothing"() {
        for (const [name, words] of [["cut", /The recording was cut short/], ["samples", /These are estimates from samples/], ["without", /3 events were dropped[^]*There are no stacks/], ["nothing", /Nothing was allocated/]]) {
            const page = await open(name);
            assert.match((await page.innerText("#finding-list")).replaceAll("\u00a0", " "), words);
            if (name === "without") assert.match(await page.innerText("#flame"), /Recorded without stacks/);
            if (name === "samples") assert.ok(!await page.isVisible("#show-temporary"));
            await close(page);
        }
        const template = join(SOURCE_DIR, "web/report.html"), bare = await browser.newPage();
        await bare.goto(`file://${template}`);
        await bare.waitForFunction(() => /template/.test(document.getElementById("progress").textContent));
        await bare.close();
        const file = join(folder, "newer.html"), text = readFileSync(template, "utf8");
        const data = deflateSync(JSON.stringify({ format: "seemalloc report", format_version: 2 })).toString("base64");
        writeFileSync(file, text.replace("<!--seemalloc report data-->", () => `<script type="application/octet-stream" id="report-data">${data}</script>`));
        const newer = await openPage(browser, file, { ready: "failed" });
        assert.match(await newer.innerText("#progress"), /version 2, expected "seemalloc report" version 1/);
        await newer.close();
    },

    async "light and dark, wide and narrow"() {
        const light = await open("wide"), dark = await open("wide", { colorScheme: "dark" });
        await checkThemes(light, dark);
        await close(light);
        await close(dark);
        for (const width of [360, 700, 1280]) {
            const page = await open("wide", { width });
            const wide = await page.evaluate(() => document.documentElement.scrollWidth);
            assert.ok(wide <= width, `the page is ${wide} wide in a window of ${width}`);
            await close(page);
        }
    },
};

try {
    for (const [name, test] of Object.entries(tests)) {
        await test();
        console.log(`${name}: good`);
    }
    if (PICTURE) {
        const page = await openPage(browser, pageOf("picture", RECORDING), { width: 1280, height: 1000 });
        await page.screenshot({ path: PICTURE });
        await close(page);
    }
} finally {
    await browser.close();
    rmSync(folder, { recursive: true });
}
