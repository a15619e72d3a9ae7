// charts.js: bars as SVG, and the time line by uPlot. SPDX-License-Identifier: MIT
import uPlot from "uplot";
import { max } from "d3-array";
import { scaleBand, scaleLinear } from "d3-scale";
import { bytes, count, seconds } from "./format.js";

const NS = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
}

// Ticks at powers of two, so that they are round in bytes.
function byteTicks(most) {
    let step = 2 ** Math.max(0, Math.floor(Math.log2(most)) - 1);
    if (most / step > 3.5) step *= 2;
    const ticks = [];
    for (let at = step; at <= most; at += step) ticks.push(at);
    return ticks;
}

// Columns side by side. `series`: [{name, colour, values}], one value for each of `labels`; `tips[i]` what a column says.
export function columns(host, { title, labels, series, unit, tips, tickEvery = 1, height = 190, stacked = false }) {
    const width = Math.max(260, host.clientWidth || 480), left = 62, bottom = 30, top = 12, right = 6;
    const values = labels.map((_, i) => stacked ? series.reduce((sum, s) => sum + s.values[i], 0) : max(series, s => s.values[i]));
    const most = max(values) || 1, x = scaleBand(labels.map((_, i) => i), [left, width - right]).paddingInner(series.length > 1 && !stacked ? 0.2 : 0.15);
    const y = scaleLinear([0, most], [height - bottom, top]), format = unit === "bytes" ? bytes : count;
    const ticks = unit === "bytes" ? byteTicks(most) : y.ticks(3).filter(t => t > 0 && Number.isInteger(t));
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "chart" });
    for (const tick of ticks) {
        picture.append(svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }),
            svg("text", { x: left - 8, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, format(tick)));
    }
    picture.append(svg("line", { x1: left, x2: width - right, y1: y(0), y2: y(0), class: "axis" }));
    labels.forEach((label, i) => {
        const group = svg("g", {}, svg("rect", { x: x(i), y: top, width: x.step(), height: height - bottom - top, class: "catch" }));
        let from = 0;
        series.forEach((s, k) => {
            const value = s.values[i];
            if (!(value > 0)) return;
            const wide = stacked ? x.bandwidth() : x.bandwidth() / series.length, high = Math.max(1.5, y(0) - y(value));
            group.append(svg("rect", { x: x(i) + (stacked ? 0 : k * wide), y: y(from) - high, width: Math.max(1, wide - (wide > 3 && !stacked ? 0.5 : 0)), height: high, fill: s.colour, rx: wide > 6 ? 1.5 : 0 }));
            if (stacked) from += value;
        });
        group.append(svg("title", {}, tips[i]));
        picture.append(group);
        if (label && i % tickEvery === 0)
            picture.append(svg("text", { x: x(i) + x.bandwidth() / 2, y: height - bottom + 17, class: "tick", "text-anchor": "middle" }, label));
    });
    host.replaceChildren(picture);
}

export const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function axisStyle() {
    const grid = { stroke: colour("--line"), width: 1 };
    return { stroke: colour("--soft"), grid, ticks: grid, font: "11px system-ui, sans-serif" };
}

const MIB = 1 << 20;

// Events as ticks in lanes below the lines.
const lanes = [
    { name: "brk", calls: ["brk grow", "brk trim"] },
    { name: "mmap", calls: ["mmap block", "mmap region", "mmap heap", "mmap metadata", "mremap block", "mprotect grow"] },
    { name: "munmap", calls: ["munmap block", "munmap heap", "munmap excess"] },
    { name: "purge", calls: ["madvise trim", "madvise purge"] },
];
const laneOf = call => lanes.findIndex(lane => lane.calls.includes(call));
const LANE = 16;

// What the system had given, at each event backwards from now: what an event took or gave is taken out again.
const takes = new Map([["brk grow", 1], ["brk trim", -1], ["mmap block", 1], ["mmap region", 1], ["mprotect grow", 1], ["munmap block", -1]]);
export function takenFromSystem(head, now) {
    const points = [[Number(head.clock), now]];
    let level = now;
    for (const event of [...head.events].reverse()) {
        const sign = takes.get(event.call);
        if (sign === undefined) continue;
        points.push([Number(event.time), level]);
        level = Math.max(0, level - sign * event.size);
    }
    return points.reverse();
}

