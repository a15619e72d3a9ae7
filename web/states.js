// states.js: what a chunk's state is called, means and looks like. The first 14 are enum seemalloc_state, in its order.
// SPDX-License-Identifier: MIT

export const PADDING = 14, TORN = 15, STATES = 16;

// group: live (the program has it), free, other. Colours for light and dark; the letter helps those who can't tell the colours.
export const states = [
    { name: "in use", letter: "U", group: "live", light: "#2f74c0", dark: "#4a90dc", means: "handed out to the program" },
    { name: "cached", letter: "C", group: "free", light: "#f0a02e", dark: "#f0a93f", means: "free, in a magazine of a thread cache" },
    { name: "parked", letter: "P", group: "free", light: "#bd6512", dark: "#cd7826", means: "free, in a batch that a cache gave back whole" },
    { name: "inbox", letter: "I", group: "free", light: "#ffd466", dark: "#ffdd86", means: "free, sent home by another thread, not fetched yet" },
    { name: "fast", letter: "F", group: "free", light: "#b1356b", dark: "#d0568c", means: "free, in a fast bin, not merged" },
    { name: "unsorted", letter: "N", group: "free", light: "#e79bc0", dark: "#eeb0cf", means: "free, in the unsorted bin" },
    { name: "small", letter: "S", group: "free", light: "#8ccf9f", dark: "#97d8aa", means: "free, in a small bin" },
    { name: "large", letter: "L", group: "free", light: "#2f8f6b", dark: "#38a37b", means: "free, in a large bin" },
    { name: "last remainder", letter: "R", group: "free", light: "#c3da6a", dark: "#cfe47b", means: "free, the rest of the last split" },
    { name: "purging", letter: "G", group: "free", light: "#8c6bc8", dark: "#a688de", means: "free, its pages are going back to the system" },
    { name: "top", letter: "T", group: "free", light: "#d5dce5", dark: "#414b58", means: "the end of the heap, where it grows" },
    { name: "fencepost", letter: "X", group: "other", light: "#525a66", dark: "#8b95a4", means: "16 bytes that end a region" },
    { name: "abandoned", letter: "A", group: "other", light: "#86372d", dark: "#b45a4c", means: "lost to a fork" },
    { name: "mapped", letter: "M", group: "live", light: "#173f78", dark: "#2b60aa", means: "handed out, in a mapping of its own" },
    { name: "padding", letter: "·", group: "other", light: "#a9b2be", dark: "#5f6975", means: "before an aligned block in its mapping" },
    { name: "torn", letter: "?", group: "other", light: "#d3122f", dark: "#ff4d63", means: "could not be read as chunks" },
];

export const IN_USE = 0, CACHED = 1, PARKED = 2, INBOX = 3, FAST = 4, UNSORTED = 5, SMALL = 6, LARGE = 7, LAST_REMAINDER = 8, PURGING = 9,
    TOP = 10, FENCEPOST = 11, ABANDONED = 12, MAPPED = 13;

export const isLive = state => state === IN_USE || state === MAPPED;
export const isFree = state => states[state].group === "free";
// A larger request can be cut from these; of the other free ones each serves its own size only.
export const servesAny = state => state >= UNSORTED && state <= LAST_REMAINDER || state === TOP;

// From the bottom of a column that shows a mix.
export const stackOrder = [MAPPED, IN_USE, ABANDONED, TORN, FENCEPOST, PADDING, CACHED, PARKED, INBOX, FAST, UNSORTED, SMALL, LAST_REMAINDER,
    LARGE, PURGING, TOP];
