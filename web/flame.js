// flame.js: a flame graph on a canvas, drawn from the top down. A node is as wide as its share; those too narrow to be seen are left out.
// SPDX-License-Identifier: MIT
import { hint } from "./dom.js";
import { bytes, count, percent } from "./format.js";

const ROW = 19, LEAST = 0.6; // pixels
// Tints that differ in lightness as well as in hue; the ink on them is dark in both themes.
const tints = ["#9ec5ee", "#f6c98a", "#a9d8b8", "#eeb2cb", "#d8d48a", "#c3b4e8", "#e9a890", "#8fd0d4"];
const UNKNOWN = "#cdd3db";

const format = (measure, value) => measure.unit === "bytes" ? bytes(value) : count(value);

export class Flame {
    // `told` has select(node): what was picked, 0 for none.
    constructor(host, told) {
        this.host = host;
        this.told = told;
        this.canvas = document.createElement("canvas");
        this.canvas.tabIndex = 0;
        this.canvas.setAttribute("role", "application");
        this.canvas.setAttribute("aria-label", "Flame graph. Arrow keys: caller, callee, neighbours. Enter: zoom to the chosen frame. Escape: zoom out.");
        host.append(this.canvas);
        this.context = this.canvas.getContext("2d");
        this.colours = new Map();
        this.shades = new Map();
        this.boxes = [];
        this.search = "";
        this.canvas.addEventListener("click", event => { const node = this.nodeAt(event); if (node >= 0) this.pick(node, true); });
        this.canvas.addEventListener("mousemove", event => this.hover(event));
        this.canvas.addEventListener("mouseleave", () => hint(null));
        this.canvas.addEventListener("keydown", event => this.key(event));
    }

    show(tree, measure, index) {
        if (this.tree !== tree) this.focus = this.selected = 0;
        this.tree = tree;
        this.measure = measure;
        this.values = tree.value[index];
        if (!(this.values[this.focus] > 0)) this.focus = this.selected = 0;
        this.draw();
    }

    colourOf(frame) {
        if (!frame || !frame.known && !frame.module) return UNKNOWN;
        if (!this.colours.has(frame.module)) this.colours.set(frame.module, tints[this.colours.size % tints.length]);
        return this.colours.get(frame.module);
    }

    // Neighbours of one file differ a little, by their names.
    shadeOf(frame) {
        if (frame === null) return 0;
        if (!this.shades.has(frame.text)) {
            let hash = 7;
            for (let i = 0; i < frame.text.length; i++) hash = Math.imul(hash, 31) + frame.text.charCodeAt(i) | 0;
            this.shades.set(frame.text, (hash >>> 8) % 5 * 0.055);
        }
        return this.shades.get(frame.text);
    }

    // Children with a value, the largest first.
    childrenOf(node) {
        return this.tree.children[node].filter(child => this.values[child] > 0).sort((a, b) => this.values[b] - this.values[a]);
    }

    // {node, x, wide, row} of all that is wide enough.
    layOut(width) {
        const boxes = [], scale = width / (this.values[this.focus] || 1), above = [0, ...this.tree.wayTo(this.focus)];
        above.forEach((node, row) => boxes.push({ node, x: 0, wide: width, row, above: node !== this.focus }));
        const open = [[this.focus, 0, above.length]];
        while (open.length > 0) {
            const [node, from, row] = open.pop();
            let x = from;
            for (const child of this.childrenOf(node)) {
                const wide = this.values[child] * scale;
                if (wide < LEAST) break;
                boxes.push({ node: child, x, wide, row, above: false });
                open.push([child, x, row + 1]);
                x += wide;
            }
        }
        return boxes;
    }

    matches(node) {
        const frame = this.tree.frames[node];
        return this.search !== "" && frame !== null && (frame.text.toLowerCase().includes(this.search) || frame.file.toLowerCase().includes(this.search));
    }

    // The share of frames that the search finds, those above others once.
    found() {
        let sum = 0;
        const open = [0];
        while (open.length > 0) {
            const node = open.pop();
            if (this.matches(node)) sum += this.values[node];
            else open.push(...this.tree.children[node]);
        }
        return sum;
    }

    labelOf(node) {
        const frame = this.tree.frames[node];
        return frame === null ? `all: ${format(this.measure, this.values[0])}` : frame.name;
    }

