/* page.c: see page.h. SPDX-License-Identifier: MIT */
#include "page.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { OUT_MAX = 3 << 14, GZIP_WINDOW = 15 + 16 }; /* OUT_MAX is a multiple of 3 */

struct stream {
    FILE *out;
    bool as_base64;
    z_stream deflate;
    uint8_t compressed[OUT_MAX];
    char text[OUT_MAX / 3 * 4];
};

const char *page_place(const char *page, size_t length, const char *comment, const char **rest) {
    size_t size = strlen(comment);
    const char *place = memmem(page, length, comment, size);
    if (place == NULL) return NULL;
    *rest = place + size;
    return memmem(*rest, length - (size_t)(*rest - page), comment, size) == NULL ? place : NULL;
}

char *page_base64(char *to, const uint8_t *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3, to += 4) {
        size_t left = length - i;
        unsigned three = (unsigned)bytes[i] << 16;
        if (left > 1) three |= (unsigned)bytes[i + 1] << 8;
        if (left > 2) three |= bytes[i + 2];
        to[0] = digits[three >> 18];
        to[1] = digits[three >> 12 & 63];
        to[2] = left > 1 ? digits[three >> 6 & 63] : '=';
        to[3] = left > 2 ? digits[three & 63] : '=';
    }
    return to;
}

static bool put(struct stream *stream, size_t length) {
    if (!stream->as_base64) return fwrite(stream->compressed, 1, length, stream->out) == length;
    size_t size = (size_t)(page_base64(stream->text, stream->compressed, length) - stream->text);
    return fwrite(stream->text, 1, size, stream->out) == size;
}

static bool compress_more(struct stream *stream, const void *bytes, size_t length, int flush) {
    z_stream *deflater = &stream->deflate;
    deflater->next_in = (Bytef *)(uintptr_t)bytes;
    deflater->avail_in = (uInt)length;
    for (;;) {
        int status = deflate(deflater, flush);
        bool over = flush == Z_FINISH && status == Z_STREAM_END;
        if (deflater->avail_out != 0 && !over) return status != Z_STREAM_ERROR;
        if (!put(stream, OUT_MAX - deflater->avail_out)) return false;
        deflater->next_out = stream->compressed;
        deflater->avail_out = OUT_MAX;
        if (over) return true;
    }
}

static ssize_t stream_write(void *cookie, const char *bytes, size_t length) {
    return compress_more(cookie, bytes, length, Z_NO_FLUSH) ? (ssize_t)length : 0;
}

static int stream_close(void *cookie) {
    struct stream *stream = cookie;
    bool good = compress_more(stream, "", 0, Z_FINISH) && !ferror(stream->out);
    deflateEnd(&stream->deflate);
    free(stream);
    return good ? 0 : EOF;
}

FILE *page_stream_open(FILE *out, enum page_stream kind) {
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) return NULL;
    stream->out = out;
    stream->as_base64 = kind == PAGE_BASE64;
    stream->deflate.next_out = stream->compressed;
    stream->deflate.avail_out = OUT_MAX;
    FILE *file = NULL;
    if (deflateInit2(&stream->deflate, 6, Z_DEFLATED, kind == PAGE_GZIP ? GZIP_WINDOW : MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK) {
        file = fopencookie(stream, "w", (cookie_io_functions_t){.write = stream_write, .close = stream_close});
        if (file == NULL) deflateEnd(&stream->deflate);
    } else {
        errno = ENOMEM;
    }
    if (file == NULL) free(stream);
    if (file != NULL) setvbuf(file, NULL, _IOFBF, OUT_MAX);
    return file;
}
