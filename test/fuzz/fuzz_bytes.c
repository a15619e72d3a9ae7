/* fuzz_bytes: the player under libFuzzer: an input is a stream of operations, in the form of op_decode. Every input is played on a heap as it is
 * at the start of a process: the engine's variables (sections.h) and the fake system are put back, and a new thread poses as the main one.
 *
 *   fuzz_bytes [-max_total_time=60] [-max_len=4096] [corpus]          a failure leaves crash-…, which fuzz_bytes plays again
 *
 * SPDX-License-Identifier: MIT */
#include "fake.h"
#include "player.h"
#include "shadow.h"
#include "stage.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern char __start_engine_data[], __stop_engine_data[], __start_engine_bss[], __stop_engine_bss[];

static void on_fault(const char *message) {
    fprintf(stderr, "fuzz_bytes: %s\n", message);
    abort();
}

struct input {
    const uint8_t *data;
    size_t size;
};

static void *play(void *arg) {
    const struct input *input = arg;
    fake_set_main_thread(1);
    const uint8_t *data = input->data;
    size_t left = input->size;
    uint8_t how = data[0];
    struct player_setup setup = {.subject = &subject_engine,
                                 .ops = {.threads = how & 1 ? 4 : 1, .stage = true, .inject = (how & 2) != 0, .slots = how & 4 ? 32 : 256},
                                 .lanes = 1,
                                 .check_every = how & 8 ? 1 : 16,
                                 .live_limit = (size_t)64 << 20,
                                 .seed = how,
                                 .stage = stage_play,
                                 .stage_check = fake_check,
                                 .fault = on_fault};
    data++, left--;
    struct player *player = player_new(&setup);
    struct op op;
    for (size_t used; (used = op_decode(data, left, setup.ops, &op)) != 0;) {
        lane_play(player_lane(player, 0), &op);
        if (used >= left) break;
        data += used;
        left -= used;
    }
    player_finish(player);
    player_delete(player);
    return NULL;
}

/* As memcpy, but over the gaps that AddressSanitizer leaves between variables; word by word, so that it isn't made a call of memcpy. */
__attribute__((no_sanitize("address"))) static void copy(void *to, const void *from, size_t size) {
    volatile uint64_t *out = to;
    for (size_t i = 0; i < size / 8; i++) out[i] = ((const uint64_t *)from)[i];
}

/* Saves the engine's variables at the first call, later puts them back. */
static void restore(void) {
    static char *saved;
    size_t data = ((size_t)(__stop_engine_data - __start_engine_data) + 7) & ~(size_t)7,
           bss = ((size_t)(__stop_engine_bss - __start_engine_bss) + 7) & ~(size_t)7;
    if (saved == NULL) {
        saved = shadow_pages(data + bss);
        copy(saved, __start_engine_data, data);
        copy(saved + data, __start_engine_bss, bss);
        fake_keep(); /* what the constructors have mapped */
        return;
    }
    copy(__start_engine_data, saved, data);
    copy(__start_engine_bss, saved + data, bss);
    fake_restart();
    shadow_reset();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) return 0;
    restore();
    struct input input = {bytes, size};
    pthread_t thread;
    if (pthread_create(&thread, NULL, play, &input) != 0) abort();
    pthread_join(thread, NULL);
    return 0;
}
