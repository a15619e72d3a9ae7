// theme.js: light and dark: as the system is set, or as the switch says. SPDX-License-Identifier: MIT
import { $ } from "./dom.js";
import { states } from "./states.js";

const preferred = matchMedia("(prefers-color-scheme: dark)");
let chosen = null; // by the switch; otherwise the system's

export const isDark = () => chosen ?? preferred.matches;

// Applies it now, and whenever it changes; `changed` is told each time.
export function watchTheme(changed) {
    const apply = () => {
        const dark = isDark(), root = document.documentElement;
        root.dataset.theme = dark ? "dark" : "light";
        $("theme").textContent = dark ? "Light" : "Dark";
        states.forEach((state, i) => root.style.setProperty(`--state-${i}`, dark ? state.dark : state.light));
        changed(dark);
    };
    $("theme").addEventListener("click", () => { chosen = !isDark(); apply(); });
    preferred.addEventListener("change", () => { if (chosen === null) apply(); });
    apply();
}
