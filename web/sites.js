// sites.js: the table of what allocates: sorted by any column, searched, some rows at a time. SPDX-License-Identifier: MIT
import { $, el } from "./dom.js";
import { bytes, count, percent, plural } from "./format.js";

const PAGE = 30;
const columns = [
    { key: "name", title: "allocated in", words: true, value: site => site.name },
    { key: "live", title: "live at end", value: site => site.live, show: site => bytes(site.live) },
    { key: "peak", title: "at the peak", value: site => site.peak, show: site => bytes(site.peak) },
    { key: "bytes", title: "in all", value: site => site.bytes, show: site => bytes(site.bytes) },
    { key: "count", title: "allocations", value: site => site.count, show: site => count(site.count) },
    { key: "temporary", title: "temporary", value: site => site.temporary, show: site => site.temporary > 0 ? `${count(site.temporary)} (${percent(site.temporary, site.count)})` : "–" },
    { key: "average", title: "average size", value: site => site.bytes / Math.max(1, site.count), show: site => bytes(site.bytes / Math.max(1, site.count)) },
    { key: "rounding", title: "rounding", value: site => site.usable - site.bytes, show: site => bytes(Math.max(0, site.usable - site.bytes)) },
];

export class SiteTable {
    // `told` has chosen(site or null): it fills `detail`.
    constructor(report, told) {
        this.report = report;
        this.told = told;
        this.columns = columns.filter(column => column.key !== "temporary" || !report.sampled);
        this.sort = report.totals.live_bytes > 0 ? "live" : "peak";
        this.down = true;
        this.chosen = null;
        this.detail = el("div", { id: "detail", "aria-live": "polite" }); // below the row that is chosen
        this.search = "";
        $("site-search").addEventListener("input", event => {
            this.search = event.target.value.trim().toLowerCase();
            this.shown = PAGE;
            this.draw();
        });
    }

    setRows(rows, grouped) {
        this.rows = rows;
        this.grouped = grouped;
        this.shown = PAGE;
        this.choose(null);
    }

    // Of a stack, any frame may match.
    matches(site) {
        const has = frame => [frame.text, frame.file, frame.module].some(text => text.toLowerCase().includes(this.search));
        return this.search === "" || (site.sites ?? [site]).some(one => this.report.stackOf(one).some(has));
    }

    find(text) {
        $("site-search").value = text;
        this.search = text.toLowerCase();
        this.shown = PAGE;
        this.draw();
    }

    clearSearch() {
        this.find("");
    }

    choose(site) {
        this.chosen = site;
        this.draw();
        this.told.chosen(site);
    }

    draw() {
        const column = this.columns.find(({ key }) => key === this.sort), sign = this.down ? -1 : 1;
        const order = column.words ? (a, b) => sign * a.name.localeCompare(b.name) : (a, b) => sign * (column.value(a) - column.value(b));
        const found = this.rows.filter(site => this.matches(site)).sort(order), focused = document.activeElement?.dataset?.sort;
        $("site-count").textContent = `${found.length < this.rows.length ? `${count(found.length)} of ` : ""}${plural(this.rows.length, this.grouped ? "function" : "stack")}`;
        const visible = found.slice(0, this.shown);
        if (this.chosen && found.includes(this.chosen) && !visible.includes(this.chosen)) visible.push(this.chosen);
        $("sites").replaceChildren(el("div", { class: "table" }, el("table", {},
            el("thead", {}, el("tr", {}, ...this.columns.map(one => this.head(one)))), el("tbody", {}, ...visible.flatMap(site => this.rowsOf(site))))),
        found.length > this.shown ? el("button", { type: "button", onclick: () => { this.shown += PAGE; this.draw(); } }, `Show ${count(Math.min(PAGE, found.length - this.shown))} more`) : "");
        if (focused) $("sites").querySelector(`[data-sort="${focused}"]`)?.focus({ preventScroll: true });
    }

    head({ key, title, words }) {
        const sorted = key === this.sort;
        return el("th", { class: words ? null : "number", "aria-sort": sorted ? (this.down ? "descending" : "ascending") : null },
            el("button", { type: "button", "data-sort": key, onclick: () => {
                this.down = sorted ? !this.down : !words;
                this.sort = key;
                this.draw();
            } }, `${title}${sorted ? (this.down ? " ↓" : " ↑") : ""}`));
    }

    rowsOf(site) {
        return site === this.chosen ? [this.row(site), el("tr", { class: "detail" }, el("td", { colspan: this.columns.length }, this.detail))] : [this.row(site)];
    }

    row(site) {
        const where = site.frame ? (site.frame.file ? `${site.frame.file}:${site.frame.line}` : site.frame.module) : "";
        const choose = event => { event.stopPropagation(); this.choose(this.chosen === site ? null : site); };
        return el("tr", { "aria-selected": String(this.chosen === site), "data-site": site.index, onclick: choose },
            el("td", {}, el("button", { type: "button", class: "link place", title: site.frame?.text ?? "", onclick: choose }, site.name), el("span", { class: "where", title: where },
                [where, site.sites?.length > 1 ? plural(site.sites.length, "stack") : null].filter(Boolean).join(" · "))),
            ...this.columns.slice(1).map(column => el("td", { class: "number" }, column.show(site))));
    }
}
