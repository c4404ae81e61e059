// A program that publishes everything as it should be, or with the one fault that its argument names.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef LOADER
// Another program, which only loads the writer.
#ifdef LATE
#include <dlfcn.h>
int main(int count, char **arguments) {
    int (*writer)(int, char **) = dlsym(dlopen(LATE, RTLD_NOW), "writer");
    return writer(count, arguments);
}
#else
int writer(int count, char **arguments);
int main(int count, char **arguments) { return writer(count, arguments); }
#endif
#else

#ifndef NO_CONTEXT
__thread void *otel_thread_ctx_v1;
#endif
#ifndef NO_LABELS
__thread void *custom_labels_current_set;
const uint32_t custom_labels_abi_version = 1;
#endif

static const char *fault = "";
static int has(const char *name) { return strcmp(fault, name) == 0; }

// Thread context.

struct __attribute__((packed)) record {
    uint8_t trace_id[16], span_id[8], valid, flags;
    uint16_t size;
    uint8_t attrs[4096 - 28];
};

static void attribute(struct record *record, int key, const void *value, int size) {
    uint8_t *at = record->attrs + record->size;
    at[0] = key;
    at[1] = size;
    memcpy(at + 2, value, size);
    record->size += 2 + size;
}

static void *make_record(void) {
    struct record *record = calloc(1, sizeof *record + 2);
    if (has("record.alignment")) record = (void *)((char *)record + 1);
    if (has("record.readable")) return (void *)0x10;
    memset(record->trace_id, 0xaa, 16);
    memset(record->span_id, 0xbb, 8);
    record->valid = has("record.valid") ? 2 : 1;
    record->flags = 1;
    attribute(record, 0, "0123456789abcdef", 16);
    attribute(record, 1, "/cart", 5);
    // An update that is appended: allowed.
    attribute(record, 1, "/checkout", 9);
    if (has("record.ids")) memset(record->span_id, 0, 8);
    if (has("record.flags")) memset(record->trace_id, 0, 24);
    if (has("attributes.utf8")) attribute(record, 1, "a\xff", 2);
    if (has("attributes.keys")) attribute(record, 9, "x", 1);
    if (has("attributes.fit")) record->size += 1;
    if (has("record.size")) {
        char text[255];
        memset(text, 'x', sizeof text);
        for (int i = 0; i < 3; i++) attribute(record, 1, text, sizeof text);
    }
    // The last bytes of a page: the attributes go on where nothing is mapped.
    if (has("record.tail")) {
        char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(pages + 4096, 4096);
        memcpy(pages + 4096 - 30, record, 30);
        return pages + 4096 - 30;
    }
    return record;
}

// Custom labels.

struct text {
    size_t size;
    const char *at;
};
struct label {
    struct text key, value;
};
struct set {
    struct label *storage;
    size_t count, capacity;
};

static struct text text(const char *at) { return (struct text){strlen(at), at}; }

static void *make_labels(void) {
    static struct label storage[12];
    static struct set set = {storage, 4, 12};
    if (has("labels.readable")) return (void *)0x10;
    storage[0] = (struct label){text("otel_traceid"), text("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")};
    storage[1] = (struct label){text("route"), text("/checkout")};
    // Skipped by readers, whatever else is in it.
    storage[2] = (struct label){{9, 0}, text("\xff")};
    storage[3] = (struct label){text("empty"), {0, ""}};
    if (has("labels.storage")) set.storage = (void *)0x10;
    if (has("labels.string")) storage[1].value.at = (void *)0x10;
    if (has("labels.capacity")) set.capacity = 3;
    if (has("labels.value")) storage[3].value.at = 0;
    if (has("labels.utf8")) storage[1].value = text("a\xff");
    if (has("labels.names")) storage[1].key = text("cpu");
    if (has("view.cut")) {
        storage[1] = (struct label){text("a.key.that.is.longer.than.parca.reads"), text("/checkout")};
        storage[3] = (struct label){text("long"), text("a value that is longer than the bytes that Parca Agent reads of one")};
        storage[4] = (struct label){{3, "a\0b"}, {3, "c\0d"}};
        storage[5] = (struct label){text("esc\x1b[31m"), text("\x1b]0;title\x07")};
        for (int i = 6; i < 11; i++) storage[i] = (struct label){text("more"), text("more")};
        storage[10].key = text("eleventh");
        set.count = 11;
    }
    return &set;
}

// Process context.

struct header {
    char signature[8];
    uint32_t version, size;
    uint64_t published_at;
    const void *payload;
};

static uint8_t *put(uint8_t *at, int tag, const void *bytes, size_t size) {
    *at++ = tag;
    if (size > 127) *at++ = 128 | (size & 127), *at++ = size >> 7;
    else *at++ = size;
    memcpy(at, bytes, size);
    return at + size;
}

