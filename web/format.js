// format.js: figures as people read them; a number and its unit stay on one line. SPDX-License-Identifier: MIT
import { format } from "d3-format";

export const count = format(",");
const one = format(".1f"), two = format(".2f");

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export function bytes(value) {
    let unit = 0, size = Math.abs(value);
    while (size >= 1024 && unit < units.length - 1) {
        size /= 1024;
        unit++;
    }
    if (size >= 1023.5 && unit > 0 && unit < units.length - 1) {
        size /= 1024;
        unit++;
    }
    const text = unit === 0 ? String(Math.round(size)) : size >= 100 ? size.toFixed(0) : size >= 10 ? one(size) : two(size);
    return `${value < 0 ? "−" : ""}${text}\u00a0${units[unit]}`;
}

// "4,112 B (4.02 KiB)": exact, and to be grasped.
export const exact = value => value < 1024 ? `${count(value)}\u00a0B` : `${count(value)}\u00a0B (${bytes(value)})`;

export function percent(part, whole) {
    if (!(whole > 0)) return "0 %";
    const share = 100 * part / whole;
    if (share > 0 && share < 0.1) return "<\u00a00.1\u00a0%";
    return `${share < 10 ? one(share) : share.toFixed(0)}\u00a0%`;
}

export const address = value => "0x" + value.toString(16);

export function seconds(value) {
    const size = Math.abs(value), sign = value < 0 ? "−" : "";
    if (size === 0) return "0 s";
    if (size >= 120) return `${sign}${(size / 60).toFixed(size >= 600 ? 0 : 1)} min`;
    if (size >= 1) return `${sign}${+size.toFixed(size >= 10 ? 1 : 2)} s`;
    if (size >= 1e-3) return `${sign}${+(size * 1e3).toFixed(size >= 1e-1 ? 0 : size >= 1e-2 ? 1 : 2)} ms`;
    return `${sign}${+(size * 1e6).toFixed(0)} µs`;
}

export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