export class Timeline {
    constructor(host, head, nowBytes, picked) {
        this.host = host;
        this.head = head;
        this.picked = picked;
        const zero = Number(head.clock), ago = time => (Number(time) - zero) / 1e9;
        this.events = head.events.map(event => ({ ...event, x: ago(event.time), lane: laneOf(event.call) })).filter(event => event.lane >= 0);
        const samples = head.samples, x = samples.map(s => ago(s.time)), taken = takenFromSystem(head, nowBytes);
        const faults = samples.map((s, i) => i === 0 ? null : (s.minor_faults - samples[i - 1].minor_faults) / Math.max(1e-9, x[i] - x[i - 1]));
        const first = samples.length > 1 ? x[0] : -Infinity;
        const lines = [x, samples.map(s => s.in_use / MIB), samples.map(s => s.cached / MIB), samples.map(s => s.free / MIB), samples.map(s => s.resident / MIB), faults];
        const steps = [taken.map(point => ago(point[0])), taken.map(point => point[1] / MIB)];
        this.data = uPlot.join([lines, steps]);
        this.single = samples.length < 2;
        this.range = [Math.min(Number.isFinite(first) ? first : 0, this.data[0][0] ?? 0, this.events[0]?.x ?? 0), 0];
        if (this.range[0] === 0) this.range[0] = -1;
    }

    draw() {
        this.plot?.destroy();
        this.host.replaceChildren();
        const axis = axisStyle(), size = value => value == null ? "–" : bytes(value * MIB);
        const line = (label, stroke, more = {}) => ({ label, stroke, width: 2, spanGaps: true, points: { show: this.single, size: 7, fill: stroke }, value: (_, v) => size(v), ...more });
        this.plot = new uPlot({
            width: Math.max(280, this.host.clientWidth), height: 300, padding: [14, 8, 0, 0],
            cursor: { drag: { x: true, y: false }, points: { size: 6 } },
            scales: { x: { time: false, range: (_, from, to) => from === to ? [from - 1, to] : [from, to] }, y: { range: (_, __, high) => [0, (high || 1) * 1.08] }, faults: { range: (_, __, high) => [0, (high || 1) * 1.3] } },
            series: [
                { label: "time", value: (_, v) => v == null ? "–" : seconds(v) },
                line("in use", colour("--state-0")), line("cached", colour("--state-1")), line("free", colour("--state-7")),
                line("RSS", colour("--strong"), { dash: [6, 4] }),
                line("faults/s", colour("--state-9"), { scale: "faults", width: 1, value: (_, v) => v == null ? "–" : count(Math.round(v)) }),
                line("from system", colour("--state-11"), { width: 1.5, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }),
            ],
            axes: [
                { ...axis, values: (_, ticks) => ticks.map(t => t === 0 ? "now" : seconds(t)), size: 34 + lanes.length * LANE, gap: 4 + lanes.length * LANE },
                { ...axis, values: (_, ticks) => ticks.map(size), size: 72 },
                { ...axis, show: !this.single, scale: "faults", side: 1, grid: { show: false }, values: (_, ticks) => ticks.map(t => t >= 1000 ? `${t / 1000} k/s` : `${t}/s`), size: 62 },
            ],
            hooks: { draw: [plot => this.drawEvents(plot)], setCursor: [plot => this.pick(plot)] },
        }, this.data, this.host);
        if (this.range[0] < 0) this.plot.setScale("x", { min: this.range[0], max: this.range[1] });
    }

    drawEvents(plot) {
        const { ctx, bbox } = plot, ratio = devicePixelRatio, colours = [colour("--state-0"), colour("--state-13"), colour("--state-4"), colour("--state-9")];
        ctx.save();
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.textBaseline = "middle";
        ctx.textAlign = "right";
        lanes.forEach((lane, i) => {
            const y = bbox.top + bbox.height + (4 + i * LANE) * ratio;
            ctx.fillStyle = colour("--soft");
            ctx.fillText(lane.name, bbox.left - 8 * ratio, y + LANE / 2 * ratio);
            ctx.fillStyle = colour("--line");
            ctx.fillRect(bbox.left, y + (LANE - 1) * ratio, bbox.width, ratio / 2);
        });
        for (const event of this.events) {
            const x = plot.valToPos(event.x, "x", true);
            if (x < bbox.left || x > bbox.left + bbox.width) continue;
            const high = LANE * (0.35 + 0.5 * Math.min(1, Math.log2(1 + event.size / 4096) / 14));
            ctx.fillStyle = colours[event.lane];
            ctx.fillRect(Math.round(x) - ratio, bbox.top + bbox.height + (3 + (event.lane + 1) * LANE - high) * ratio, 2 * ratio, high * ratio);
        }
        ctx.restore();
    }

    pick(plot) {
        const { left } = plot.cursor;
        if (left == null || left < 0) return this.picked(null);
        let best = null, distance = 9;
        for (const event of this.events) {
            const d = Math.abs(plot.valToPos(event.x, "x") - left);
            if (d < distance) [best, distance] = [event, d];
        }
        this.picked(best);
    }
}
