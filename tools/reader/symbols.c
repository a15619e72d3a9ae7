/* symbols.c: see symbols.h. Addresses of stacks are where calls return to: what is looked up is the byte before. SPDX-License-Identifier: MIT */
#include "reader/symbols.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef SEEMALLOC_LIBDW
#include "reader/debug_info.h"
#endif

uint32_t symbols_text(struct symbols *symbols, const char *text) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *at = text; *at != '\0'; at++) hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    for (uint64_t twin = 0;; twin++) {
        uint32_t index = lookup_find(&symbols->by_text, hash, twin);
        if (index != LOOKUP_NONE && strcmp(symbols->texts[index], text) == 0) return index;
        if (index != LOOKUP_NONE) continue;
        symbols->texts = need_more(symbols->texts, symbols->text_count, &symbols->text_room, sizeof *symbols->texts);
        size_t size = strlen(text) + 1;
        symbols->texts[symbols->text_count] = memcpy(need_memory(NULL, size, 1), text, size);
        lookup_add(&symbols->by_text, hash, twin, (uint32_t)symbols->text_count);
        return (uint32_t)symbols->text_count++;
    }
}

static void add_frame(struct symbols *symbols, const struct symbol_frame *frame) {
    symbols->frames = need_more(symbols->frames, symbols->frame_count, &symbols->frame_room, sizeof *symbols->frames);
    symbols->frames[symbols->frame_count++] = *frame;
}

/* --- names ------------------------------------------------------------------------------------------------------------------------------------------- */

/* "/usr/lib/libx.so+0x12f0", "0x7f0012345678". */
static void name_by_place(const struct replay *replay, uint64_t address, uint32_t index, struct symbols *symbols,
                          struct symbol_frame *frame) {
    const struct replay_module *module = index != REPLAY_NO_MODULE ? &replay->modules[index] : NULL;
    size_t size = 32 + (module != NULL ? strlen(module->path) : 0);
    char *text = need_memory(NULL, size, 1);
    if (module != NULL && module->path[0] != '\0') {
        snprintf(text, size, "%s+0x%" PRIx64, module->path, address - module->start + module->offset);
    } else {
        snprintf(text, size, "0x%" PRIx64, address);
    }
    frame->function = symbols_text(symbols, text);
    free(text);
}

#ifdef SEEMALLOC_LIBDW

/* C++'s names are undone by its own library, where there is one. */
static uint32_t readable(struct symbols *symbols, const char *name) {
    if (strncmp(name, "_Z", 2) != 0 || symbols->demangle == NULL) return symbols_text(symbols, name);
    int status = 0;
    char *text = symbols->demangle(name, NULL, NULL, &status);
    uint32_t index = symbols_text(symbols, text != NULL && status == 0 ? text : name);
    free(text);
    return index;
}

struct look {
    struct symbols *symbols;
    uint64_t address;
    uint32_t module;
};

static void found(void *context, const char *function, const char *source, unsigned line, bool is_inlined) {
    struct look *look = context;
    struct symbols *symbols = look->symbols;
    struct symbol_frame frame = {.module = look->module, .line = line, .is_inlined = is_inlined, .is_known = function != NULL};
    if (source != NULL) frame.file = symbols_text(symbols, source);
    if (function != NULL) {
        frame.function = readable(symbols, function);
    } else {
        name_by_place(symbols->replay, look->address, look->module, symbols, &frame);
    }
    add_frame(symbols, &frame);
}

/* A file may be mapped more than once, and again. */
static uint32_t same_file(const struct symbols *symbols, uint32_t index) {
    const struct replay_module *modules = symbols->replay->modules, *module = &modules[index];
    for (uint32_t i = 0; i < index; i++) {
        if (strcmp(modules[i].path, module->path) == 0 && modules[i].build_id_bytes == module->build_id_bytes &&
            memcmp(modules[i].build_id, module->build_id, module->build_id_bytes) == 0) {
            return i;
        }
    }
    return index;
}

