// dom.js: making elements. SPDX-License-Identifier: MIT

export const $ = id => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined));
    return element;
}

// Columns: [title, "number" or ""]; rows of cells.
export function table(titles, rows) {
    const cells = (tag, row) => el("tr", {}, ...row.map((cell, i) => el(tag, { class: titles[i][1] || null }, cell)));
    return el("div", { class: "table" }, el("table", {}, el("thead", {}, cells("th", titles.map(t => t[0]))), el("tbody", {}, ...rows.map(row => cells("td", row)))));
}

export const tiles = list => list.filter(Boolean).map(([label, value, note]) =>
    el("div", { class: "tile" }, el("span", { class: "label" }, label), el("strong", {}, value), el("span", { class: "soft" }, note)));

const marks = { look: "Worth a look", note: "For your information", good: "As it should be" };

// One finding: {level, title, text, how}; `more` stands below it.
export const finding = ({ level, title, text, how }, more = null) => el("article", { class: `finding ${level}` },
    el("span", { class: "level" }, marks[level]), el("h3", {}, title), el("p", {}, text),
    el("details", {}, el("summary", {}, "How it was computed"), el("p", {}, how)), more);

// What is shown beside the pointer at (x, y) of the window: {title, lines}, or null.
export function hint(tip, x, y) {
    const box = $("tip");
    box.hidden = !tip;
    if (!tip) return;
    box.replaceChildren(el("strong", {}, tip.title), ...tip.lines.map(text => el("div", {}, text)));
    const width = box.offsetWidth, height = box.offsetHeight;
    box.style.left = `${Math.max(4, Math.min(innerWidth - width - 4, x + 14))}px`;
    box.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
}

export function pressed(group, chosen) {
    for (const [id, value] of group) $(id).setAttribute("aria-pressed", String(value === chosen));
}
