// map.js: the heap in address order on a canvas: rows that follow each other like lines of text, from the whole arena down to one chunk.
//
// A column of a row is as wide as one pixel and stands for `scale` bytes. It shows the mix of states in them: from running sums when many chunks share
// it, else from the chunks themselves. So the same picture serves all scales; where chunks are wide enough they get edges, letters and words.
// SPDX-License-Identifier: MIT
import { absentIn, addressAt, chunkAt, lastAtMost } from "./data.js";
import { address, bytes, plural, percent } from "./format.js";
import { FENCEPOST, STATES, stackOrder, states } from "./states.js";

const ROW = 22, GAP = 6, GUTTER = 122, NARROW = 620;
const FINEST = 16 / 26; // bytes a pixel: the smallest chunk is then as wide as its letter and size

const parse = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
const pixel = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
const mix = (a, b, share) => a.map((value, i) => Math.round(value + (b[i] - value) * share));

// For each state: plain, its alternate shade, and both hatched with the background; and the same faded, for states that are not asked for.
export function makePalette(dark) {
    const background = dark ? [22, 25, 30] : [255, 255, 255], ink = dark ? [255, 255, 255] : [0, 0, 0];
    const shades = (colour, faded) => {
        const plain = faded ? mix(colour, background, 0.86) : colour, other = mix(plain, dark ? background : ink, dark ? 0.16 : 0.12);
        const hatch = shade => mix(shade, background, dark ? 0.62 : 0.66);
        return { plain: pixel(plain), other: pixel(other), plainHatch: pixel(hatch(plain)), otherHatch: pixel(hatch(other)) };
    };
    return {
        dark, background: `rgb(${background})`,
        states: states.map(state => {
            const colour = parse(dark ? state.dark : state.light), luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
            return { css: dark ? state.dark : state.light, text: luminance > 140 ? "#12161c" : "#ffffff", full: shades(colour, false), faded: shades(colour, true) };
        }),
    };
}

export class HeapMap {
    // `host` gets the canvas. `told` has select(space, index), moved() and hover(text or null, x, y).
    constructor(host, told) {
        this.host = host;
        this.told = told;
        this.canvas = document.createElement("canvas");
        this.canvas.tabIndex = 0;
        this.canvas.setAttribute("role", "application");
        this.canvas.setAttribute("aria-label", "Heap map. Arrow keys: chunk before and after, rows up and down. Plus and minus: zoom. 0: all. Enter: middle.");
        host.append(this.canvas);
        this.context = this.canvas.getContext("2d");
        this.space = null;
        this.start = this.wantedStart = 0; // what is wanted follows the hand; what is shown is in whole units
        this.scale = this.wantedScale = 1;
        this.selected = this.hovered = -1;
        this.spotlight = -1;
        this.frames = [];
        this.listen();
        new ResizeObserver(() => this.resize()).observe(host);
    }

    // --- what is shown ---

    get rows() { return Math.max(1, Math.floor((this.height + GAP) / (ROW + GAP))); }
    get span() { return this.rows * this.width * this.scale; }

    setPalette(palette) {
        this.palette = palette;
        this.draw();
    }

    setSpace(space) {
        this.space = space;
        this.selected = this.hovered = -1;
        this.fit();
    }

    fit() {
        this.wantedScale = this.coarsest();
        this.wantedStart = 0;
        this.changed();
    }

    // A scale at which rows are whole units of 16 bytes, so that they begin where chunks can.
    whole(scale) { return Math.max(1, Math.round(scale * this.width / 16)) * 16 / this.width; }

    coarsest() { return Math.max(this.whole(FINEST), this.space ? Math.ceil(this.space.total / this.rows / 16) * 16 / this.width : 1); }

    clampScale(scale) { return Math.min(this.coarsest(), Math.max(FINEST, scale)); }

    changed() {
        this.wantedScale = this.clampScale(this.wantedScale);
        this.scale = this.whole(this.wantedScale);
        this.wantedStart = Math.max(0, Math.min(this.space ? this.space.total - this.span : 0, this.wantedStart));
        this.start = this.scale >= 2 ? Math.floor(this.wantedStart / 16) * 16 : this.wantedStart;
        this.draw();
        this.told.moved();
    }

