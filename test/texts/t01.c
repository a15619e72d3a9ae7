/* t01.c: T1. A process sees virtual memory: text, data, bss, heap from start_brk up to brk, mapping area, stack.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <sys/wait.h>
#include <unistd.h>

static int in_data = 42;
static int in_bss;

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T1", NO_CACHE);
    int on_stack = 1;
    char *in_heap = get_filled(KIB(40));
    char *in_mapping = get_filled(MIB(1));
    look();

    struct kernel_view k = kernel_view();
    uintptr_t text = (uintptr_t)main, data = (uintptr_t)&in_data, bss = (uintptr_t)&in_bss;
    uintptr_t heap = (uintptr_t)in_heap, block = (uintptr_t)in_mapping, stack = (uintptr_t)&on_stack, end = brk_now();
    texts_say("text %#lx data %#lx bss %#lx start_brk %#lx heap %#lx brk %#lx mapping %#lx stack %#lx start_stack %#lx", text, data, bss,
              k.start_brk, heap, end, block, stack, k.start_stack);

    /* Each thing lies where the kernel's bookkeeping says that its kind lies. */
    CHECK_IN("text is between start_code and end_code", text, k.start_code, k.end_code - 1);
    CHECK_IN("initialised data is between start_data and end_data", data, k.start_data, k.end_data - 1);
    CHECK_IN("bss is between end_data and start_brk", bss, k.end_data, k.start_brk - 1);
    CHECK_IN("a small block is between start_brk and brk", heap, k.start_brk, end - 1);
    CHECK_IN("a large block is in the mapping area, between brk and the stack", block, end, stack - 1);
    CHECK_IN("a local variable is below start_stack", stack, end, k.start_stack);

    /* And the order is that of the pictures. */
    CHECK("text < data < bss < heap < mapping area < stack", text < data && data < bss && bss < heap && heap < block && block < stack);

    struct mapping m;
    REQUIRE("text is mapped", mapping_of(text, &m));
    CHECK("text can be read and executed, not written", !strncmp(m.perms, "r-x", 3));
    REQUIRE("data is mapped", mapping_of(data, &m));
    CHECK("data can be read and written, not executed", !strncmp(m.perms, "rw-", 3));
    REQUIRE("bss is mapped", mapping_of(bss, &m));
    CHECK("bss can be read and written, not executed", !strncmp(m.perms, "rw-", 3));
    REQUIRE("the heap is mapped", mapping_of(heap, &m));
    CHECK("the kernel calls it [heap]", !strcmp(m.name, "[heap]"));
    CHECK("the heap can be read and written, not executed", !strncmp(m.perms, "rw-", 3));
    CHECK_PTR("the kernel's [heap] starts at start_brk", m.start, k.start_brk);
    CHECK_PTR("the kernel's [heap] ends at brk", m.end, round_up(end, page_size));
    REQUIRE("the large block is mapped", mapping_of(block, &m));
    CHECK("the large block has no file behind it", m.name[0] != '/' && strcmp(m.name, "[heap]") && strcmp(m.name, "[stack]"));
    REQUIRE("the stack is mapped", mapping_of(stack, &m));
    CHECK("the kernel calls it [stack]", !strcmp(m.name, "[stack]"));

    /* The walk shows the same regions. */
    const struct view *v = view_of(in_heap), *w = view_of(in_mapping);
    REQUIRE("the walk knows both blocks", v && w);
    CHECK_EQ("the small block lies in a region of the break", v->kind, SEEMALLOC_REGION_BRK);
    CHECK_IN("that region starts within a page of start_brk", v->region_start, k.start_brk, k.start_brk + page_size);
    CHECK_PTR("that region ends at brk", v->region_end, end);
    CHECK_EQ("the large block is a region of its own", w->kind, SEEMALLOC_REGION_BLOCK);

    /* The heap grows at its upper end only. */
    for (int i = 0; i < 8; i++) get_filled(KIB(100));
    CHECK("brk goes up as the heap grows", brk_now() > end);
    CHECK_PTR("start_brk stays", kernel_view().start_brk, k.start_brk);

    /* Virtual: two processes see different things at the same address. */
    uint64_t frame = page_frame(heap);
    pid_t child = fork();
    if (child == 0) {
        in_heap[0] = 'c';
        in_mapping[0] = 'c';
        in_data = 7;
        uint64_t other = page_frame(heap);
        _exit(in_heap[0] == 'c' && in_data == 7 && (!frame || other != frame) ? 0 : 1);
    }
    int status = -1;
    REQUIRE("a child was made", child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ("the child wrote to the same addresses, in page frames of its own: its status", status, 0);
    CHECK_EQ("the parent's byte in the heap", (unsigned char)in_heap[0], 0xA5);
    CHECK_EQ("the parent's byte in the mapping", (unsigned char)in_mapping[0], 0xA5);
    CHECK_EQ("the parent's data", in_data, 42);

    /* The command shows them too. */
    const char *shown = texts_tool("story");
    if (shown) {
        static const char *const names[] = {"ext at 0x", "data at 0x", "start_brk 0x", "stack from 0x"};
        uintptr_t at[COUNT_OF(names)];
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            const char *place = strstr(shown, names[i]);
            at[i] = place ? strtoul(place + strlen(names[i]) - 2, NULL, 16) : 0;
            texts_say("the command: %s%lx", names[i], at[i]);
        }
        CHECK("the command shows text, data, start_brk and stack, in that order", at[0] && at[0] < at[1] && at[1] < at[2] && at[2] < at[3]);
        CHECK("it names brk and the mapping area", strstr(shown, "up to brk") && strstr(shown, "mapping area"));
    }
    return texts_end();
}
