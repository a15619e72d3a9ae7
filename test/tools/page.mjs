// page.mjs: a real python3, drawn by `seemalloc map PID -o heap.html` from outside, opened from a file in headless Chromium: it complains of nothing, loads
// nothing, and a click on a known block shows its true size and state. With PICTURE=FILE
// it is a larger one, and a picture of it is kept (docs/pictures/heap.png). SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { findOnScreen, launch, openPage } from "../web/steps.mjs";

const { PICTURE, SEEMALLOC_BIN, SEEMALLOC_LIB } = process.env;
const folder = mkdtempSync(join(tmpdir(), "heap-")), file = join(folder, "heap.html");
const work = `
import ast, glob, os, sqlite3, sys, threading
kept, texts = [], {}
for i, name in enumerate(sorted(glob.glob(os.path.join(os.path.dirname(ast.__file__), "*.py")))[:${PICTURE ? 200 : 20}]):
    with open(name, encoding="utf-8", errors="replace") as file:
        text = file.read()
    tree = ast.parse(text)
    if i % 3: kept.append(tree)
    texts[i] = [line for line in text.splitlines() if i % 2 or len(line) > 40]
table = sqlite3.connect(":memory:", check_same_thread=False)
table.execute("create table lines (line)")
def fill():
    table.executemany("insert into lines values (?)", ((line,) for lines in texts.values() for line in lines))
    table.execute("delete from lines where rowid % 3 = 0")
thread = threading.Thread(target=fill)
thread.start(); thread.join()
del kept[::4], tree, text
for i in range(0, len(texts), 5): del texts[i]
print("ready", flush=True)
sys.stdin.read()
`;

const env = { ...process.env };
for (const key of Object.keys(env)) if (/^(SEEMALLOC_|MALLOC_|LD_|GLIBC_TUNABLES)/.test(key)) delete env[key];
const python = spawn("python3", ["-c", work], { env: { ...env, LD_PRELOAD: SEEMALLOC_LIB, PYTHONMALLOC: "malloc" }, stdio: ["pipe", "pipe", "inherit"] });
let browser;
try {
    await new Promise((resolve, reject) => {
        python.stdout.once("data", resolve);
        python.once("exit", () => reject(new Error("python3 ended")));
    });
    const pid = String(python.pid), tool = (...words) => execFileSync(SEEMALLOC_BIN, words, { env, maxBuffer: 1 << 30 });
    tool("map", pid, "-o", file);
    const map = JSON.parse(tool("map", pid, "--json")), chunks = map.regions.flatMap(region => {
        let at = BigInt(region.start);
        return region.chunks.map(([size, state]) => {
            const chunk = { mem: "0x" + (at + 16n).toString(16), address: "0x" + at.toString(16), size, state };
            at += BigInt(size);
            return chunk;
        });
    });

    browser = await launch();
    const page = await openPage(browser, file);
    const shown = await page.evaluate(() => seemalloc.heap.spaces.map(space => space.count).reduce((a, b) => a + b));
    assert.equal(shown, chunks.length + map.blocks.length);
    for (let i = 1; i <= 5; i++) {
        const chunk = chunks[Math.floor(chunks.length * i / 6)];
        const place = await findOnScreen(page, chunk.mem);
        await page.mouse.click(place.x, place.y);
        const card = await page.evaluate(() => ({ ...document.getElementById("card").dataset }));
        assert.deepEqual([card.chunk, Number(card.size), Number(card.state)], [chunk.address, chunk.size, chunk.state]);
    }
    assert.deepEqual(page.complaints, []);
    if (PICTURE) {
        await page.goto(`file://${file}`);
        await page.waitForFunction(() => document.documentElement.dataset.ready);
        await page.evaluate(() => seemalloc.map.zoom(6, 300, 200));
        await page.screenshot({ path: PICTURE });
    }
    console.log(`${chunks.length} chunks, ${map.blocks.length} mapped blocks: the page shows them all`);
} finally {
    python.kill("SIGKILL");
    await browser?.close();
    rmSync(folder, { recursive: true });
}
