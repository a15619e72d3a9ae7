/* story_json.c: the story in a form for programs. Sizes are bytes.
 * SPDX-License-Identifier: MIT */
#include "json.h"
#include "story.h"

static void put_chunk(FILE *out, const struct story_step *step, const struct story_chunk *chunk) {
    char name[TELL_LINE];
    fputs("        {", out);
    json_address(out, "chunk", chunk->chunk);
    fputs(", ", out);
    json_address(out, "mem", chunk->mem);
    fputs(", ", out);
    json_number(out, "size", chunk->size);
    fprintf(out, ", \"flags\": \"%s%s%s\", \"bin\": %d, \"state\": ", chunk->flags & SEEMALLOC_FLAG_A ? "A" : "",
            chunk->flags & SEEMALLOC_FLAG_M ? "M" : "", chunk->flags & SEEMALLOC_FLAG_P ? "P" : "", chunk->bin);
    json_string(out, step->state_names[chunk->state]);
    fputs(", \"name\": ", out);
    json_string(out, tell_chunk(name, step, chunk));
    fputs(", ", out);
    json_number(out, "resident_pages", chunk->resident);
    fputs("}", out);
}

static void put_calls(FILE *out, const struct story_step *step) {
    const char *comma = "";
    fputs("      \"calls\": {", out);
    for (int i = 0; i < SEEMALLOC_CALL_COUNT; i++) {
        if (!step->calls[i]) continue;
        fprintf(out, "%s\"%s\": %llu", comma, step->call_names[i], (unsigned long long)step->calls[i]);
        comma = ", ";
    }
    fputs("},\n", out);
}

static void put_pages(FILE *out, const char *name, const struct story_span *span) {
    fprintf(out, "      \"%s\": \"", name);
    for (uint32_t i = 0; i < span->pages; i++) putc(story_page(span, i) ? '1' : '0', out);
    fputs("\",\n", out);
}

static void put_step(FILE *out, const struct story *story, unsigned number) {
    const struct story_step *step = &story->steps[number - 1];
    const struct {
        const char *name;
        uint64_t value;
    } addresses[] = {{"start_code", step->start_code},  {"end_code", step->end_code},   {"start_data", step->start_data},
                     {"end_data", step->end_data},      {"start_brk", step->start_brk}, {"brk", step->brk},
                     {"start_stack", step->start_stack}},
      numbers[] = {{"number", number},
                   {"page_size", step->page_size},
                   {"heap_bytes", tell_virtual(step, false)},
                   {"heap_resident_bytes", tell_resident(step, false)},
                   {"mapped_bytes", tell_virtual(step, true)},
                   {"mapped_resident_bytes", tell_resident(step, true)},
                   {"mappings", step->mappings},
                   {"minor_faults", step->minor_faults},
                   {"major_faults", step->major_faults},
                   {"mmap_threshold", step->mmap_threshold},
                   {"trim_threshold", step->trim_threshold}};
    char title[TELL_LINE], what[TELL_TEXT];

    fputs("    {\n      \"title\": ", out);
    json_string(out, tell_title(title, &story_acts[number - 1]));
    fputs(",\n      \"seen\": ", out);
    json_string(out, tell_what(what, story, number));
    fputs(",\n", out);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        fputs("      ", out);
        json_number(out, numbers[i].name, numbers[i].value);
        fputs(",\n", out);
    }
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        fputs("      ", out);
        json_address(out, addresses[i].name, addresses[i].value);
        fputs(",\n", out);
    }
    put_calls(out, step);
    put_pages(out, "heap_pages", &step->heap);
    put_pages(out, "mapped_pages", &step->mapped);
    fputs("      \"chunks\": [", out);
    for (uint32_t i = 0; i < step->chunk_count; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_chunk(out, step, &step->chunks[i]);
    }
    fputs("]\n    }", out);
}

void story_json(FILE *out, const struct story *story) {
    fputs("{\n  \"format\": \"seemalloc story 1\",\n  \"library\": ", out);
    json_string(out, story->library);
    fputs(",\n  \"version\": ", out);
    json_string(out, story->steps[0].version);
    fputs(",\n  \"steps\": [\n", out);
    for (unsigned i = 1; i <= STORY_STEPS; i++) {
        put_step(out, story, i);
        fputs(i < STORY_STEPS ? ",\n" : "\n", out);
    }
    fputs("  ]\n}\n", out);
}
