// recording.js: the page of a recording: reads the report, then fills each section. SPDX-License-Identifier: MIT
import "uplot/dist/uPlot.min.css";
import "./style.css";
import "./recording.css";
import { columns } from "./charts.js";
import { $, el, finding, pressed, table, tiles } from "./dom.js";
import { Flame } from "./flame.js";
import { bytes, count, exact, percent, plural, seconds } from "./format.js";
import { LIVE, Tree, bucketFrom, measures, readReport } from "./recording-data.js";
import { RecordingTime } from "./recording-time.js";
import { findings } from "./recording-words.js";
import { SiteTable } from "./sites.js";
import { watchTheme } from "./theme.js";

let report, groups, flame, time, sites, trees = {}, measure = LIVE, fromInside = false;

const average = of => of.count > 0 ? bytes(of.bytes / of.count) : "–";
const facts = list => el("dl", {}, ...list.filter(Boolean).map(([name, value]) => el("div", { class: "fact" }, el("dt", {}, name), el("dd", {}, value))));

// --- header and key figures ---

function endWords(status) {
    if (status === null) return "end not recorded";
    const signal = status & 127;
    return signal !== 0 ? `ended by signal ${signal}` : `ended with status ${status >> 8 & 255}`;
}

function drawHeader() {
    const { totals } = report, name = report.command[0]?.split("/").at(-1) || "a program", rss = Math.max(0, ...report.process.map(row => row[1]));
    document.title = `${name}: a recording`;
    $("title").textContent = [name, ...report.command.slice(1)].join(" ").slice(0, 300);
    $("title").title = report.command.join(" ").slice(0, 4000);
    $("subtitle").textContent = [`process ${report.pid}`, new Date(report.begun).toISOString().replace("T", " ").slice(0, 19) + " UTC", `${seconds(report.duration / 1e9)} long`,
        endWords(report.status), report.sampled ? `samples every ${bytes(report.sample_mean)}: estimates` : null].filter(Boolean).join(" · ");
    $("figures").replaceChildren(...tiles([
        ["Peak in use", bytes(totals.peak_bytes), `${plural(totals.peak, "block")}, after ${seconds(totals.peak_time / 1e9)}`],
        ["Live at the end", bytes(totals.live_bytes), `${plural(totals.live, "block")}`],
        ["Allocated in all", bytes(totals.bytes), `${average({ bytes: totals.bytes, count: totals.allocations })} on average`],
        ["Allocations", count(totals.allocations), report.duration > 0 ? `${count(Math.round(totals.allocations / report.duration * 1e9))} a second` : ""],
        report.sampled ? null : ["Temporary", percent(totals.temporary, totals.allocations), plural(totals.temporary, "allocation")],
        rss > 0 ? ["Peak RSS", bytes(rss), "of the process, as sampled"] : null,
    ]));
}

function drawFindings() {
    $("finding-list").replaceChildren(...findings(report, groups).map(found =>
        finding(found, found.site?.frame ? el("button", { type: "button", onclick: () => showSite(found.site) }, "Show the site") : null)));
}

function showSite(site) {
    if (!sites.grouped) chooseRows(true);
    sites.clearSearch();
    sites.choose(site);
    sites.detail.scrollIntoView({ block: "center" });
}

// --- flame graph ---

const tree = () => trees[fromInside] ??= new Tree(report, fromInside);

function drawFlame() {
    pressed(measures.map(({ key }, i) => [`show-${key}`, i]), measure);
    pressed([["from-main", false], ["from-malloc", true]], fromInside);
    const shown = report.has_stacks && tree().value[measure][0] > 0;
    $("flame").querySelector(".empty-words")?.remove();
    flame.canvas.hidden = !shown;
    if (!shown) {
        const why = !report.has_stacks ? "Recorded without stacks: seemalloc run --record FILE --stacks has them." : measure === LIVE ? "Nothing is live at the end." : "Nothing to show.";
        $("flame").append(el("p", { class: "empty-words" }, why));
        drawFrame(0);
        return;
    }
    flame.show(tree(), measures[measure], measure);
    drawFrame(flame.selected);
    tellFound();
}

function chooseMeasure(i) {
    measure = i;
    drawFlame();
}

