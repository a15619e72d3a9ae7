/* retain.c: see retain.h. SPDX-License-Identifier: MIT */
#include "heap/retain.h"

#include "conf/conf.h"
#include "heap/mapped.h"
#include "os/cgroup.h"
#include "os/os.h"

#define LEAST KIB(64) /* of a mapping: less is not worth a slot */
#define MUCH MIB(32)
#define EXCESS_SHARE 32 /* of a block: as much more than it asked for it may have, before the rest is kept for itself */

APART struct retained retain_slots[RETAIN_SLOTS];

size_t retained_bytes, heap_bytes, footprint_peak;

/* Estimates; a race between two threads makes them a little wrong. */
static size_t regret;      /* bytes that were unmapped although they were soon wanted again */
static size_t lost;        /* unmapped, each soon after the last, and not wanted again so far */
static uint64_t lost_last; /* when something was unmapped last */

void mapping_drop(char *start, size_t length) {
    os_give(length);
    if (!os_unmap(start, length, SEEMALLOC_CALL_MUNMAP_BLOCK)) {
        os_discard(start, length, SEEMALLOC_CALL_MADVISE_TRIM); /* at the limit of mappings, say: the memory goes, the addresses stay */
    }
}

/* What the control group allows; asked for by the first that uses much. */
static size_t memory_limit = SIZE_MAX;
static bool memory_limit_known;

static size_t footprint(void) { return load_relaxed(&heap_bytes) + load_relaxed(&mapped_bytes); }

size_t footprint_note(void) {
    size_t used = footprint();
    atomic_max(&footprint_peak, used);
    if (UNLIKELY(used >= MUCH && !load_relaxed(&memory_limit_known))) {
        store_relaxed(&memory_limit_known, true);
        store_relaxed(&memory_limit, cgroup_memory());
    }
    return used;
}

size_t footprint_spare(void) {
    size_t limit = load_relaxed(&memory_limit), used = footprint();
    return limit == SIZE_MAX ? SIZE_MAX : limit > used ? (limit - used) / 4 : 0;
}

/* How much may be retained now. */
static size_t room(void) {
    size_t used = footprint_note(), beside = load_relaxed(&footprint_peak) - used;
    return min_size(min_size(min_size(beside, load_relaxed(&regret)), footprint_spare()), conf_get(CONF_RETAIN_MAX));
}

static bool claim(struct retained *slot, uintptr_t start) { return cas_acq_rel(&slot->start, &start, RETAIN_CLAIMED); }

static void publish(struct retained *slot, char *start, size_t length) {
    store_relaxed(&slot->length, length);
    store_release(&slot->start, (uintptr_t)start);
}

static bool put_away(char *start, size_t length, uint64_t now) {
    for (unsigned i = 0; i < RETAIN_SLOTS; i++) {
        if (load_relaxed(&retain_slots[i].start) != 0 || !claim(&retain_slots[i], 0)) continue;
        store_relaxed(&retain_slots[i].since, now);
        publish(&retain_slots[i], start, length);
        return true;
    }
    return false;
}

static void note_lost(size_t length, uint64_t now) {
    if (now - load_relaxed(&lost_last) > RETAIN_TIME) store_relaxed(&lost, 0);
    add_relaxed(&lost, length);
    store_relaxed(&lost_last, now);
}

COLD void retain_free(char *start, size_t length) {
    if (length <= CONF_MMAP_THRESHOLD_MOST || !conf_slides()) {
        mapping_drop(start, length);
        return;
    }
    uint64_t now = os_clock();
    size_t most = room(), have = add_relaxed(&retained_bytes, length); /* first, for others do the same */
    size_t part = most > have ? min_size(align_down(most - have, os_page_size()), length) : 0;
    if (part < LEAST) part = 0;
    sub_relaxed(&retained_bytes, length - part);
    if (part != 0 && !put_away(start, part, now)) {
        sub_relaxed(&retained_bytes, part);
        part = 0;
    }
    if (part == length) return;
    note_lost(length - part, now);
    mapping_drop(start + part, length - part);
}

