// steps.mjs: what the tests that open a page in headless Chromium do alike. SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { CHROMIUM, PAGE } = process.env;
const { chromium } = createRequire(join(PAGE, "package.json"))("playwright-core");

export function launch() {
    return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
}

// Opens a file and waits until it says that it is `ready`. Whatever it complains about or loads from elsewhere is collected in its `complaints`.
export async function openPage(browser, file, { width = 1280, height = 800, colorScheme = "light", ready = "yes" } = {}) {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" }), complaints = [];
    page.on("console", message => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
    page.on("pageerror", error => complaints.push(error.stack));
    page.on("request", request => { if (!/^(file|data|blob):/.test(request.url())) complaints.push(`it asks for ${request.url()}`); });
    await page.goto(`file://${file}`);
    await page.waitForFunction(() => document.documentElement.dataset.ready);
    assert.equal(await page.evaluate(() => document.documentElement.dataset.ready), ready, complaints.join("\n"));
    page.complaints = complaints;
    return page;
}

// Jumps to an address as a user does and forgets the choice: where on the screen the chunk is now.
export async function findOnScreen(page, mem) {
    await page.fill("#jump-to", mem);
    await page.press("#jump-to", "Enter");
    await page.evaluate(() => document.getElementById("map").scrollIntoView({ behavior: "instant" }));
    const place = await page.evaluate(() => {
        const { map } = seemalloc, place = map.placeOf(map.selected), box = map.canvas.getBoundingClientRect();
        return { x: box.left + place.x, y: box.top + place.y };
    });
    await page.press("#canvas canvas", "Escape");
    return place;
}

// Two pages of one file, opened light and dark, differ in ground and canvas; the switch makes the light one look like the dark one, and back.
export async function checkThemes(light, dark) {
    const look = page => page.evaluate(() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() =>
        resolve({ ground: getComputedStyle(document.body).backgroundColor, drawn: (seemalloc.flame ?? seemalloc.map).canvas.toDataURL() })))));
    const lightLook = await look(light), darkLook = await look(dark);
    assert.notEqual(lightLook.ground, darkLook.ground);
    assert.notEqual(lightLook.drawn, darkLook.drawn);
    await light.click("#theme");
    assert.deepEqual(await look(light), darkLook);
    await light.click("#theme");
    assert.deepEqual(await look(light), lightLook);
}
