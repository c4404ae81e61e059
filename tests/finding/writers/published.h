/* What a writer publishes in each of its threads: fixed bytes that say which thread it is, so that every
 * sample can be checked by itself.
 *
 * Thread N has the trace id "trace-0000000000" and the span id "span-000" with N in their last byte, one
 * attribute with key index 7 and the value "attribute-0", and the custom label "thread" with the value
 * "custom-0"; N is a digit. The last thread publishes nothing: it is there to show that nothing is read.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct record {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t valid;
    uint8_t trace_flags;
    uint16_t attrs_data_size;
    uint8_t attrs_data[13];
} __attribute__((packed, aligned(2)));

struct string {
    size_t len;
    const char *buf;
};

struct label {
    struct string key;
    struct string value;
};

struct label_set {
    struct label *storage;
    size_t count;
    size_t capacity;
};

struct published {
    struct record record;
    struct label label;
    struct label_set labels;
    char value[8];
};

static inline void prepare(struct published *published, int thread)
{
    struct record *record = &published->record;
    char digit = (char)('0' + thread);

    memcpy(record->trace_id, "trace-0000000000", 16);
    memcpy(record->span_id, "span-000", 8);
    record->trace_id[15] = record->span_id[7] = digit;
    record->trace_flags = 1;
    record->attrs_data_size = 13;
    memcpy(record->attrs_data, "\x07\x0b" "attribute-0", 13);
    record->attrs_data[12] = digit;
    record->valid = 1;

    memcpy(published->value, "custom-0", 8);
    published->value[7] = digit;
    published->label = (struct label){{6, "thread"}, {8, published->value}};
    published->labels = (struct label_set){&published->label, 1, 1};
}