void retain_note_new(size_t length) {
    if (length <= CONF_MMAP_THRESHOLD_MOST) return;
    size_t before = load_relaxed(&lost), wasted = min_size(before, length);
    if (wasted == 0) return;
    store_relaxed(&lost, before - wasted);
    if (os_clock() - load_relaxed(&lost_last) > RETAIN_TIME) return;
    store_relaxed(&regret, min_size(load_relaxed(&regret) + wasted, conf_get(CONF_RETAIN_MAX)));
}

/* The smallest that suffices, else the largest; claimed. */
static struct retained *best(size_t length, uintptr_t *start) {
    struct retained *found = NULL;
    size_t found_length = 0;
    for (unsigned i = 0; i < RETAIN_SLOTS; i++) {
        uintptr_t at = load_acquire(&retain_slots[i].start);
        size_t here = load_relaxed(&retain_slots[i].length);
        if (at <= RETAIN_CLAIMED) continue;
        bool better = here >= length ? found_length < length || here < found_length : here > found_length;
        if (!better) continue;
        found = &retain_slots[i];
        found_length = here;
        *start = at;
    }
    return found != NULL && claim(found, *start) ? found : NULL;
}

char *retain_take(size_t *length) {
    uintptr_t at;
    if (*length <= CONF_MMAP_THRESHOLD_MOST) return NULL;
    struct retained *slot = load_relaxed(&retained_bytes) != 0 ? best(*length, &at) : NULL;
    if (slot == NULL) return NULL;
    char *start = (char *)at;
    size_t here = slot->length, wanted = *length;
    if (here > wanted + wanted / EXCESS_SHARE) {
        sub_relaxed(&retained_bytes, wanted);
        publish(slot, start + wanted, here - wanted);
        return start;
    }
    char *moved = here < wanted ? os_remap(start, here, wanted) : start;
    if (moved == NULL) {
        publish(slot, start, here);
        return NULL;
    }
    sub_relaxed(&retained_bytes, here);
    store_release(&slot->start, 0);
    if (here < wanted) {
        retain_note_new(wanted - here);
    } else {
        *length = here;
    }
    return moved;
}

COLD void retain_walk(void (*visit)(const void *start, size_t size, void *arg), void *arg) {
    for (unsigned i = 0; i < RETAIN_SLOTS; i++) {
        uintptr_t start = load_acquire(&retain_slots[i].start);
        if (start > RETAIN_CLAIMED) visit((const void *)start, load_relaxed(&retain_slots[i].length), arg);
    }
}

COLD void retain_fork_child(void) {
    size_t bytes = 0;
    for (unsigned i = 0; i < RETAIN_SLOTS; i++) bytes += load_relaxed(&retain_slots[i].start) > RETAIN_CLAIMED ? retain_slots[i].length : 0;
    store_relaxed(&retained_bytes, bytes);
}

/* Unmaps what has lain since before `since`, and of the rest as much as is more than `most`. */
static bool give_back(uint64_t since, size_t most) {
    bool any = false;
    for (unsigned i = 0; i < RETAIN_SLOTS; i++) {
        uintptr_t start = load_acquire(&retain_slots[i].start);
        if (start <= RETAIN_CLAIMED) continue;
        bool old = load_relaxed(&retain_slots[i].since) < since;
        if ((!old && load_relaxed(&retained_bytes) <= most) || !claim(&retain_slots[i], start)) continue;
        size_t length = retain_slots[i].length;
        sub_relaxed(&retained_bytes, length);
        if (old) store_relaxed(&regret, load_relaxed(&regret) / 2); /* it was not needed after all */
        store_release(&retain_slots[i].start, 0);
        mapping_drop((char *)start, length);
        any = true;
    }
    return any;
}

COLD void retain_shed(void) {
    if (load_relaxed(&retained_bytes) == 0) return;
    give_back(os_clock() - RETAIN_TIME, room());
}

bool retain_release(void) { return give_back(0, 0); }