    // Zooms by `factor` so that what is at (x, y) stays there.
    zoom(factor, x = this.width / 2, y = this.height / 2) {
        const row = Math.max(0, Math.min(this.rows - 1, Math.floor(y / (ROW + GAP)))), column = Math.max(0, Math.min(this.width, x));
        const at = this.start + (row * this.width + column) * this.scale;
        this.wantedScale = this.clampScale(this.wantedScale / factor);
        this.wantedStart = at - (row * this.width + column) * this.whole(this.wantedScale);
        this.changed();
    }

    pan(pixels) {
        this.wantedStart += pixels * this.scale;
        this.changed();
    }

    // Brings a position into the middle; zooms in so that a chunk of `size` is seen as such, if one is given.
    show(pos, size = 0) {
        if (size > 0) this.wantedScale = this.clampScale(Math.min(this.wantedScale, size / 120));
        if (pos < this.start || pos + size > this.start + this.span || size > 0)
            this.wantedStart = pos - (Math.floor(this.rows / 2) * this.width + this.width / 2) * this.whole(this.wantedScale);
        this.changed();
    }

    select(index, reveal) {
        if (!this.space || index < 0 || index >= this.space.count) return;
        this.selected = index;
        const from = this.space.pos[index];
        if (reveal === "zoom") this.show(from, this.space.pos[index + 1] - from);
        else if (from < this.start || from >= this.start + this.span) this.show(from);
        else this.draw();
        this.told.select(this.space, index);
    }

    positionAt(x, y) {
        const row = Math.floor(y / (ROW + GAP)), column = x - this.gutter;
        if (!this.space || column < 0 || column >= this.width || row < 0 || row >= this.rows) return -1;
        const pos = this.start + (row * this.width + column) * this.scale;
        return pos < this.space.total ? pos : -1;
    }

    // Where the middle of a chunk's first piece is on the canvas, in its own pixels; null if it is not in view. For tests, and for the tooltip.
    placeOf(index) {
        const from = Math.max(this.space.pos[index], this.start), to = this.space.pos[index + 1];
        if (from >= this.start + this.span || to <= this.start) return null;
        const offset = (from - this.start) / this.scale, row = Math.floor(offset / this.width), column = offset - row * this.width;
        const width = Math.min((to - from) / this.scale, this.width - column);
        return { x: this.gutter + column + width / 2, y: row * (ROW + GAP) + ROW / 2, width };
    }

    // --- size ---

    resize() {
        const width = this.host.clientWidth, height = this.host.clientHeight, ratio = window.devicePixelRatio || 1;
        if (width === 0 || height === 0) return;
        const whole = this.space === null || this.scale >= this.coarsest() * 0.999;
        this.ratio = ratio;
        this.gutter = width < NARROW ? 0 : GUTTER;
        this.width = width - this.gutter;
        this.height = height;
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
        this.canvas.style.width = `${width}px`;
        this.canvas.style.height = `${height}px`;
        this.image = new ImageData(Math.max(1, Math.round(this.width * ratio)), this.canvas.height);
        this.pixels = new Uint32Array(this.image.data.buffer);
        if (this.space) whole ? this.fit() : this.changed();
    }

    // --- drawing ---

    draw() {
        if (this.pending || !this.image || !this.palette) return;
        this.pending = true;
        requestAnimationFrame(() => {
            this.pending = false;
            const began = performance.now();
            this.paint();
            this.frames.push(performance.now() - began);
            if (this.frames.length > 500) this.frames.shift();
        });
    }

    paint() {
        const { context, ratio } = this;
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.clearRect(0, 0, this.canvas.width, this.canvas.height);
        this.pixels.fill(0);
        if (!this.space || this.space.total === 0) {
            context.setTransform(ratio, 0, 0, ratio, 0, 0);
            context.fillStyle = this.palette.dark ? "#98a2b0" : "#5b6675";
            context.font = "14px system-ui, sans-serif";
            context.fillText("There is nothing here.", 16, 28);
            return;
        }
        const painter = new Painter(this.space, this.palette, this.spotlight, this.pixels, this.image.width);
        const scale = this.scale * this.width / this.image.width, high = Math.round(ROW * ratio);
        for (let row = 0; row < this.rows; row++)
            painter.row(this.start + row * this.width * this.scale, scale, Math.round(row * (ROW + GAP) * ratio), high);
        context.putImageData(this.image, Math.round(this.gutter * ratio), 0);
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        this.paintEdges();
        this.paintGutter();
        if (this.hovered >= 0) this.outline(this.hovered, 1);
        if (this.selected >= 0) this.outline(this.selected, 2);
    }

