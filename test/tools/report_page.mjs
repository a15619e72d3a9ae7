// report_page.mjs: python3, sqlite3 and the compiler itself are recorded; the pages of the recordings are opened in headless Chromium: they complain of nothing,
// load nothing, and their sums are those of `report --json`. heaptrack_print, if it is there, finds the same. With PICTURE=FILE a picture of python3's page is
// kept (docs/pictures/report.png). SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { launch, openPage } from "../web/steps.mjs";

const { CC, PICTURE, SEEMALLOC_BIN } = process.env;
const folder = mkdtempSync(join(tmpdir(), "report-")), path = name => join(folder, name);
const env = { ...process.env, PYTHONMALLOC: "malloc" };
for (const key of Object.keys(env)) if (/^(SEEMALLOC_|MALLOC_|LD_|GLIBC_TUNABLES)/.test(key)) delete env[key];

writeFileSync(path("work.py"), `
import ast, glob, os, json, sqlite3, threading
files = sorted(glob.glob(os.path.join(os.path.dirname(ast.__file__), "*.py")))[:${PICTURE ? 30 : 2}]
kept = [ast.parse(open(name, encoding="utf-8", errors="replace").read()) for name in files]
table = sqlite3.connect(":memory:", check_same_thread=False)
table.execute("create table lines (line)")
thread = threading.Thread(target=lambda: table.executemany("insert into lines values (?)", ((str(i) * 9,) for i in range(${PICTURE ? 5000 : 500}))))
thread.start(); thread.join()
del kept[::2]
json.loads(json.dumps([{"a": i, "b": [i] * 5} for i in range(${PICTURE ? 3000 : 500})]))
`);
writeFileSync(path("work.c"), `#include <stdio.h>\n${Array.from({ length: 60 }, (_, i) => `int f${i}(int x) { for (int i = 0; i < x; i++) x ^= i * ${i} + x / 3; return printf("%d", x); }`).join("\n")}\n`);
const compiler = execFileSync(CC, ["-print-prog-name=cc1"], { encoding: "utf8" }).trim();
const programs = {
    python3: { words: [execFileSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim(), "work.py"] },
    sqlite3: { words: ["sqlite3", ":memory:"], input: "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into t select i, hex(i) from n; create index x on t(b); select count(*) from t;" },
    gcc: { words: [compiler.startsWith("/") ? compiler : CC, ...(compiler.startsWith("/") ? ["-quiet", "-O2", "-imultiarch", execFileSync(CC, ["-print-multiarch"], { encoding: "utf8" }).trim()] : ["-O2", "-S"]), "work.c", "-o", "work.s"] },
};

const browser = await launch();
try {
    for (const [name, { words, input }] of Object.entries(programs)) {
        const ran = spawnSync(SEEMALLOC_BIN, ["run", "--record", path("it.rec"), "--stacks", "--", ...words], { cwd: folder, env, input, encoding: "utf8" });
        assert.equal(ran.status, 0, `${name}: ${ran.stderr}`);
        const tool = (...args) => execFileSync(SEEMALLOC_BIN, args, { env, encoding: "utf8", maxBuffer: 1 << 30 });
        tool("report", path("it.rec"), "-o", path("report.html"));
        const { totals, sites } = JSON.parse(tool("report", path("it.rec"), "--json"));
        assert.ok(totals.allocations > 1000 && sites.length > 20, `${name}: ${totals.allocations} allocations, ${sites.length} sites`);

        const page = await openPage(browser, path("report.html"));
        const shown = await page.evaluate(() => {
            const { flame, groups, report } = seemalloc, sum = key => groups.reduce((total, group) => total + group[key], 0);
            return { live: sum("live"), peak: sum("peak"), bytes: sum("bytes"), count: sum("count"), tree: [...flame.tree.value.map(values => values[0])], sampled: report.sampled };
        });
        assert.deepEqual(shown, { live: totals.live_bytes, peak: totals.peak_bytes, bytes: totals.bytes, count: totals.allocations,
            tree: [totals.live_bytes, totals.peak_bytes, totals.bytes, totals.allocations, totals.temporary], sampled: false });
        for (const id of ["show-peak", "show-bytes", "show-count", "show-temporary", "from-malloc", "by-stack"]) await page.click(`#${id}`);
        await page.click("#sites tbody tr >> nth=0");
        assert.ok(await page.isVisible("#detail"));
        await page.click("#by-function");
        assert.deepEqual(page.complaints, []);
        if (PICTURE && name === "python3") {
            await page.click("#from-main");
            await page.click("#show-peak");
            await page.evaluate(() => document.getElementById("flame-panel").scrollIntoView({ behavior: "instant" }));
            await page.screenshot({ path: PICTURE });
        }
        await page.close();

        tool("export", path("it.rec"), "--format", "heaptrack", "-o", path("it.gz"));
        const print = spawnSync("heaptrack_print", ["--disable-builtin-suppressions", path("it.gz")], { encoding: "utf8", maxBuffer: 1 << 30 });
        if (print.error?.code !== "ENOENT") assert.ok(print.stdout.includes(`calls to allocation functions: ${totals.allocations} `), print.stdout.slice(-500) + print.stderr);
        console.log(`${name}: ${totals.allocations} allocations, ${sites.length} sites: good`);
    }
} finally {
    await browser.close();
    rmSync(folder, { recursive: true });
}
