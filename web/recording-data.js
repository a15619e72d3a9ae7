// recording-data.js: reads the report out of the page (the JSON of `seemalloc report --json`: docs/json.md) into arrays, and merges what belongs together.
// SPDX-License-Identifier: MIT
import { inflate } from "./inflate.js";

// What can be asked of a place, in the order of the columns below.
export const measures = [
    { key: "live", name: "live at the end", unit: "bytes" }, { key: "peak", name: "at the peak", unit: "bytes" }, { key: "bytes", name: "allocated in all", unit: "bytes" },
    { key: "count", name: "allocations", unit: "count" }, { key: "temporary", name: "temporary", unit: "count" },
];
export const LIVE = 0, PEAK = 1, BYTES = 2, COUNT = 3, TEMPORARY = 4;

// Columns of a site, in the order of the file.
const columns = ["node", "count", "bytes", "usable", "liveCount", "live", "peakCount", "peak", "temporary", "temporaryBytes", "smallest", "largest", "gone", "lifetime"];

// Buckets of sizes: 0 is below 16 bytes, then four to a doubling.
export const bucketFrom = bucket => bucket === 0 ? 0 : (4 + (bucket - 1) % 4) * 2 ** (Math.floor((bucket - 1) / 4) + 2);

// What allocates on behalf of others: not the place that a reader looks for.
const wrapper = /^(operator new\b|_*(libc_)?(malloc|calloc|realloc|reallocarray|memalign|aligned_alloc|posix_memalign|valloc|strn?dup)$|x(malloc|calloc|realloc|strdup|memdup|zalloc)$|g_(malloc|realloc|try_malloc|malloc0)$|std::|__gnu_cxx::|void std::)/;

export function nameOf(text) {
    const found = /^(?:.*\/)?([^/]+\+0x[0-9a-f]+)$/.exec(text);
    return found ? found[1] : text;
}

const calledBy = ({ caller }) => caller ? ` ← ${caller.name}` : "";

export class Report {
    constructor(raw) {
        Object.assign(this, raw);
        this.sampled = raw.sample_mean > 0;
        this.sites = raw.sites.map((row, index) => ({ index, ...Object.fromEntries(columns.map((name, i) => [name, row[i]])), sizes: [] }));
        for (const [site, bucket, count, bytes] of raw.sizes) this.sites[site].sizes.push({ bucket, count, bytes });
        this.frames = raw.frames.map(([text, file, line, module, inlined, known]) => ({
            text: raw.texts[text], name: nameOf(raw.texts[text]), file: raw.texts[file], line, module: module > 0 ? raw.modules[module - 1].path : "", inlined: inlined === 1, known: known === 1 }));
        for (const site of this.sites) {
            const stack = this.stackOf(site);
            site.frame = stack.find(frame => !wrapper.test(frame.text)) ?? stack[0] ?? null;
            site.caller = site.frame && !site.frame.known ? stack.find(frame => frame.known && !wrapper.test(frame.text)) ?? null : null; // the nearest with a name
            site.name = site.frame ? site.frame.name + calledBy(site) : "(no stack)";
        }
    }

    // Innermost first.
    stackOf(site) {
        const stack = [];
        for (let node = site.node; node !== 0; node = this.nodes[node][0]) stack.push(this.frames[this.nodes[node][1]]);
        return stack;
    }

    // Sites by the function that allocates, as if each were one site. Those without a name are one for each file and caller that has one.
    byFunction() {
        const groups = new Map();
        for (const site of this.sites) {
            const { frame } = site, file = frame?.module.split("/").at(-1);
            const name = !site.caller || !frame.module ? site.name : `${file} (no name)${calledBy(site)}`, key = frame ? `${name}\n${frame.module}` : "";
            const group = groups.get(key);
            if (!group) {
                groups.set(key, { ...site, name, sizes: site.sizes.map(size => ({ ...size })), index: `f${site.index}`, sites: [site] });
                continue;
            }
            const gone = group.gone + site.gone;
            group.lifetime = gone > 0 ? (group.lifetime * group.gone + site.lifetime * site.gone) / gone : 0;
            group.smallest = Math.min(group.smallest, site.smallest);
            group.largest = Math.max(group.largest, site.largest);
            for (const name of ["count", "bytes", "usable", "liveCount", "live", "peakCount", "peak", "temporary", "temporaryBytes", "gone"]) group[name] += site[name];
            for (const size of site.sizes) {
                const same = group.sizes.find(other => other.bucket === size.bucket);
                if (same) {
                    same.count += size.count;
                    same.bytes += size.bytes;
                } else group.sizes.push({ ...size });
            }
            group.sites.push(site);
        }
        return [...groups.values()];
    }
}

// The tree that the flame graph shows: calls of the same function are one node, whatever the line. From the outermost frame in, or from the innermost out.
//
//   parent[i] < i; node 0 is all; value[m][i] is that of the node with all below it
export class Tree {
    constructor(report, fromInside) {
        this.frames = [null];
        this.parent = [0];
        this.depth = [0];
        this.children = [[]];
        const keys = new Map(), ids = new Map(), id = new Uint32Array(report.frames.length), own = measures.map(() => [0]);
        report.frames.forEach((frame, i) => {
            const key = `${frame.text}\n${frame.module}`;
            if (!ids.has(key)) ids.set(key, ids.size);
            id[i] = ids.get(key);
        });
        const child = (node, frame) => {
            const key = node * ids.size + id[frame];
            let found = keys.get(key);
            if (found === undefined) {
                found = this.frames.length;
                keys.set(key, found);
                this.frames.push(report.frames[frame]);
                this.parent.push(node);
                this.depth.push(this.depth[node] + 1);
                this.children.push([]);
                this.children[node].push(found);
                for (const values of own) values.push(0);
            }
            return found;
        };
        const merged = new Uint32Array(report.nodes.length);
        if (!fromInside) for (let i = 1; i < report.nodes.length; i++) merged[i] = child(merged[report.nodes[i][0]], report.nodes[i][1]);
        for (const site of report.sites) {
            let node = fromInside ? 0 : merged[site.node];
            if (fromInside) for (let at = site.node; at !== 0; at = report.nodes[at][0]) node = child(node, report.nodes[at][1]);
            measures.forEach(({ key }, m) => { own[m][node] += site[key]; });
        }
        this.value = own.map(values => Float64Array.from(values));
        for (const values of this.value) for (let i = values.length - 1; i > 0; i--) values[this.parent[i]] += values[i];
    }

    // From the outermost of those above it.
    wayTo(node) {
        const way = [];
        for (; node !== 0; node = this.parent[node]) way.unshift(node);
        return way;
    }
}

// The report in this document, or null.
export async function readReport() {
    const element = document.getElementById("report-data");
    if (element === null) return null;
    const raw = await inflate(element).json();
    if (raw.format !== "seemalloc report" || raw.format_version !== 1)
        throw new Error(`The data in this page can't be read: found format "${raw.format}" version ${raw.format_version}, expected "seemalloc report" version 1.`);
    return new Report(raw);
}
