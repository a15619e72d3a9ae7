/* record_file.c: the file of a recording: see record.h. Records are gathered by type; a full block goes to a thread that packs and writes it.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef SEEMALLOC_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

#include "reader/fault.h"
#include "record.h"
#include "tool.h"

#define BLOCK_BYTES ((size_t)1 << 20)
#define BLOCKS_MOST 128 /* that wait */
#define TYPES (SEEMALLOC_RECORDING_PROCESS + 1)

struct block {
    struct block *next;
    uint32_t type;
    size_t used, room;
    uint8_t data[];
};

static struct {
    const char *name;
    int fd;
    struct block *open[TYPES]; /* being filled; NULL: none */
    /* From here on under `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct block *first, **last;
    size_t waiting;
    bool is_busy, is_over, failed;
    int error;
    pthread_t thread;
} file = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .last = &file.first};

static int write_all(const void *data, size_t size) {
    for (const char *at = data; size != 0;) {
        ssize_t n = write(file.fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n == 0 ? ENOSPC : errno;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

/* As fast as can be: what is packed more slowly than it comes is dropped. 0: there is no memory. */
#ifdef SEEMALLOC_LIBDEFLATE
static struct libdeflate_compressor *packer;
static size_t pack_bound(size_t size) {
    if (packer == NULL) packer = libdeflate_alloc_compressor(1);
    return libdeflate_zlib_compress_bound(packer, size);
}
static size_t pack(const struct block *block, struct block *packed) {
    return packer != NULL ? libdeflate_zlib_compress(packer, block->data, block->used, packed->data, packed->room) : 0;
}
#else
static size_t pack_bound(size_t size) { return compressBound((uLong)size); }
static size_t pack(const struct block *block, struct block *packed) {
    uLongf size = (uLongf)packed->room;
    return compress2(packed->data, &size, block->data, (uLong)block->used, 1) == Z_OK ? size : 0;
}
#endif

/* 0, or the error; then the file ends with the block before, as far as it can be cut. */
static int write_block(const struct block *block, struct block **packed) {
    size_t most = pack_bound(block->used);
    if (*packed == NULL || (*packed)->room < most) {
        free(*packed);
        *packed = need_memory(NULL, sizeof **packed + most, 1);
        (*packed)->room = most;
    }
    size_t size = pack(block, *packed);
    if (size < 4) return ENOMEM;
    struct seemalloc_recording_block head = {.type = block->type, .raw = (uint32_t)block->used, .packed = (uint32_t)size};
    const uint8_t *sum = (*packed)->data + size - 4; /* packed data end with it, highest byte first */
    head.checksum = (uint32_t)sum[0] << 24 | (uint32_t)sum[1] << 16 | (uint32_t)sum[2] << 8 | sum[3];
    off_t at = lseek(file.fd, 0, SEEK_CUR);
    int error = write_all(&head, sizeof head);
    if (error == 0) error = write_all((*packed)->data, size);
    if (error != 0 && at >= 0 && ftruncate(file.fd, at) != 0) error = errno;
    return error;
}

static void *write_blocks(void *arg) {
    struct block *packed = NULL;
    pthread_mutex_lock(&file.lock);
    for (;;) {
        while (file.first == NULL && !file.is_over) pthread_cond_wait(&file.changed, &file.lock);
        struct block *block = file.first;
        if (block == NULL) break;
        file.first = block->next;
        if (file.first == NULL) file.last = &file.first;
        file.is_busy = true;
        bool wanted = !file.failed;
        pthread_mutex_unlock(&file.lock);
        int error = wanted ? write_block(block, &packed) : 0;
        free(block);
        pthread_mutex_lock(&file.lock);
        file.waiting--;
        file.is_busy = false;
        if (error != 0) {
            file.failed = true;
            file.error = error;
        }
        pthread_cond_broadcast(&file.changed);
    }
    pthread_mutex_unlock(&file.lock);
    free(packed);
    return arg;
}

bool record_file_open(const char *name) {
    file.name = name;
    file.fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* where things are in a process is nobody else's business */
    if (file.fd < 0) tool_say("can't write %s: %s", name, strerror(errno));
    return file.fd >= 0;
}

static void send(enum seemalloc_recording_type type) {
    struct block *block = file.open[type];
    if (block == NULL) return;
    file.open[type] = NULL;
    block->next = NULL;
    pthread_mutex_lock(&file.lock);
    *file.last = block;
    file.last = &block->next;
    file.waiting++;
    pthread_cond_broadcast(&file.changed);
    pthread_mutex_unlock(&file.lock);
}

/* Events refer to records of other types: those go first. */
static void send_all(void) {
    for (unsigned type = 0; type < TYPES; type++) {
        if (type != SEEMALLOC_RECORDING_EVENTS) send(type);
    }
    send(SEEMALLOC_RECORDING_EVENTS);
}

static void settle(void) {
    pthread_mutex_lock(&file.lock);
    while (file.first != NULL || file.is_busy) pthread_cond_wait(&file.changed, &file.lock);
    pthread_mutex_unlock(&file.lock);
}

static void fail(int error) {
    pthread_mutex_lock(&file.lock);
    file.failed = true;
    file.error = error;
    pthread_mutex_unlock(&file.lock);
}

void record_file_begin(const struct seemalloc_recording_head *head, const char *command) {
    for (unsigned type = 0; type < TYPES; type++) {
        free(file.open[type]);
        file.open[type] = NULL;
    }
    settle();
    struct stat what;
    bool regular = fstat(file.fd, &what) == 0 && S_ISREG(what.st_mode);
    int error = regular && (ftruncate(file.fd, 0) != 0 || lseek(file.fd, 0, SEEK_SET) != 0) ? errno : 0;
    if (error == 0) error = write_all(head, sizeof *head);
    if (error == 0) error = write_all(command, head->command_bytes);
    if (error != 0) fail(error);
    if (file.thread == 0 && pthread_create(&file.thread, NULL, write_blocks, NULL) != 0) fail(EAGAIN);
}

void record_file_add(enum seemalloc_recording_type type, const struct record_part *parts, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += parts[i].size;
    if (file.open[type] != NULL && file.open[type]->used + size > BLOCK_BYTES) {
        if (type == SEEMALLOC_RECORDING_EVENTS) {
            send_all();
        } else {
            send(type);
        }
    }
    if (file.open[type] == NULL) {
        size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        file.open[type] = need_memory(NULL, sizeof *file.open[type] + room, 1);
        *file.open[type] = (struct block){.type = type, .room = room};
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(file.open[type]->data + file.open[type]->used, parts[i].data, parts[i].size);
        file.open[type]->used += parts[i].size;
    }
}

bool record_file_is_behind(void) {
    pthread_mutex_lock(&file.lock);
    bool behind = file.waiting > BLOCKS_MOST;
    pthread_mutex_unlock(&file.lock);
    return behind;
}

bool record_file_failed(void) {
    static bool said;
    pthread_mutex_lock(&file.lock);
    bool failed = file.failed;
    pthread_mutex_unlock(&file.lock);
    if (failed && !said) tool_say("can't write %s: %s; the recording ends here, the program goes on", file.name, strerror(file.error));
    said = failed;
    return failed;
}

bool record_file_end(const struct seemalloc_recording_end *end) {
    send_all();
    record_file_add(SEEMALLOC_RECORDING_END, &(struct record_part){end, sizeof *end}, 1);
    send(SEEMALLOC_RECORDING_END);
    pthread_mutex_lock(&file.lock);
    file.is_over = true;
    pthread_cond_broadcast(&file.changed);
    pthread_mutex_unlock(&file.lock);
    if (file.thread != 0) pthread_join(file.thread, NULL);
    if (close(file.fd) != 0) fail(errno);
    return !record_file_failed();
}
