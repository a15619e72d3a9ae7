/* report_page.c: the page of web/report.html with a report in it: one script element with base64 of the zlib stream of the JSON. The template is part of this
 * executable. SPDX-License-Identifier: MIT */
#include <errno.h>

#include "page.h"
#include "report.h"

__asm__(".pushsection .rodata\n"
        "report_template:\n"
        "    .incbin \"" SEEMALLOC_REPORT_PAGE "\"\n"
        "report_template_end:\n"
        "    .byte 0\n"
        ".popsection\n");
extern const char report_template[] __attribute__((visibility("hidden"))), report_template_end[] __attribute__((visibility("hidden")));

static bool put_data(FILE *out, const struct report *report) {
    FILE *stream = page_stream_open(out, PAGE_BASE64);
    if (stream == NULL) return false;
    bool good = report_json(stream, report);
    return fclose(stream) == 0 && good;
}

bool report_page(FILE *out, const struct report *report) {
    const char *rest,
        *place = page_place(report_template, (size_t)(report_template_end - report_template), "<!--seemalloc report data-->", &rest);
    if (place == NULL) {
        errno = EINVAL;
        return false;
    }
    fwrite(report_template, 1, (size_t)(place - report_template), out);
    fputs("<script type=\"application/octet-stream\" id=\"report-data\">", out);
    bool good = put_data(out, report);
    fputs("</script>\n", out);
    fwrite(rest, 1, (size_t)(report_template_end - rest), out);
    return good && !ferror(out);
}
