/* stack.c: see stack.h. SPDX-License-Identifier: MIT */
#include "trace/stack.h"

#ifdef SEEMALLOC_TRACE

#include <link.h>
#include <unwind.h>

#include "os/os.h"
#include "trace/rules.h"
#include "trace/shared.h"

struct trace_stacks {
    uint64_t low, high;         /* this thread's stack */
    uint64_t found;             /* the hash that was last looked for */
    uint64_t hash[TRACE_SLOTS]; /* 0: none */
};

static bool by_pointers;
static uint64_t factor[TRACE_DEPTH_MOST]; /* odd, by chance */

extern const char __ehdr_start[] __attribute__((visibility("hidden"))); /* of this library, as the linker names it */
static uint64_t own_end;

/* The end of this library's code: by its program headers, for a name for it would be exported. */
static void find_own_end(void) {
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)(const void *)__ehdr_start;
    const ElfW(Phdr) *part = (const ElfW(Phdr) *)(const void *)(__ehdr_start + head->e_phoff);
    for (unsigned i = 0; i < head->e_phnum; i++) {
        if (part[i].p_type == PT_LOAD && (part[i].p_flags & PF_X) != 0)
            own_end = (uintptr_t)__ehdr_start + part[i].p_vaddr + part[i].p_memsz;
    }
}

struct walk {
    uint64_t *frame;
    unsigned count, depth;
};

static bool is_own(uint64_t address) { return address >= (uintptr_t)__ehdr_start && address < own_end; }

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *arg) {
    struct walk *walk = arg;
    uint64_t address = _Unwind_GetIP(context);
    if (address == 0) return _URC_END_OF_STACK;
    if (walk->count == 0 && is_own(address)) return _URC_NO_REASON;
    walk->frame[walk->count++] = address;
    return walk->count < walk->depth ? _URC_NO_REASON : _URC_END_OF_STACK;
}

void stacks_begin(bool pointers) {
    by_pointers = pointers;
    find_own_end();
    for (unsigned i = 0; i < TRACE_DEPTH_MOST; i++) factor[i] = prim_random() | 1;
    uint64_t frame[2];
    struct walk walk = {frame, 0, 2};
    _Unwind_Backtrace(visit, &walk); /* sets itself up now */
}

struct trace_stacks *stacks_new(void) {
    struct trace_stacks *stacks = os_map(NULL, align_up(sizeof *stacks, os_page_size()), true, SEEMALLOC_CALL_MMAP_META);
    if (stacks != NULL) prim_stack_bounds((uintptr_t)__builtin_frame_address(0), &stacks->low, &stacks->high);
    return stacks;
}

static NOINLINE unsigned walk_by_unwinder(uint64_t *frame, unsigned depth) {
    struct walk walk = {frame, 0, depth};
    _Unwind_Backtrace(visit, &walk);
    return walk.count;
}

#ifdef RULES_COMPILED

static ALWAYS_INLINE uint64_t word_at(uint64_t address) { return *(const uint64_t *)(uintptr_t)address; }

/* From frame to frame by rules, or, once this library is left, by frame pointers if asked for. What is read lies in this thread's stack above our own frame, so
 * that even nonsense does no harm. On another stack, and where there is something else than simple rules, the unwinder does it. */
static unsigned walk_by_rules(const struct trace_stacks *stacks, uint64_t *frame, unsigned depth) {
    uint64_t address, sp, bp, high = stacks->high - 16;
    __asm__ __volatile__("lea 1f(%%rip), %0\n\tmov %%rsp, %1\n\tmov %%rbp, %2\n1:\tnop" : "=r"(address), "=r"(sp), "=r"(bp));
    if (sp < stacks->low || sp >= stacks->high) return walk_by_unwinder(frame, depth);
    unsigned count = 0;
    address++; /* as if it were one behind a call */
    while (count < depth) {
        uint64_t cfa;
        if (by_pointers && count != 0) {
            if (bp < sp || bp > high || bp % 8 != 0) break;
            cfa = bp + 16;
            bp = word_at(bp);
        } else {
            unwind_rule rule = rule_of(address);
            unsigned kind = rule & 7;
            if (kind == UNWIND_END) break;
            if (kind == UNWIND_OTHER) return walk_by_unwinder(frame, depth);
            uint64_t saved = rule >> 32;
            cfa = (kind == UNWIND_BY_STACK ? sp : bp) + ((uint32_t)rule >> 3);
            if (cfa <= sp || cfa > high || cfa % 8 != 0 || saved > cfa - sp) break;
            if (saved != 0) bp = word_at(cfa - saved);
        }
        address = word_at(cfa - 8);
        sp = cfa;
        if (address == 0) break;
        if (count != 0 || !is_own(address)) frame[count++] = address;
    }
    return count;
}

#endif

unsigned stack_walk(struct trace_stacks *stacks, uint64_t *frame, unsigned depth) {
#ifdef RULES_COMPILED
    return walk_by_rules(stacks, frame, depth);
#else
    (void)stacks;
    return walk_by_unwinder(frame, depth);
#endif
}

static uint64_t stack_hash(const uint64_t *frame, unsigned count) {
    uint64_t sum = count;
    for (unsigned i = 0; i < count; i++) sum += (frame[i] ^ frame[i] >> 7) * factor[i]; /* no product waits for another */
    return (sum ^ sum >> 32) | 1;
}

bool stacks_find(struct trace_stacks *stacks, const uint64_t *frame, unsigned count, unsigned *slot) {
    stacks->found = stack_hash(frame, count);
    *slot = 1 + (unsigned)((stacks->found >> 32) % (TRACE_SLOTS - 1));
    return stacks->hash[*slot] == stacks->found;
}

void stacks_keep(struct trace_stacks *stacks, unsigned slot) { stacks->hash[slot] = stacks->found; }

void stacks_end(struct trace_stacks *stacks) { os_unmap_meta(stacks, align_up(sizeof *stacks, os_page_size())); }

#endif
