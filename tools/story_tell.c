/* story_tell.c: the words of the story. Every sentence follows from the figures of a step and of the one before it; where the allocator does
 * something else than the texts say, the sentence says what it did.
 * SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <string.h>

#include "story.h"

/* A text that grows; what does not fit is cut off. */
struct text {
    char *out;
    size_t size, used;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->out + text->used, text->size - text->used, format, args);
    va_end(args);
    if (n > 0) text->used += (size_t)n < text->size - text->used ? (size_t)n : text->size - text->used - 1;
}

/* In KiB (K), to the nearest tenth, which hides the 16 bytes of a header: they are in the list of chunks. */
const char *tell_size(char out[TELL_SIZE], uint64_t bytes) {
    static const char units[] = "KMGTPE";
    unsigned unit = 0;
    if (bytes < 1024) {
        snprintf(out, TELL_SIZE, "%u B", (unsigned)bytes);
        return out;
    }
    for (; bytes >= 10000 * 1024; bytes /= 1024) unit++;
    unsigned tenths = (unsigned)((bytes * 10 + 512) / 1024);
    if (tenths % 10)
        snprintf(out, TELL_SIZE, "%u.%u %c", tenths / 10, tenths % 10, units[unit]);
    else
        snprintf(out, TELL_SIZE, "%u %c", tenths / 10, units[unit]);
    return out;
}
#define SIZE(bytes) tell_size((char[TELL_SIZE]){0}, bytes)

const char *tell_title(char out[TELL_LINE], const struct story_act *act) {
    switch (act->operation) {
    case STORY_START: snprintf(out, TELL_LINE, "start"); break;
    case STORY_MALLOC: snprintf(out, TELL_LINE, "%c = malloc(%s)", act->letter, SIZE(act->bytes)); break;
    case STORY_FREE: snprintf(out, TELL_LINE, "free(%c)", act->letter); break;
    case STORY_FREE_UNTRIMMED: snprintf(out, TELL_LINE, "free(%c), before the trim", act->letter); break;
    case STORY_TRIM: snprintf(out, TELL_LINE, "trim"); break;
    }
    return out;
}

bool tell_is_mapped(const struct story_chunk *chunk) { return chunk->state == SEEMALLOC_MAPPED; }

static bool is_free(const struct story_chunk *chunk) {
    return chunk->state != SEEMALLOC_IN_USE && chunk->state != SEEMALLOC_MAPPED && chunk->state != SEEMALLOC_TOP &&
           chunk->state != SEEMALLOC_FENCEPOST && chunk->state != SEEMALLOC_ABANDONED;
}

/* The chunk that `address` lies in; NULL if it lies in none. */
static const struct story_chunk *chunk_at(const struct story_step *step, uint64_t address) {
    for (uint32_t i = 0; i < step->chunk_count; i++)
        if (address - step->chunks[i].chunk < step->chunks[i].size) return &step->chunks[i];
    return NULL;
}

const struct story_chunk *tell_block(const struct story_step *step, char letter) {
    const struct story_block *block = &step->blocks[letter - 'A'];
    const struct story_chunk *chunk = block->live ? chunk_at(step, block->address) : NULL;
    return chunk && chunk->mem == block->address && !is_free(chunk) ? chunk : NULL;
}

static const struct story_chunk *top_of(const struct story_step *step) {
    for (uint32_t i = 0; i < step->chunk_count; i++)
        if (step->chunks[i].state == SEEMALLOC_TOP) return &step->chunks[i];
    return NULL;
}

static uint64_t top_size(const struct story_step *step) { return top_of(step) ? top_of(step)->size : 0; }

/* ", was B and D" for the freed blocks that begin in the chunk. */
static void add_former(struct text *text, const struct story_step *step, const struct story_chunk *chunk) {
    unsigned count = 0;
    for (int i = 0; i < STORY_BLOCKS; i++) {
        const struct story_block *block = &step->blocks[i];
        if (block->known && !block->live && block->address - chunk->chunk < chunk->size)
            add(text, "%s%c", count++ ? " and " : ", was ", 'A' + i);
    }
}

const char *tell_chunk(char out[TELL_LINE], const struct story_step *step, const struct story_chunk *chunk) {
    struct text text = {out, TELL_LINE, 0};
    out[0] = '\0';
    for (int i = 0; i < STORY_BLOCKS; i++)
        if (tell_block(step, (char)('A' + i)) == chunk) {
            add(&text, "%c", 'A' + i);
            return out;
        }
    if (chunk->state == SEEMALLOC_IN_USE || chunk->state == SEEMALLOC_MAPPED) {
        add(&text, "other");
    } else {
        add(&text, "%s", chunk->state == SEEMALLOC_TOP ? "top" : is_free(chunk) ? "free" : "end");
        add_former(&text, step, chunk);
    }
    return out;
}

