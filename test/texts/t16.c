/* t16.c: T16. 128 bins: 1 unsorted, 2 to 63 small (one exact size each, 16 apart, below 1024), 64 to 126 large (bin 64 = [1024, 1088),
 * ranges that widen), each a doubly linked ring.
 *
 * Chunks of the first and the last size of every bin are freed, sorted, and looked for. Fast bins are off (mxfast:0): small chunks go
 * the way of all others; and the mapping threshold is at its highest: the last bins hold chunks beyond 128 KiB.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#define CONF NO_CACHE ",mxfast:0,mmap_threshold:33554432,trim_threshold:1073741824"

/* The documented borders on 64-bit: the first size of a range of bins, its first bin, the distance of the bins in it. */
static const struct {
    size_t from;
    int bin;
    size_t step;
} ranges[] = {
    {32, 2, 16}, {1024, 64, 64}, {3136, 97, 512}, {10752, 112, 4096}, {45056, 120, 32768}, {163840, 124, 262144}, {786432, 126, SIZE_MAX},
};

/* Steps count from multiples of the step, as sizes are shifted right. */
static int bin_by_table(size_t size) {
    for (size_t i = COUNT_OF(ranges); i-- > 0;)
        if (size >= ranges[i].from) return ranges[i].bin + (int)(size / ranges[i].step - ranges[i].from / ranges[i].step);
    return 0;
}

/* The same as ptmalloc documents it for 64-bit. */
static int bin_by_shifts(size_t size) {
    if (size < 1024) return (int)(size >> 4);
    if (size >> 6 <= 48) return 48 + (int)(size >> 6);
    if (size >> 9 <= 20) return 91 + (int)(size >> 9);
    if (size >> 12 <= 10) return 110 + (int)(size >> 12);
    if (size >> 15 <= 4) return 119 + (int)(size >> 15);
    if (size >> 18 <= 2) return 124 + (int)(size >> 18);
    return 126;
}

struct sample {
    size_t size;
    int bin;
    void *mem;
};
static struct sample samples[512];
static size_t count;

static void sample(size_t size, int bin) {
    REQUIRE("room for samples", count < COUNT_OF(samples));
    samples[count++] = (struct sample){size, bin, get_guarded(size)};
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T16", CONF);

    /* The two ways to write the borders down agree, so that the table below is what ptmalloc does. */
    size_t differing = 0;
    for (size_t size = 32; size < MIB(2); size += 16) differing += bin_by_table(size) != bin_by_shifts(size);
    CHECK_EQ("sizes for which table and shifts differ", differing, 0);
    CHECK_EQ("bin 64 begins at 1024", bin_by_shifts(1024), 64);
    CHECK_EQ("and ends before 1088", bin_by_shifts(1072), 64);
    CHECK_EQ("1088 is in bin 65", bin_by_shifts(1088), 65);
    CHECK_EQ("the last small bin", bin_by_shifts(1008), 63);

    /* First and last size of each bin. */
    texts_quiet = 1;
    for (size_t size = 32; size <= 786432; size += 16) {
        int bin = bin_by_shifts(size);
        if (size == 32 || bin_by_shifts(size - 16) != bin) sample(size, bin);
        if (bin >= 64 && bin < 126 && bin_by_shifts(size + 16) != bin) sample(size, bin);
    }
    sample(MIB(2), 126);
    for (size_t i = 0; i < count; i++) put(samples[i].mem);
    look();
    for (size_t i = 0; i < count; i++)
        if (state_of(samples[i].mem) == SEEMALLOC_UNSORTED)
            CHECK_EQ("what was freed is in bin 1, unsorted, at first", bin_of(samples[i].mem), 1);
    texts_quiet = 0;
    size_t unsorted = views_in(SEEMALLOC_UNSORTED);
    CHECK_EQ("all that was freed is in the unsorted bin", unsorted, count);
    static uintptr_t ring[1024];
    CHECK_EQ("the unsorted bin is a doubly linked ring of them", ring_of((uintptr_t)samples[0].mem - 16, ring, COUNT_OF(ring)), count);

    sort_bins();
    CHECK_EQ("sorted: chunks left in the unsorted bin", views_in(SEEMALLOC_UNSORTED), 0);
    static size_t held[128], smallest[128], largest[128];
    texts_quiet = 1;
    for (size_t i = 0; i < count; i++) {
        const struct view *v = view_of(samples[i].mem);
        REQUIRE("the walk knows the chunk", v);
        CHECK_EQ("its size", v->size, samples[i].size);
        if (!CHECK_EQ("its bin", v->bin, samples[i].bin)) texts_say("     that was for size %zu", v->size);
        if (v->state != SEEMALLOC_LAST_REMAINDER)
            CHECK_EQ("small below 1024, large from there", v->state, v->size < 1024 ? SEEMALLOC_SMALL : SEEMALLOC_LARGE);
        if (v->bin < 1 || v->bin > 126) continue;
        held[v->bin]++;
        if (!smallest[v->bin] || v->size < smallest[v->bin]) smallest[v->bin] = v->size;
        if (v->size > largest[v->bin]) largest[v->bin] = v->size;
    }

    for (int bin = 2; bin <= 126; bin++) {
        CHECK("each of the bins 2 to 126 was met", held[bin]);
        if (bin < 64) {
            CHECK_EQ("a small bin has one size, 16 times its number", smallest[bin], 16 * (size_t)bin);
            CHECK_EQ("and no other", largest[bin], smallest[bin]);
        } else {
            CHECK_EQ("a large bin begins where the one before ends", smallest[bin], largest[bin - 1] + 16);
        }
    }
    /* Each bin is a ring with the bin's own place in it. */
    static uintptr_t places[128];
    for (size_t i = 0; i < count; i++) {
        int bin = samples[i].bin;
        uintptr_t chunk = (uintptr_t)samples[i].mem - 16;
        size_t n = ring_of(chunk, ring, COUNT_OF(ring));
        CHECK_EQ("members of the bin's ring", n, held[bin]);
        uintptr_t place = n ? raw(ring[0])->bk : 0;
        CHECK_PTR("the ring goes from the bin to the bin", n ? raw(ring[n - 1])->fd : 1, place);
        CHECK("the bin's place is not in the heap",
              !view_at(place) && (place < view_at(chunk)->region_start || place >= view_at(chunk)->region_end));
        CHECK("it is the same for all of its chunks", !places[bin] || places[bin] == place);
        places[bin] = place;
    }
    for (int bin = 3; bin <= 126; bin++)
        CHECK_EQ("bins lie one after the other, two words each", places[bin] - places[bin - 1], 2 * sizeof(void *));
    texts_quiet = 0;
    CHECK_EQ("chunks that were looked at", count, 62 + 2 * 62 + 2);
    static const int shown[] = {2, 63, 64, 96, 97, 111, 112, 119, 120, 123, 124, 125, 126};
    for (size_t i = 0; i < COUNT_OF(shown); i++) texts_say("bin %d: %zu to %zu", shown[i], smallest[shown[i]], largest[shown[i]]);

    /* The ranges widen. */
    texts_quiet = 1;
    size_t width = 16;
    for (int bin = 64; bin < 126; bin++) {
        size_t now = largest[bin] - smallest[bin] + 16;
        CHECK("no bin is narrower than one before it", now >= width);
        width = now;
    }
    texts_quiet = 0;
    CHECK_EQ("the first large bin is 64 wide", largest[64] - smallest[64] + 16, 64);
    CHECK_EQ("the last but one 262144", largest[125] - smallest[125] + 16, 262144);
    return texts_end();
}