    // The pieces of [from, to) on the rows, as rectangles.
    *pieces(from, to) {
        const begin = Math.max(0, (from - this.start) / this.scale), end = Math.min(this.rows * this.width, (to - this.start) / this.scale);
        for (let at = begin; at < end;) {
            const row = Math.floor(at / this.width), stop = Math.min(end, (row + 1) * this.width);
            yield { x: this.gutter + at - row * this.width, y: row * (ROW + GAP), width: stop - at, first: at === begin && from >= this.start, last: stop === end };
            at = stop;
        }
    }

    paintEdges() {
        const { context, space, scale } = this, first = Math.max(0, chunkAt(space, this.start)), last = chunkAt(space, this.start + this.span - 1e-6);
        context.font = "11px system-ui, sans-serif";
        context.textBaseline = "middle";
        if ((last - first + 1) * 5 < this.rows * this.width) {
            for (let i = first; i <= last; i++) {
                const from = space.pos[i], to = space.pos[i + 1];
                if ((to - from) / scale < 3) continue;
                let labelled = false;
                for (const piece of this.pieces(from, to)) {
                    if (piece.first) {
                        context.fillStyle = this.palette.background;
                        context.fillRect(piece.x, piece.y, 1, ROW);
                    }
                    if (!labelled && piece.width >= 15) {
                        this.label(i, piece, to - from);
                        labelled = true;
                    }
                }
            }
        }
        context.fillStyle = this.palette.dark ? "#ffffff" : "#11151b";
        for (const region of space.regions) {
            if (region.pos === 0 || space.mapped && region.size / scale < 24) continue;
            for (const piece of this.pieces(region.pos, region.pos + scale)) context.fillRect(piece.x - 1, piece.y - 2, 2, ROW + 4);
        }
    }

    label(index, piece, size) {
        const state = this.space.state[index], look = this.palette.states[state], { letter, name } = states[state];
        if (this.spotlight >= 0 && this.spotlight !== state) return;
        const small = bytes(size), words = `${name}  ${small}`, context = this.context;
        const text = piece.width > words.length * 6.2 + 10 ? words : piece.width > small.length * 6.3 + 18 ? `${letter} ${small}` : letter;
        const width = context.measureText(text).width;
        if (width + 6 > piece.width) return;
        if (absentIn(this.space, this.space.pos[index], this.space.pos[index + 1]) > 0) { // a plate, so that hatching does not hide the words
            context.fillStyle = look.css;
            context.fillRect(piece.x + 3, piece.y + 4, width + 6, ROW - 8);
        }
        context.fillStyle = look.text;
        context.fillText(text, piece.x + 6, piece.y + ROW / 2 + 0.5);
    }

    paintGutter() {
        if (this.gutter === 0) return;
        const { context } = this;
        context.font = "11px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
        context.textBaseline = "middle";
        context.fillStyle = this.palette.dark ? "#98a2b0" : "#5b6675";
        for (let row = 0; row < this.rows; row++) {
            const pos = this.start + row * this.width * this.scale;
            if (pos >= this.space.total) break;
            context.fillText(address(Math.floor(addressAt(this.space, pos))), 5, row * (ROW + GAP) + ROW / 2);
        }
    }

    outline(index, width) {
        const { context } = this;
        for (const piece of this.pieces(this.space.pos[index], this.space.pos[index + 1])) {
            const wide = Math.max(piece.width, 2);
            context.lineWidth = width + 2;
            context.strokeStyle = this.palette.background;
            context.strokeRect(piece.x - 0.5, piece.y - 0.5, wide + 1, ROW + 1);
            context.lineWidth = width;
            context.strokeStyle = this.palette.dark ? "#ffffff" : "#0b0e13";
            context.strokeRect(piece.x - 0.5, piece.y - 0.5, wide + 1, ROW + 1);
        }
    }

    // --- mouse, touch, keys ---