const char *tell_calls(char out[TELL_TEXT], const struct story_step *step) {
    struct text text = {out, TELL_TEXT, 0};
    out[0] = '\0';
    for (int i = 0; i < SEEMALLOC_CALL_COUNT; i++)
        if (step->calls[i]) add(&text, "%s%llu %s", text.used ? ", " : "", (unsigned long long)step->calls[i], step->call_names[i]);
    if (!text.used) add(&text, "no system call");
    return out;
}

uint64_t tell_virtual(const struct story_step *step, bool mapped) {
    uint64_t bytes = 0;
    if (!mapped) return step->brk - step->start_brk;
    for (uint32_t i = 0; i < step->region_count; i++)
        if (step->regions[i].kind != SEEMALLOC_REGION_BRK) bytes += step->regions[i].end - step->regions[i].start;
    return bytes;
}

uint64_t tell_resident(const struct story_step *step, bool mapped) {
    uint64_t pages = 0;
    if (!mapped) return step->heap.resident * step->page_size;
    for (uint32_t i = 0; i < step->region_count; i++)
        if (step->regions[i].kind != SEEMALLOC_REGION_BRK) pages += step->regions[i].resident;
    return pages * step->page_size;
}

uint64_t tell_heap_max(const struct story *story) {
    uint64_t max = 0;
    for (int i = 0; i < STORY_STEPS; i++) max = tell_virtual(&story->steps[i], false) > max ? tell_virtual(&story->steps[i], false) : max;
    return max;
}

uint64_t tell_mapped_max(const struct story *story) {
    uint64_t max = 0;
    for (int i = 0; i < STORY_STEPS; i++) max = tell_virtual(&story->steps[i], true) > max ? tell_virtual(&story->steps[i], true) : max;
    return max;
}

/* ---- sentences ---- */

static const char *plural(uint64_t n) { return n == 1 ? "" : "s"; }

static void add_faults(struct text *text, const struct story_step *now, const struct story_step *last) {
    uint64_t was = tell_resident(last, false) + tell_resident(last, true), is = tell_resident(now, false) + tell_resident(now, true);
    if (now->minor_faults)
        add(text, " Writing to it cost %llu page fault%s", (unsigned long long)now->minor_faults, plural(now->minor_faults));
    else
        add(text, " Writing to it cost no page fault");
    if (is > was)
        add(text, ": %s became resident.", SIZE(is - was));
    else
        add(text, ".");
}

static void add_brk_moved(struct text *text, const struct story_step *now, const struct story_step *last) {
    if (now->brk > last->brk)
        add(text, " brk went up by %s.", SIZE(now->brk - last->brk));
    else if (now->brk < last->brk)
        add(text, " brk went down by %s.", SIZE(last->brk - now->brk));
    else
        add(text, " brk did not move.");
}

static void tell_start(struct text *text, const struct story_step *now) {
    char calls[TELL_TEXT];
    uint64_t count = 0;
    if (now->brk == now->start_brk)
        add(text, "Nothing is allocated yet: brk stands at start_brk, the heap is empty.");
    else
        add(text, "Before the program's first malloc the heap has %s already.", SIZE(now->brk - now->start_brk));
    for (int i = 0; i < SEEMALLOC_CALL_COUNT; i++) count += now->calls[i];
    if (count)
        add(text, " The library has made %llu system call%s to set itself up (%s).", (unsigned long long)count, plural(count),
            tell_calls(calls, now));
}

static void tell_malloc(struct text *text, const struct story_step *now, const struct story_step *last, const struct story_act *act) {
    const struct story_chunk *chunk = tell_block(now, act->letter);
    if (!chunk) {
        add(text, "The walk of the heap does not show %c.", act->letter);
        return;
    }
    const struct story_chunk *from = chunk_at(last, chunk->mem);
    if (tell_is_mapped(chunk)) {
        add(text, "%c has a mapping of its own, away from the heap", act->letter);
        if (chunk->size >= now->mmap_threshold) add(text, ", for it is not below M_MMAP_THRESHOLD (%s)", SIZE(now->mmap_threshold));
        add(text, ".");
        add_brk_moved(text, now, last);
    } else if (now->brk > last->brk) {
        if (last->brk == last->start_brk)
            add(text, "The heap was empty: brk went up by %s", SIZE(now->brk - last->brk));
        else
            add(text, "The top (%s) was too small: brk went up by %s", SIZE(top_size(last)), SIZE(now->brk - last->brk));
        if (now->brk - last->brk > act->bytes)
            add(text, ", more than asked; the rest (%s) is the top.", SIZE(top_size(now)));
        else
            add(text, "; the top has %s.", SIZE(top_size(now)));
    } else if (from && from->state == SEEMALLOC_TOP) {
        add(text, "brk did not move: %c was cut from the top, which had %s and has %s now.", act->letter, SIZE(from->size),
            SIZE(top_size(now)));
    } else if (from && is_free(from)) {
        add(text, "brk did not move: %c got a free chunk of %s.", act->letter, SIZE(from->size));
    } else {
        add(text, "%c is a chunk of %s.", act->letter, SIZE(chunk->size));
        add_brk_moved(text, now, last);
    }
    add_faults(text, now, last);
}