    draw() {
        const ratio = devicePixelRatio || 1, width = Math.max(200, this.host.clientWidth), { context } = this;
        this.boxes = this.layOut(width);
        const rows = this.boxes.reduce((most, box) => Math.max(most, box.row + 1), 1), style = getComputedStyle(document.documentElement);
        const ground = style.getPropertyValue("--panel"), strong = style.getPropertyValue("--strong"), dark = document.documentElement.dataset.theme === "dark";
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(rows * ROW * ratio);
        this.canvas.style.width = `${width}px`;
        this.canvas.style.height = `${rows * ROW}px`;
        context.scale(ratio, ratio);
        context.font = "12px system-ui, sans-serif";
        context.textBaseline = "middle";
        for (const box of this.boxes) {
            const y = box.row * ROW, found = this.matches(box.node), dim = box.above || this.search !== "" && !found;
            context.globalAlpha = (dim ? 0.4 : dark ? 0.9 : 1) - (dim ? 0 : this.shadeOf(this.tree.frames[box.node]));
            context.fillStyle = box.node === 0 ? UNKNOWN : this.colourOf(this.tree.frames[box.node]);
            context.fillRect(box.x, y, Math.max(LEAST, box.wide - (box.wide > 3 ? 1 : 0)), ROW - 1);
            context.globalAlpha = 1;
            if (found && box.wide > 4) {
                context.strokeStyle = strong;
                context.lineWidth = 1.5;
                context.strokeRect(box.x + 1, y + 1, box.wide - 3, ROW - 3);
            }
            if (box.wide > 26) this.write(this.labelOf(box.node), box.x + 5, y + ROW / 2, box.wide - 9, dim && dark ? strong : "#14191f");
            if (box.node === this.selected && this.selected !== 0) {
                context.strokeStyle = ground;
                context.lineWidth = 4;
                context.strokeRect(box.x + 1, y + 1, Math.max(2, box.wide - 3), ROW - 3);
                context.strokeStyle = strong;
                context.lineWidth = 2;
                context.strokeRect(box.x + 1, y + 1, Math.max(2, box.wide - 3), ROW - 3);
            }
        }
    }

    write(text, x, y, room, ink) {
        const { context } = this;
        let length = Math.min(text.length, Math.floor(room / 4));
        let shown = text.slice(0, length);
        while (length > 0 && context.measureText(shown).width > room) {
            length = Math.min(length - 1, Math.floor(length * room / context.measureText(shown).width));
            shown = text.slice(0, length) + "…";
        }
        if (length < 2 && text.length > 2) return;
        context.fillStyle = ink;
        context.fillText(shown, x, y);
    }

    placeOf(node) {
        return this.boxes.find(box => box.node === node) ?? null;
    }

    // The middle of a frame on the canvas, or null if it is not drawn.
    middleOf(node) {
        const box = this.placeOf(node);
        return box && { x: box.x + box.wide / 2, y: box.row * ROW + ROW / 2 };
    }

    nodeAt(event) {
        const { left, top } = this.canvas.getBoundingClientRect(), x = event.clientX - left, row = Math.floor((event.clientY - top) / ROW);
        return this.boxes.find(box => box.row === row && x >= box.x && x < box.x + box.wide)?.node ?? -1;
    }

    hover(event) {
        const node = this.nodeAt(event), frame = node >= 0 ? this.tree.frames[node] : null;
        this.canvas.style.cursor = node >= 0 ? "pointer" : "default";
        hint(node < 0 ? null : { title: frame === null ? "all" : frame.text, lines: [`${format(this.measure, this.values[node])}, ${percent(this.values[node], this.values[0])} of all`] }, event.clientX, event.clientY);
    }

    // Chooses a frame; with `zoom` it gets the whole width.
    pick(node, zoom) {
        this.selected = node;
        if (zoom) this.focus = node;
        this.draw();
        const place = this.placeOf(node), view = this.host;
        if (place) {
            const y = place.row * ROW;
            if (y < view.scrollTop) view.scrollTop = y;
            else if (y + ROW > view.scrollTop + view.clientHeight) view.scrollTop = y + ROW - view.clientHeight;
        }
        this.told.select(node);
    }

    key(event) {
        const node = this.selected, siblings = node === 0 ? [] : this.childrenOf(this.tree.parent[node]), at = siblings.indexOf(node);
        const next = {
            ArrowDown: () => this.childrenOf(node)[0], ArrowUp: () => this.tree.parent[node], ArrowRight: () => siblings[at + 1], ArrowLeft: () => siblings[at - 1], Home: () => 0,
        }[event.key]?.();
        if (next !== undefined) {
            // What is not drawn can't be chosen without zooming out.
            this.selected = next;
            if (!this.placeOf(next)) this.focus = this.tree.parent[next];
            this.pick(next, next === 0);
        } else if (event.key === "Enter") this.pick(node, true);
        else if (event.key === "Escape") this.pick(this.tree.parent[this.focus], true);
        else if (!["ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft"].includes(event.key)) return;
        event.preventDefault();
    }
}