    listen() {
        const { canvas } = this, touching = new Map();
        let moved = 0, pinch = 0;
        const place = event => {
            const box = canvas.getBoundingClientRect();
            return [event.clientX - box.left, event.clientY - box.top];
        };
        canvas.addEventListener("wheel", event => {
            const [x, y] = place(event);
            if (event.shiftKey) this.pan(Math.sign(event.deltaY || event.deltaX) * this.width);
            else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(event.deltaX);
            else this.zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : event.ctrlKey ? 0.01 : 0.002)), x - this.gutter, y);
            event.preventDefault();
            this.hover(x, y);
        }, { passive: false });
        canvas.addEventListener("pointerdown", event => {
            touching.set(event.pointerId, place(event));
            canvas.setPointerCapture(event.pointerId);
            if (touching.size === 1) moved = 0;
            pinch = 0;
        });
        canvas.addEventListener("pointermove", event => {
            const [x, y] = place(event), before = touching.get(event.pointerId);
            if (!before) return this.hover(x, y);
            touching.set(event.pointerId, [x, y]);
            if (touching.size === 2) {
                const [a, b] = [...touching.values()], distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
                if (pinch > 0) this.zoom(distance / pinch, (a[0] + b[0]) / 2 - this.gutter, (a[1] + b[1]) / 2);
                pinch = distance;
                moved = 99;
                return;
            }
            moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
            if (moved < 4) return;
            const rows = Math.round((y - before[1]) / (ROW + GAP));
            if (rows === 0) touching.set(event.pointerId, [x, before[1]]); // until it is a whole row
            this.pan(-(x - before[0]) - rows * this.width);
            this.told.hover(null);
        });
        const leave = event => {
            const at = touching.get(event.pointerId);
            touching.delete(event.pointerId);
            if (event.type !== "pointerup" || moved >= 4 || !at) return;
            const pos = this.positionAt(...place(event));
            if (pos >= 0) this.select(chunkAt(this.space, pos));
        };
        canvas.addEventListener("pointerup", leave);
        canvas.addEventListener("pointercancel", leave);
        canvas.addEventListener("pointerleave", () => this.hover(-1, -1));
        canvas.addEventListener("dblclick", event => {
            const [x, y] = place(event);
            this.zoom(4, x - this.gutter, y);
        });
        canvas.addEventListener("keydown", event => this.key(event));
    }

    hover(x, y) {
        const pos = this.positionAt(x, y), index = pos < 0 ? -1 : chunkAt(this.space, pos);
        if (index !== this.hovered) {
            this.hovered = index;
            this.draw();
        }
        this.told.hover(pos < 0 ? null : this.hint(pos, index), x, y);
    }

    // What lies under one pixel: a chunk, or the mix of several.
    hint(pos, index) {
        const { space } = this, from = space.pos[index], size = space.pos[index + 1] - from, last = chunkAt(space, Math.min(space.total - 1, pos + this.scale));
        const chunk = { title: `${states[space.state[index]].name}, ${bytes(size)}`, lines: [address(Math.floor(addressAt(space, from)))] };
        if (last - index < 2) return chunk;
        const sums = new Map();
        for (let i = index; i <= last && i < index + 100000; i++) {
            const part = Math.min(space.pos[i + 1], pos + this.scale) - Math.max(space.pos[i], pos);
            sums.set(space.state[i], (sums.get(space.state[i]) ?? 0) + part);
        }
        const lines = [...sums].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([state, part]) => `${percent(part, this.scale)} ${states[state].name}`);
        return { title: `${plural(last - index + 1, "chunk")} in ${bytes(this.scale)}`, lines: [address(Math.floor(addressAt(space, pos))), ...lines] };
    }

    key(event) {
        if (event.ctrlKey || event.metaKey || event.altKey || !this.space || this.space.count === 0) return;
        const middle = () => chunkAt(this.space, Math.min(this.space.total - 1, this.start + this.span / 2));
        const around = factor => {
            const at = this.selected >= 0 ? this.placeOf(this.selected) : null;
            at ? this.zoom(factor, at.x - this.gutter, at.y) : this.zoom(factor);
        };
        const keys = {
            ArrowRight: () => this.select(this.selected < 0 ? middle() : Math.min(this.space.count - 1, this.selected + 1)),
            ArrowLeft: () => this.select(this.selected < 0 ? middle() : Math.max(0, this.selected - 1)),
            ArrowDown: () => this.pan(this.width),
            ArrowUp: () => this.pan(-this.width),
            PageDown: () => this.pan(this.width * (this.rows - 1)),
            PageUp: () => this.pan(-this.width * (this.rows - 1)),
            Home: () => this.pan(-Infinity),
            End: () => this.pan(this.space.total / this.scale),
            "+": () => around(2), "=": () => around(2), "-": () => around(0.5), "_": () => around(0.5),
            "0": () => this.fit(),
            Enter: () => this.selected < 0 ? this.select(middle()) : this.select(this.selected, "zoom"),
            Escape: () => { this.selected = -1; this.draw(); this.told.select(this.space, -1); },
        };
        if (!keys[event.key]) return;
        keys[event.key]();
        event.preventDefault();
        event.stopPropagation();
    }
}