/* What of the picture before lies in `chunk` now: "D (100 K), the free 40 K below it and the top". Returns the sum of all but the top. */
static uint64_t add_parts(struct text *text, const struct story_step *last, const struct story_chunk *chunk, char letter) {
    uint64_t freed_at = last->blocks[letter - 'A'].address, sum = 0;
    const struct story_chunk *freed = chunk_at(last, freed_at);
    add(text, "%c (%s)", letter, SIZE(freed->size));
    sum += freed->size;
    for (uint32_t i = 0; i < last->chunk_count; i++) {
        const struct story_chunk *part = &last->chunks[i];
        if (part == freed || part->chunk - chunk->chunk >= chunk->size || part->state == SEEMALLOC_TOP) continue;
        add(text, " merged with the free %s %s it", SIZE(part->size), part->chunk < freed->chunk ? "below" : "above");
        sum += part->size;
    }
    return sum;
}

static void tell_free(struct text *text, const struct story_step *now, const struct story_step *last, const struct story_act *act) {
    const struct story_chunk *before = tell_block(last, act->letter);
    uint64_t address = now->blocks[act->letter - 'A'].address;
    const struct story_chunk *chunk = chunk_at(now, address);
    if (!before) {
        add(text, "The walk of the heap did not show %c before.", act->letter);
    } else if (tell_is_mapped(before) && !chunk) {
        add(text, "%c was unmapped at once: virtual memory fell by %s, resident memory by %s.", act->letter,
            SIZE(tell_virtual(last, true) - tell_virtual(now, true)), SIZE(tell_resident(last, true) - tell_resident(now, true)));
        add_brk_moved(text, now, last);
    } else if (!chunk) {
        add(text, "%c is no longer part of the heap.", act->letter);
        add_brk_moved(text, now, last);
    } else if (chunk->state == SEEMALLOC_TOP) {
        uint64_t sum = add_parts(text, last, chunk, act->letter);
        if (sum > before->size) add(text, ": %s together", SIZE(sum));
        add(text, "; it touches the top and went into it: the top has %s now.", SIZE(chunk->size));
        add_brk_moved(text, now, last);
    } else {
        uint64_t sum = add_parts(text, last, chunk, act->letter);
        if (sum > before->size) add(text, ": %s together", SIZE(sum));
        const struct story_chunk *above = chunk_at(now, chunk->chunk + chunk->size);
        char name[TELL_LINE];
        add(text, "%s is free, but stays in the heap with its %s of resident memory", sum > before->size ? " that" : "",
            SIZE(chunk->resident * now->page_size));
        if (now->brk == last->brk && above)
            add(text, ": brk could not go down, for %s lies above it.", tell_chunk(name, now, above));
        else
            add(text, ".");
        if (now->brk != last->brk) add_brk_moved(text, now, last);
    }
}

static void tell_trim(struct text *text, const struct story_step *now, const struct story_step *last) {
    uint64_t was = tell_resident(last, false), is = tell_resident(now, false);
    if (now->brk < last->brk) {
        add(text, "The top (%s) exceeded M_TRIM_THRESHOLD (%s): brk went down by %s", SIZE(top_size(last)), SIZE(now->trim_threshold),
            SIZE(last->brk - now->brk));
        add(text, was > is ? " and %s of resident memory went back to the system." : "; no resident memory went back.%.0s", SIZE(was - is));
        add(text, " The top has %s left.", SIZE(top_size(now)));
    } else {
        add(text, "The top (%s) stayed as it is (M_TRIM_THRESHOLD is %s).", SIZE(top_size(now)), SIZE(now->trim_threshold));
        add_brk_moved(text, now, last);
    }
}

const char *tell_what(char out[TELL_TEXT], const struct story *story, unsigned number) {
    struct text text = {out, TELL_TEXT, 0};
    const struct story_step *now = &story->steps[number - 1], *last = number > 1 ? now - 1 : now;
    const struct story_act *act = &story_acts[number - 1];
    out[0] = '\0';
    switch (act->operation) {
    case STORY_START: tell_start(&text, now); break;
    case STORY_MALLOC: tell_malloc(&text, now, last, act); break;
    case STORY_FREE: tell_free(&text, now, last, act); break;
    case STORY_FREE_UNTRIMMED:
        tell_free(&text, now, last, act);
        add(&text, " (The trim, a part of the same call, is held back for this picture by a threshold of %s.)", SIZE(now->trim_threshold));
        break;
    case STORY_TRIM: tell_trim(&text, now, last); break;
    }
    return out;
}
