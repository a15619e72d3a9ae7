// recording-words.js: what a recording amounts to, in plain words. Each finding says how it was computed. SPDX-License-Identifier: MIT
import { bytes, count, percent, plural } from "./format.js";

const most = (sites, key) => sites.reduce((best, site) => site[key] > (best?.[key] ?? 0) ? site : best, null);
const short = ({ name }) => name.length > 64 ? `${name.slice(0, 62)}…` : name;
const atPlace = site => site.frame ? `${site.name}${site.frame.file ? ` (${site.frame.file.split("/").at(-1)}:${site.frame.line})` : ""}` : "places that are not known";

// {level, title, text, how, site: a group of byFunction() or null}
export function findings(report, groups) {
    const list = [], { totals } = report, add = (level, title, text, how, site = null) => list.push({ level, title, text, how, site });
    aboutTheRecording(report, add);
    if (totals.allocations === 0) add("note", "Nothing was allocated", "The recording has no allocation.", "No event is one.");

    const leak = most(groups, "live");
    if (totals.live_bytes === 0 && totals.allocations > 0) add("good", "Nothing is left at the end", "All that was allocated was freed.", "No block lives after the last event.");
    if (leak !== null && totals.live_bytes > 0) {
        const share = totals.live_bytes / totals.peak_bytes;
        add(share > 0.5 && totals.live_bytes > 1 << 20 ? "look" : "note", `${bytes(totals.live_bytes)} are live at the end${leak.frame ? `, most from ${short(leak)}` : ""}`,
            `${bytes(leak.live)} in ${plural(leak.liveCount, "block")} were allocated in ${atPlace(leak)} and never freed, ${percent(leak.live, totals.live_bytes)} of the bytes that are left; ${plural(totals.live, "block")} in all. ` +
            `What a program keeps until it ends is no leak by itself; what grows with its work is one.`,
            "Blocks that no event frees, by the function that asked for them.", leak);
    }
    const top = most(groups, "peak");
    if (top !== null && totals.peak_bytes > 0 && groups.length > 1)
        add("note", `${percent(top.peak, totals.peak_bytes)} of the peak is from ${short(top)}`, `At most ${bytes(totals.peak_bytes)} were in use at once, in ${plural(totals.peak, "block")}; ${bytes(top.peak)} of them in ${plural(top.peakCount, "block")} from ${atPlace(top)}.`,
            "The sum of bytes asked for of all blocks, followed over all events; blocks that were live when it was highest.", top);
    const churn = report.sampled ? null : most(groups, "temporary");
    if (churn !== null && totals.temporary > 0) {
        const share = totals.temporary / totals.allocations;
        add(share > 0.25 && totals.temporary > 1000 ? "look" : "note", `${percent(totals.temporary, totals.allocations)} of all allocations are temporary`,
            `${plural(totals.temporary, "block")} went before their thread did anything else with the allocator. Most are from ${atPlace(churn)}: ${count(churn.temporary)} of its ${count(churn.count)}. A block on the stack, or one that is kept, would do.`,
            "The next event of the same thread after the allocation is its free (or the realloc that moves it).", churn);
    }
    const waste = totals.usable - totals.bytes;
    if (waste > 0) {
        const worst = groups.reduce((best, site) => site.usable - site.bytes > (best ? best.usable - best.bytes : 0) ? site : best, null);
        add(waste > 0.2 * totals.bytes && waste > 1 << 20 ? "look" : "note", `Rounding adds ${percent(waste, totals.bytes)}`,
            `${bytes(totals.bytes)} were asked for, ${bytes(totals.usable)} given.${worst ? ` Most of the difference, ${bytes(worst.usable - worst.bytes)}, is from ${atPlace(worst)}, which asks for ${bytes(worst.bytes / Math.max(1, worst.count))} on average.` : ""}`,
            "What malloc_usable_size says of all blocks, less what was asked for. Headers of 8 bytes a block are not in it.", worst);
    }
    if (totals.moved > 0 && totals.moved > 0.1 * totals.allocations)
        add("note", `${percent(totals.moved, totals.allocations)} of all allocations are by realloc`, `${plural(totals.moved, "block")} came of a realloc of another one.`, "Allocations that are marked as the second half of a realloc.");
    const rank = { look: 0, note: 1, good: 2 };
    return list.sort((a, b) => rank[a.level] - rank[b.level]);
}

function aboutTheRecording(report, add) {
    if (report.cut !== null) add("look", "The recording was cut short", `${report.cut[0].toUpperCase()}${report.cut.slice(1)}. What was live then counts as live at the end.`, "The file has no last block.");
    if (report.dropped > 0)
        add("look", `${plural(report.dropped, "event")} were dropped`, `They found no room, ${percent(report.dropped, report.dropped + report.events)} of all. Sums are too low, and a block whose free was dropped counts as live until its address is handed out again.`, "The recorder's own count.");
    if (report.sampled)
        add("note", "These are estimates from samples", `A sample was taken every ${bytes(report.sample_mean)} on average; each stands for what its weight says. Large figures are near the truth, small ones are not. Temporary allocations can't be told.`, "Sums of weights, which are unbiased.");
    if (!report.has_stacks) add("note", "There are no stacks", "Sizes, threads and times are known, but not which function allocates. Record with --stacks.", "No event has a stack.");
    if (report.lost_frees > 0 && report.dropped === 0)
        add("note", `${plural(report.lost_frees, "block")} went unseen`, "Their address was handed out again without a free before it; they count as freed then.", "An allocation at an address that is live.");
    if (report.unknown_frees > 0)
        add("note", `${plural(report.unknown_frees, "free")} of blocks that are older than the recording`, "Blocks that were allocated before it began, or whose allocation was dropped. They count nowhere.", "Frees of addresses that are not live.");
    const others = report.modules.filter(module => module.symbols === "other file");
    if (others.length > 0)
        add("look", `${plural(others.length, "file")} changed since the recording`, `${[...new Set(others.map(module => module.path))].slice(0, 5).join(", ")}: their functions have no names here.`, "The build id of the file differs from that of what ran.");
    if (report.modules.length > 0 && report.modules.every(module => module.symbols === "no libdw"))
        add("note", "Functions have no names", "This command was built without libdw.", "No file was looked into.");
    if (report.forked > 0) add("note", `${count(report.forked)} ${report.forked === 1 ? "process" : "processes"} that it started ${report.forked === 1 ? "is" : "are"} not in it`, "Each process has a recording of its own, or none.", "The recorder's count of forks.");
}