// All that is known of one frame with everything below it.
function drawFrame(node) {
    const card = $("frame-card"), shown = tree(), frame = shown.frames[node], value = Object.fromEntries(measures.map(({ key }, i) => [key, shown.value[i][node]]));
    card.dataset.frame = frame?.text ?? "";
    for (const { key } of measures) card.dataset[key] = value[key];
    card.replaceChildren(...[
        el("h3", {}, frame === null ? "All" : frame.text),
        frame === null ? el("p", { class: "soft" }, report.has_stacks ? "Pick a frame: click, or arrow keys." : "Everything together.") : el("p", { class: "soft" }, [frame.file ? `${frame.file}:${frame.line}` : null, frame.module, frame.inlined ? "inlined" : null].filter(Boolean).join(" · ")),
        facts([["live at the end", exact(value.live)], ["at the peak", exact(value.peak)], ["allocated in all", exact(value.bytes)], ["allocations", count(value.count)],
            report.sampled ? null : ["temporary", `${count(value.temporary)} (${percent(value.temporary, value.count)})`], ["average size", average(value)]]),
        frame === null ? null : el("button", { type: "button", onclick: () => { sites.find(frame.text); $("site-panel").scrollIntoView({ block: "start" }); } }, "Sites with it"),
        !(flame.focus > 0) ? null : el("button", { type: "button", onclick: () => flame.pick(0, true) }, "All")].filter(Boolean));
}

function tellFound() {
    $("flame-found").textContent = flame.search === "" ? "" : `${percent(flame.found(), flame.values[0])} of all`;
}

// --- sites ---

function chooseRows(grouped) {
    pressed([["by-function", true], ["by-stack", false]], grouped);
    sites.setRows(grouped ? groups : report.sites, grouped);
}

function sizeColumns(host, sizes, title) {
    if (sizes.length === 0) {
        host.replaceChildren(el("p", { class: "soft" }, "None."));
        return;
    }
    const known = new Map(sizes.map(size => [size.bucket, size])), all = [...known.keys()], first = Math.max(0, Math.min(...all) - 2), last = Math.max(first + 11, Math.max(...all) + 2);
    const buckets = Array.from({ length: last - first + 1 }, (_, i) => first + i), every = 4 * Math.ceil(buckets.length / 32); // one label a doubling, or less
    const value = bucket => known.get(bucket) ?? { count: 0, bytes: 0 };
    columns(host, { title, unit: "bytes", height: 190, labels: buckets.map(b => b % every === 1 ? bytes(bucketFrom(b)) : ""),
        series: [{ name: "bytes", colour: "var(--state-0)", values: buckets.map(b => value(b).bytes) }],
        tips: buckets.map(b => `${bytes(bucketFrom(b))} to ${bytes(bucketFrom(b + 1) - 1)}: ${bytes(value(b).bytes)} in ${count(value(b).count)}`) });
}

function drawDetail(site) {
    const box = sites.detail;
    if (site === null) return;
    const chart = el("div"), stacks = [...site.sites ?? [site]].sort((a, b) => b.live - a.live || b.bytes - a.bytes), stackHost = el("div");
    const draw = which => {
        const stack = report.stackOf(stacks[which]);
        stackHost.replaceChildren(...(stacks.length > 1 ? [el("p", { class: "soft remark" }, `Stack ${which + 1} of ${count(stacks.length)}: ${bytes(stacks[which].live)} live, ${bytes(stacks[which].bytes)} in ${count(stacks[which].count)} `,
            el("button", { type: "button", disabled: which === 0 ? "" : null, onclick: () => draw(which - 1), "aria-label": "the stack before" }, "‹"), " ",
            el("button", { type: "button", disabled: which + 1 === stacks.length ? "" : null, onclick: () => draw(which + 1), "aria-label": "the next stack" }, "›"))] : []),
        stack.length === 0 ? el("p", { class: "soft" }, "It is not known.") : el("ol", { class: "stack" }, ...stack.map(frame => el("li", {}, el("code", {}, frame.text),
            el("span", { class: "where" }, [frame.file ? `${frame.file}:${frame.line}` : frame.module, frame.inlined ? "inlined" : null].filter(Boolean).join(" · "))))));
    };
    box.dataset.site = site.index;
    box.replaceChildren(el("div", { class: "two tight" },
        el("div", {}, el("h3", {}, site.name), facts([["live at the end", `${exact(site.live)} in ${count(site.liveCount)}`], ["at the peak", `${exact(site.peak)} in ${count(site.peakCount)}`], ["allocated in all", `${exact(site.bytes)} in ${count(site.count)}`],
            report.sampled ? null : ["temporary", `${count(site.temporary)} (${percent(site.temporary, site.count)})`], ["sizes", site.smallest === site.largest ? exact(site.smallest) : `${bytes(site.smallest)} to ${bytes(site.largest)}, ${average(site)} on average`],
            ["rounding", `${bytes(Math.max(0, site.usable - site.bytes))} (${percent(Math.max(0, site.usable - site.bytes), site.bytes)})`], site.gone > 0 ? ["lifetime of those freed", `${seconds(site.lifetime / 1e9)} on average`] : null]),
        el("h3", {}, "Sizes asked for"), chart), el("div", {}, el("h3", {}, "Stack, innermost first"), stackHost)));
    draw(0);
    sizeColumns(chart, site.sizes, `Bytes by size asked for at ${site.name}`);
}