// KeyValue { key = 1; AnyValue value = 2 }
static uint8_t *pair(uint8_t *at, int tag, const char *name, const void *value, size_t size) {
    uint8_t bytes[1024], *end = put(bytes, 0x0a, name, strlen(name));
    end = put(end, 0x12, value, size);
    return put(at, tag, bytes, end - bytes);
}

static uint8_t *string(uint8_t *at, int tag, const char *name, const char *text) {
    uint8_t value[512], *end = put(value, 0x0a, text, strlen(text));
    return pair(at, tag, name, value, end - value);
}

static size_t make_payload(uint8_t *payload, const char *second) {
    uint8_t resource[256], names[512], value[512], *end;
    end = string(resource, 0x0a, "service.name", "writer");
    uint8_t *at = put(payload, 0x0a, resource, end - resource);
    at = string(at, 0x12, "threadlocal.schema_version", has("process.schema") ? "tlsdesc_v9" : "tlsdesc_v1_dev");
    const char *keys[2] = {"local_root_span_id", second};
    end = names;
    for (int i = 0; i < 2; i++) {
        uint8_t *last = put(value, 0x0a, keys[i], strlen(keys[i]));
        end = put(end, 0x0a, value, last - value);
    }
    // An entry that is a number.
    if (has("process.keys")) end = put(end, 0x0a, "\x18\x07", 2);
    end = (put(value, 0x2a, names, end - names));
    if (!has("process.nokeys")) at = pair(at, 0x12, "threadlocal.attribute_key_map", value, end - value);
    return at - payload;
}

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static struct header *map(void) {
    int fd = memfd_create("OTEL_CTX", MFD_CLOEXEC);
    ftruncate(fd, 8192);
    struct header *header = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    return header;
}

static struct header *make_process_context(void) {
    uint8_t *payload = calloc(1, 1 << 18);
    struct header *header = map();
    size_t size = make_payload(payload, "http.route");
    if (has("process.mapping")) map();
    if (has("process.message")) memset(payload, 0xff, size);
    *header = (struct header){"", has("process.version") ? 1 : 2, size, 0, payload};
    memcpy(header->signature, has("process.signature") ? "OTEL\x1b[XX" : "OTEL_CTX", 8);
    if (has("process.size")) header->size = 65537;
    if (has("process.payload")) header->payload = (void *)0x10;
    header->published_at = now(CLOCK_BOOTTIME);
    if (has("process.time")) header->published_at = now(CLOCK_REALTIME);
    if (has("process.old")) header->published_at = 1;
    if (has("process.changing")) header->published_at = 0;
    return header;
}

// Publishes another payload again and again: as it should be, with a key map that changes, or without a timestamp.
static void *update(void *argument) {
    struct header *header = argument;
    uint8_t *payloads = calloc(2, 4096);
    for (unsigned i = 0;; i++) {
        uint8_t *payload = payloads + 4096 * (i & 1);
        size_t size = make_payload(payload, i & 1 && !has("updates") ? "http.other" : "http.route");
        uint64_t before = header->published_at, time = now(CLOCK_BOOTTIME);
        if (has("process.update")) {
            // One character of a name, in place.
            char *name = memmem((void *)header->payload, size, "riter", 5);
            name[-1] = i & 1 ? 'w' : 'W';
        } else {
            __atomic_store_n(&header->published_at, 0, __ATOMIC_SEQ_CST);
            header->size = size;
            header->payload = payload;
            __atomic_store_n(&header->published_at, time > before ? time : before + 1, __ATOMIC_SEQ_CST);
        }
        usleep(10000);
    }
    return 0;
}

static void publish(void) {
#ifndef NO_CONTEXT
    otel_thread_ctx_v1 = make_record();
#endif
#ifndef NO_LABELS
    custom_labels_current_set = make_labels();
#endif
}

// The second account of the main executable's block is another one.
static void move_block(void) {
    void ***thread = __builtin_thread_pointer();
#ifdef __x86_64__
    char **vector = (char **)thread[1];
#else
    char **vector = (char **)thread[0];
#endif
    vector[2] += 64;
}

static void *worker(void *argument) {
    publish();
    for (;;) pause();
    return argument;
}

int main(int count, char **arguments) {
    if (count > 1) fault = arguments[1];
    pthread_t thread;
#ifndef NO_CONTEXT
    if (!has("process.none")) {
        struct header *header = make_process_context();
        if (has("process.growth") || has("process.update") || has("updates")) pthread_create(&thread, 0, update, header);
    }
#endif
    if (has("address")) move_block();
    if (!has("nothing")) {
        publish();
        pthread_create(&thread, 0, worker, 0);
    }
    puts("ready");
    fflush(stdout);
    char byte;
    read(0, &byte, 1);
    // Not by way of destructors, which use what was moved.
    _exit(0);
}
#endif