static struct debug_file *file_of(struct symbols *symbols, uint32_t index) {
    static const enum symbol_state states[] = {
        [DEBUG_GOOD] = SYMBOLS_FOUND, [DEBUG_NO_FILE] = SYMBOLS_NO_FILE, [DEBUG_OTHER_FILE] = SYMBOLS_OTHER_FILE};
    if (symbols->states[index] != SYMBOLS_UNUSED) return symbols->files[symbols->file_of[index]];
    uint32_t first = same_file(symbols, index);
    symbols->file_of[index] = first;
    if (symbols->states[first] == SYMBOLS_UNUSED) {
        const struct replay_module *module = &symbols->replay->modules[first];
        enum debug_verdict verdict = DEBUG_NO_FILE;
        if (module->path[0] == '/') {
            symbols->files[first] = debug_file_open(module->path, module->build_id, module->build_id_bytes, &verdict);
        }
        symbols->states[first] = states[verdict];
        symbols->file_of[first] = first;
    }
    symbols->states[index] = symbols->states[first];
    return symbols->files[first];
}

static void look_up(struct symbols *symbols, uint64_t address, uint32_t index) {
    const struct replay_module *module = &symbols->replay->modules[index];
    struct debug_file *file = file_of(symbols, index);
    struct look look = {symbols, address, index};
    if (file != NULL) debug_file_look(file, address - 1 - module->start + module->offset, &look, found);
}

static void close_files(struct symbols *symbols) {
    for (size_t i = 0; i < symbols->replay->module_count; i++) debug_file_close(symbols->files[i]);
}

#else

static void look_up(struct symbols *symbols, uint64_t address, uint32_t index) {
    (void)address;
    symbols->states[index] = SYMBOLS_NONE;
}

static void close_files(struct symbols *symbols) { (void)symbols; }

#endif

/* --- places -------------------------------------------------------------------------------------------------------------------------------------------- */

uint32_t symbols_place(struct symbols *symbols, const struct replay_stack *stack, size_t index) {
    const struct replay *replay = symbols->replay;
    uint64_t address = replay->addresses[stack->first + index];
    uint32_t module = address != 0 ? replay_module_at(replay, address - 1, stack->time) : REPLAY_NO_MODULE;
    uint32_t known = lookup_find(&symbols->by_address, address, module);
    if (known != LOOKUP_NONE) return known;
    struct symbol_place place = {.address = address, .module = module, .first = symbols->frame_count};
    if (module != REPLAY_NO_MODULE) look_up(symbols, address, module);
    if (symbols->frame_count == place.first) {
        struct symbol_frame frame = {.module = module};
        name_by_place(replay, address, module, symbols, &frame);
        add_frame(symbols, &frame);
    }
    place.count = symbols->frame_count - place.first;
    symbols->places = need_more(symbols->places, symbols->place_count, &symbols->place_room, sizeof *symbols->places);
    symbols->places[symbols->place_count] = place;
    lookup_add(&symbols->by_address, address, module, (uint32_t)symbols->place_count);
    return (uint32_t)symbols->place_count++;
}

void symbols_open(struct symbols *symbols, const struct replay *replay) {
    *symbols = (struct symbols){.replay = replay};
    symbols->files = need_memory(NULL, replay->module_count, sizeof(struct debug_file *));
    symbols->states = need_memory(NULL, replay->module_count, sizeof *symbols->states);
    symbols->file_of = need_memory(NULL, replay->module_count, sizeof *symbols->file_of);
    symbols_text(symbols, "");
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);
    void *symbol = library != NULL ? dlsym(library, "__cxa_demangle") : NULL;
    if (symbol != NULL) memcpy(&symbols->demangle, &symbol, sizeof symbol);
}

void symbols_close(struct symbols *symbols) {
    close_files(symbols);
    for (size_t i = 0; i < symbols->text_count; i++) free(symbols->texts[i]);
    free(symbols->texts);
    free(symbols->frames);
    free(symbols->places);
    free(symbols->files);
    free(symbols->states);
    free(symbols->file_of);
    lookup_free(&symbols->by_address);
    lookup_free(&symbols->by_text);
    *symbols = (struct symbols){0};
}
