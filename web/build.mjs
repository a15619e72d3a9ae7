// build.mjs: makes the templates that the command fills, of pages, styles and modules: node build.mjs [FOLDER]
//
//   heap.html     of page.html and page.js             report.html   of recording.html and recording.js
//
// Everything is inlined; the licences of what comes from others stand in a comment at the end. SPDX-License-Identifier: MIT
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url)), folder = process.argv[2] ?? here;

async function make(source, entry, output) {
    const { outputFiles, metafile } = await build({
        absWorkingDir: here, entryPoints: [entry], bundle: true, minify: true, format: "iife", target: ["chrome103", "firefox113", "safari16.4"], outdir: "out", write: false,
        metafile: true, legalComments: "none", charset: "utf8",
    });
    const text = end => outputFiles.find(file => file.path.endsWith(end)).text.trim();
    const script = text(".js"), style = text(".css");
    if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style)) throw new Error("the bundle would end its own element");

    const used = new Set(Object.keys(metafile.inputs).map(path => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1]).filter(Boolean));
    const licences = [...used].sort().map(name => {
        const module = join(here, "node_modules", name), { version } = JSON.parse(readFileSync(join(module, "package.json")));
        return `${name} ${version}\n\n${readFileSync(join(module, "LICENSE"), "utf8").trim()}`;
    });
    const licence = `seemalloc's page, built by web/build.mjs. SPDX-License-Identifier: MIT\n\nIt contains these libraries:\n\n${licences.join("\n\n----\n\n")}`.replaceAll("--", "- -");

    // Functions, because "$" means something in a replacement string.
    const page = readFileSync(join(here, source), "utf8").replace("<!--style-->", () => `<style>${style}</style>`)
        .replace("<!--script-->", () => `<script>${script}</script>\n<!--\n${licence}\n-->`);
    writeFileSync(join(folder, output), page);
}

await make("page.html", "page.js", "heap.html");
await make("recording.html", "recording.js", "report.html");