// Rows of pixels. Columns must be asked for from left to right, rows in order: it walks along the chunks.
export class Painter {
    constructor(space, palette, spotlight, pixels, stride) {
        Object.assign(this, { space, pixels, stride });
        this.looks = palette.states.map((state, s) => spotlight < 0 || spotlight === s ? state.full : state.faded);
        this.order = stackOrder.filter(s => space.sums[s] !== null);
        this.mix = new Float64Array(STATES);
        this.chunk = -1;
        this.run = -1;
    }

    row(start, scale, top, high) {
        const { space, stride } = this, coarse = scale >= 2 * space.bucket;
        for (let x = 0; x < stride; x++) {
            const from = start + x * scale, to = Math.min(from + scale, space.total);
            if (from >= space.total) return;
            if (coarse) this.mixed(from, to, x, top, high);
            else this.fine(from, to, x, top, high);
        }
    }

    mixed(from, to, x, top, high) {
        const { space, mix } = this, buckets = space.absentSums.length - 1;
        const a = Math.min(buckets - 1, Math.floor(from / space.bucket)), b = Math.min(buckets, Math.max(a + 1, Math.floor(to / space.bucket)));
        let all = 0;
        for (const s of this.order) all += mix[s] = space.sums[s][b] - space.sums[s][a];
        this.stack(all, Math.round(high * (space.absentSums[b] - space.absentSums[a]) / all), 0, x, top, high);
    }

    fine(from, to, x, top, high) {
        const { space, mix } = this, { pos, state } = space;
        if (this.chunk < 0 || pos[this.chunk] > from) this.chunk = Math.max(0, chunkAt(space, from));
        let i = this.chunk;
        while (i + 1 < space.count && pos[i + 1] <= from) i++;
        this.chunk = i;
        const absent = Math.round(high * this.absent(from, to) / (to - from));
        if (pos[i + 1] >= to) {
            this.column(this.looks[state[i]], i & 1, absent, x, top, high);
            return;
        }
        for (const s of this.order) mix[s] = 0;
        const odd = i & 1;
        for (let at = from; at < to && i < space.count; i++) {
            const end = Math.min(to, pos[i + 1]);
            mix[state[i]] += end - at;
            at = end;
        }
        this.chunk = Math.max(0, i - 1);
        this.stack(to - from, absent, odd, x, top, high);
    }

    absent(from, to) {
        const { absentFrom, absentTo } = this.space;
        if (absentFrom.length === 0) return 0;
        if (this.run < 0 || absentFrom[this.run] > from) this.run = Math.max(0, lastAtMost(absentFrom, from));
        while (this.run < absentFrom.length && absentTo[this.run] <= from) this.run++;
        let sum = 0;
        for (let r = this.run; r < absentFrom.length && absentFrom[r] < to; r++) sum += Math.min(to, absentTo[r]) - Math.max(from, absentFrom[r]);
        return sum;
    }

    // A column from the bottom up. What the program has is never less than one pixel high; what is too thin to be seen otherwise is left out. The upper
    // `absent` pixels are hatched: as much of the column as has no page.
    stack(all, absent, odd, x, top, high) {
        const { mix, stride, pixels } = this;
        let bottom = top + high, sum = 0;
        for (const s of this.order) {
            if (mix[s] === 0 || s === FENCEPOST && mix[s] < all) continue;
            sum += mix[s];
            const until = Math.min(bottom - (s <= 0 || s === 13 ? 1 : 0), top + high - Math.round(high * sum / all));
            const look = this.looks[s], plain = odd ? look.other : look.plain, hatch = odd ? look.otherHatch : look.plainHatch;
            for (let y = bottom - 1; y >= until && y >= top; y--) pixels[y * stride + x] = y - top < absent && ((x + y) & 7) < 5 ? hatch : plain;
            if (until < bottom) bottom = Math.max(top, until);
        }
        if (bottom > top && bottom < top + high) { // rounding left some
            const above = pixels[bottom * stride + x];
            for (let y = bottom - 1; y >= top; y--) pixels[y * stride + x] = above;
        }
    }

    column(look, odd, absent, x, top, high) {
        const { stride, pixels } = this, plain = odd ? look.other : look.plain, hatch = odd ? look.otherHatch : look.plainHatch;
        for (let y = top, end = top + high; y < end; y++) pixels[y * stride + x] = y - top < absent && ((x + y) & 7) < 5 ? hatch : plain;
    }
}