// --- threads, sizes, facts ---

function drawMore() {
    const most = [...report.threads].sort((a, b) => b.bytes - a.bytes);
    $("threads").replaceChildren(table([["thread", ""], ["allocations", "number"], ["bytes", "number"], ["peak", "number"], ["live", "number"], ...(report.sampled ? [] : [["temporary", "number"]])],
        most.slice(0, 200).map(thread => [`${thread.name || "thread"} (${thread.tid})`, count(thread.allocations), bytes(thread.bytes), bytes(thread.peak_bytes), bytes(thread.live_bytes), ...(report.sampled ? [] : [percent(thread.temporary, thread.allocations)])])),
    most.length > 200 ? el("p", { class: "soft" }, `and ${count(most.length - 200)} more`) : "");
    const sums = new Map();
    for (const site of report.sites) {
        for (const size of site.sizes) {
            const sum = sums.get(size.bucket) ?? { bucket: size.bucket, count: 0, bytes: 0 };
            sum.count += size.count;
            sum.bytes += size.bytes;
            sums.set(size.bucket, sum);
        }
    }
    sizeColumns($("all-sizes"), [...sums.values()], "Bytes by size asked for");
    $("facts").replaceChildren(facts([["events", count(report.events)], ["dropped", count(report.dropped)], ["late", count(report.late)], ["sites", count(report.sites.length)], ["by realloc", count(report.totals.moved)],
        ["lifetime of those freed", `${seconds(report.totals.lifetime / 1e9)} on average`]]));
}

function drawCharts() {
    time.draw();
    drawFlame();
    sites.draw();
    drawDetail(sites.chosen);
    drawMore();
}

// --- start ---

function listen() {
    measures.forEach(({ key }, i) => $(`show-${key}`).addEventListener("click", () => chooseMeasure(i)));
    $("show-temporary").hidden = report.sampled;
    for (const [id, value] of [["from-main", false], ["from-malloc", true]]) $(id).addEventListener("click", () => { fromInside = value; drawFlame(); });
    for (const [id, value] of [["by-function", true], ["by-stack", false]]) $(id).addEventListener("click", () => chooseRows(value));
    $("flame-search").addEventListener("input", event => {
        flame.search = event.target.value.trim().toLowerCase();
        if (!flame.canvas.hidden) flame.draw();
        tellFound();
    });
    $("help").addEventListener("click", () => $("help-box").showModal());
    document.addEventListener("keydown", event => {
        if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey || $("help-box").open) return;
        const number = Number(event.key) - 1;
        if (number >= 0 && number < measures.length && !$(`show-${measures[number].key}`).hidden) chooseMeasure(number);
        ({ "?": () => $("help-box").showModal(), t: () => $("theme").click(), "/": () => { $("flame-search").focus(); event.preventDefault(); } })[event.key]?.();
    });
    let waiting;
    addEventListener("resize", () => {
        clearTimeout(waiting);
        waiting = setTimeout(drawCharts, 120);
    });
}

async function start() {
    watchTheme(() => { if (time) drawCharts(); });
    report = await readReport();
    if (report === null) {
        $("progress").textContent = "This is the template: no recording is in it. seemalloc report FILE -o report.html makes a page of one.";
        return;
    }
    groups = report.byFunction();
    $("progress").remove();
    for (const section of document.querySelectorAll("section[hidden]")) section.hidden = section.id === "site-panel" && !report.has_stacks;
    flame = new Flame($("flame"), { select: drawFrame });
    sites = new SiteTable(report, { chosen: drawDetail });
    const newTime = new RecordingTime($("timeline"), report);
    if (report.totals.live_bytes === 0) measure = 1; // the peak says more than nothing
    listen();
    drawHeader();
    drawFindings();
    chooseRows(report.has_stacks);
    time = newTime;
    drawCharts();
    $("time-note").textContent = time.note;
    window.seemalloc = { report, groups, flame, sites, openedAfter: performance.now() }; // for the console, and for the tests
    document.documentElement.dataset.ready = "yes";
}

start().catch(error => {
    $("progress")?.replaceChildren(error.message);
    $("progress")?.classList.add("bad");
    document.documentElement.dataset.ready = "failed";
    console.error(error);
});
