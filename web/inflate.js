// inflate.js: what the command put into the page as base64 of a zlib stream. SPDX-License-Identifier: MIT

const digits = new Uint8Array(128);
for (let i = 0; i < 64; i++) digits["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".charCodeAt(i)] = i;

function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const pad = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0, out = new Uint8Array(text.length / 4 * 3);
    for (let i = 0, to = 0; i < text.length; i += 4, to += 3) {
        const four = digits[text.charCodeAt(i)] << 18 | digits[text.charCodeAt(i + 1)] << 12 | digits[text.charCodeAt(i + 2)] << 6 |
            digits[text.charCodeAt(i + 3)];
        out[to] = four >> 16;
        out[to + 1] = four >> 8;
        out[to + 2] = four;
    }
    return out.subarray(0, out.length - pad);
}

// The content of a script element, as a Response. The element is empty then: it is not needed twice.
export function inflate(element) {
    const stream = new Blob([fromBase64(element.textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
    element.textContent = "";
    return new Response(stream);
}
