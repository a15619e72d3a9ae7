// recording-time.js: what was in use, and what happened, over time, by uPlot. SPDX-License-Identifier: MIT
import uPlot from "uplot";
import { axisStyle, colour } from "./charts.js";
import { bytes, count, seconds } from "./format.js";

const RATES = 200; // spans of time that events are counted in

const powers = Array.from({ length: 50 }, (_, i) => 2 ** i); // round in bytes

// Allocations and frees a second: [x in seconds, …].
function rates({ moments, moment_width: width, duration }) {
    const step = Math.max(1, Math.ceil(moments.length / RATES)), x = [], born = [], gone = [];
    for (let i = 0; i < moments.length; i += step) {
        const part = moments.slice(i, i + step), span = Math.max(1, Math.min(part.length * width, duration - i * width)) / 1e9;
        x.push((i + part.length / 2) * width / 1e9);
        born.push(part.reduce((sum, row) => sum + row[2], 0) / span);
        gone.push(part.reduce((sum, row) => sum + row[3], 0) / span);
    }
    return [x, born, gone];
}

export class RecordingTime {
    constructor(host, report) {
        this.host = host;
        this.peak = report.totals.peak_time / 1e9;
        const { moments, moment_width: width, process, duration } = report, end = duration / 1e9;
        const live = [moments.map((_, i) => Math.min(end, (i + 1) * width / 1e9)), moments.map(row => row[0])];
        if (moments.length > 0) {
            live[0].push(end);
            live[1].push(moments.at(-1)[1]);
        }
        const known = process.filter(row => row[2] + row[3] + row[4] + row[5] > 0), at = row => row[0] / 1e9;
        this.hasProcess = process.length > 0;
        this.hasHeap = known.length > 0;
        const inOrder = rows => { // uPlot wants each x once
            const points = new Map();
            rows[0].forEach((x, i) => points.set(x, rows.map(row => row[i])));
            const sorted = [...points.values()].sort((a, b) => a[0] - b[0]);
            return rows.map((_, k) => sorted.map(point => point[k]));
        };
        this.data = uPlot.join([inOrder(live), this.hasProcess ? inOrder([process.map(at), process.map(row => row[1])]) : [[]],
            this.hasHeap ? inOrder([known.map(at), known.map(row => row[2]), known.map(row => row[3]), known.map(row => row[4])]) : [[]], inOrder(rates(report))]);
        this.end = end || 1e-6;
        this.note = `Drag to zoom, double click for all. “Asked for” is the sum of all blocks that are live, in bytes as the program asked for them${report.sampled ? ", estimated from samples" : ""}.` +
            (this.hasHeap ? " In use, cached and free are the allocator's own figures." : "");
    }

    draw() {
        this.plot?.destroy();
        this.host.replaceChildren();
        const size = value => value == null ? "–" : bytes(value), rate = value => value == null ? "–" : `${count(Math.round(value))}/s`, axis = axisStyle();
        const line = (label, stroke, more = {}) => ({ label, stroke, width: 2, spanGaps: true, points: { show: false }, value: (_, v) => size(v), ...more });
        const few = { points: { show: this.data[0].length < 4, size: 7 } };
        this.plot = new uPlot({
            width: Math.max(280, this.host.clientWidth), height: 320, padding: [14, 8, 0, 0],
            cursor: { drag: { x: true, y: false }, points: { size: 6 } },
            scales: { x: { time: false, range: (_, from, to) => from === to ? [from - 1e-6, to + 1e-6] : [from, to] }, y: { range: (_, __, high) => [0, (high || 1) * 1.08] }, rate: { range: (_, __, high) => [0, (high || 1) * 2.6] } },
            series: [
                { label: "time", value: (_, v) => v == null ? "–" : seconds(v) },
                line("asked for", colour("--state-0"), { fill: colour("--state-0") + "26", ...few }),
                ...(this.hasProcess ? [line("RSS", colour("--strong"), { dash: [6, 4], ...few })] : []),
                ...(this.hasHeap ? [line("in use", colour("--state-13"), { width: 1.5, dash: [2, 3] }), line("cached", colour("--state-1"), { width: 1.5 }), line("free", colour("--state-7"), { width: 1.5 })] : []),
                line("allocations", colour("--state-9"), { scale: "rate", width: 1, value: (_, v) => rate(v), paths: uPlot.paths.stepped({ align: 0 }) }),
                line("frees", colour("--state-4"), { scale: "rate", width: 1, dash: [3, 2], value: (_, v) => rate(v), paths: uPlot.paths.stepped({ align: 0 }) }),
            ],
            axes: [
                { ...axis, values: (_, ticks) => ticks.map(t => t === 0 ? "0" : seconds(t)) },
                { ...axis, incrs: powers, values: (_, ticks) => ticks.map(size), size: 72 },
                { ...axis, scale: "rate", side: 1, grid: { show: false }, values: (_, ticks) => ticks.map(t => t >= 1e6 ? `${t / 1e6} M/s` : t >= 1000 ? `${t / 1000} k/s` : `${t}/s`), size: 62 },
            ],
            hooks: { draw: [plot => this.markPeak(plot)] },
        }, this.data, this.host);
        this.plot.setScale("x", { min: 0, max: this.end });
    }

    markPeak(plot) {
        const { ctx, bbox } = plot, ratio = devicePixelRatio, x = plot.valToPos(this.peak, "x", true);
        if (x < bbox.left || x > bbox.left + bbox.width) return;
        const right = x > bbox.left + bbox.width - 50 * ratio;
        ctx.save();
        ctx.strokeStyle = ctx.fillStyle = colour("--soft");
        ctx.lineWidth = ratio;
        ctx.setLineDash([2 * ratio, 3 * ratio]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.textAlign = right ? "right" : "left";
        ctx.textBaseline = "top";
        ctx.fillText("peak", x + (right ? -5 : 5) * ratio, bbox.top + 2 * ratio);
        ctx.restore();
    }
}
