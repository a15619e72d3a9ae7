// page.mjs: python3, sqlite3 and the compiler itself, stopped at their work, drawn by `seemalloc map PID -o heap.html` from outside, opened from a file in headless
// Chromium: the page complains of nothing, loads nothing, and a click on a known block shows its true size and state. With PICTURE=FILE python3 is a larger one,
// and a picture of it is kept (docs/pictures/heap.png). SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { findOnScreen, launch, openPage } from "../web/steps.mjs";

const { CC, PICTURE, SEEMALLOC_BIN, SEEMALLOC_LIB, SOURCE_DIR } = process.env;
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
os.kill(os.getpid(), 19)
`;
const rows = `create table t(a, b);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i, hex(i) from n;
create index x on t(b);
delete from t where a % 3 = 0;
.system kill -STOP $PPID
`;

const env = { ...process.env, LD_PRELOAD: SEEMALLOC_LIB, PYTHONMALLOC: "malloc" };
for (const key of Object.keys(env)) if (/^(SEEMALLOC_|MALLOC_|LD_(?!PRELOAD)|GLIBC_TUNABLES)/.test(key)) delete env[key];
const plain = { ...env };
delete plain.LD_PRELOAD;

const run = (words, input) => {
    const program = spawn(words[0], words.slice(1), { env, stdio: ["pipe", "ignore", "inherit"] });
    program.stdin.end(input);
    return program;
};
const compiler = execFileSync(CC, ["-print-prog-name=cc1"], { env: plain, encoding: "utf8" }).trim();
const programs = {
    python3: () => run(["python3", "-c", work]),
    sqlite3: () => run(["sqlite3", "-init", "/dev/null", ":memory:"], rows),
};
if (compiler.startsWith("/")) {
    const include = ["-imultiarch", execFileSync(CC, ["-print-multiarch"], { env: plain, encoding: "utf8" }).trim(), `-I${SOURCE_DIR}/src`, `-I${SOURCE_DIR}/include`];
    programs.cc1 = () => run([compiler, "-quiet", "-O2", "-g", ...include, `${SOURCE_DIR}/src/seemalloc.c`, "-o", "/dev/null"]);
}

const pages = pid => { try { return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]); } catch { return 0; } };
const state = pid => readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /s, "")[0];

// Until it stops; a program that does not stop by itself is stopped in the midst of its work.
async function stopped(program) {
    for (;;) {
        assert.equal(program.exitCode, null, "the program ended");
        if (state(program.pid) === "T") return;
        if (program.spawnfile === compiler && pages(program.pid) > 12000) program.kill("SIGSTOP");
        await new Promise(resolve => setTimeout(resolve, 5));
    }
}

async function check(browser, name, pid) {
    const tool = (...words) => execFileSync(SEEMALLOC_BIN, words, { env: plain, maxBuffer: 1 << 30 });
    tool("map", pid, "-o", file);
    const map = JSON.parse(tool("map", pid, "--json")), chunks = map.regions.flatMap(region => {
        let at = BigInt(region.start);
        return region.chunks.map(([size, state]) => {
            const chunk = { mem: "0x" + (at + 16n).toString(16), address: "0x" + at.toString(16), size, state };
            at += BigInt(size);
            return chunk;
        });
    });
    assert.ok(chunks.length > 300, `${name} has ${chunks.length} chunks`);
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
    if (PICTURE && name === "python3") {
        await page.goto(`file://${file}`);
        await page.waitForFunction(() => document.documentElement.dataset.ready);
        await page.evaluate(() => seemalloc.map.zoom(6, 300, 200));
        await page.screenshot({ path: PICTURE });
    }
    await page.close();
    console.log(`${name}: ${chunks.length} chunks, ${map.blocks.length} mapped blocks: the page shows them all`);
}

const browser = await launch();
try {
    for (const [name, start] of Object.entries(programs)) {
        const program = start();
        try {
            await stopped(program);
            await check(browser, name, String(program.pid));
        } finally {
            program.kill("SIGKILL");
        }
    }
} finally {
    await browser.close();
    rmSync(folder, { recursive: true });
}
