/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Copies what a thread publishes: its thread context record and its custom labels.
 *
 * The same rules and bounds as in ../src/published.rs: each size is bounded, each pointer may be wrong,
 * and the only thing done with the bytes is to hand them on.
 */
#ifndef CONTEXTS_H
#define CONTEXTS_H

#include "draft.h"
#include "thread_local.h"

struct string {
	u64 size;
	const void *bytes;
};

struct label {
	struct string key, value;
};

struct label_set {
	const struct label *labels;
	u64 count, capacity;
};

INLINE void read_thread_context(struct draft *draft, const u8 *record)
{
	struct sample *sample = (struct sample *)draft->bytes;
	s64 size;

	if (!record)
		return;
	if (((u64)record & 1) || bpf_probe_read_user(sample->record, sizeof(sample->record), record)) {
		draft->flags |= UNREADABLE;
		return;
	}
	if (sample->record[RECORD_VALID_OFFSET] != RECORD_VALID)
		return;
	draft->flags |= HAS_THREAD_CONTEXT;
	if (!*(u16 *)&sample->record[RECORD_SIZE_OFFSET])
		return;
	size = append(draft, record + RECORD_HEADER_SIZE, *(u16 *)&sample->record[RECORD_SIZE_OFFSET], MAX_ATTRS);
	if (size >= 0)
		sample->attrs_size = size;
}

/* Appends one label; false if it cannot be read. */
INLINE int read_label(struct draft *draft, const struct label *address)
{
	struct label label;
	s64 key, value;
	u64 start;

	if (bpf_probe_read_user(&label, sizeof(label), address)) {
		draft->flags |= UNREADABLE;
		return 0;
	}
	if (!label.key.bytes)
		return 1;
	start = draft->end & DRAFT_MASK;
	draft->end = start + sizeof(struct label_sizes);
	key = append(draft, label.key.bytes, label.key.size, MAX_KEY);
	value = key < 0 ? -1 : append(draft, label.value.bytes, label.value.size, MAX_VALUE);
	if (value < 0) {
		draft->end = start;
		return 0;
	}
	/* Byte by byte: a label starts anywhere. */
	draft->bytes[start] = key;
	draft->bytes[start + 1] = key >> 8;
	draft->bytes[start + 2] = value;
	draft->bytes[start + 3] = value >> 8;
	draft->labels += 1;
	return 1;
}

INLINE void read_custom_labels(struct draft *draft, const struct label_set *address)
{
	struct label_set set;

	if (!address)
		return;
	if (bpf_probe_read_user(&set, sizeof(set), address)) {
		draft->flags |= UNREADABLE;
		return;
	}
	if (set.count > MAX_LABELS)
		draft->truncated = 1;
	for (u32 i = 0; i < MAX_LABELS && i < set.count; i++) {
		if (!read_label(draft, set.labels + i))
			break;
	}
}

INLINE void read_contexts(struct draft *draft, struct target *target, struct task_struct *task)
{
	u64 thread_pointer = 0;

	if (!target->known)
		return;
	/* Zero: the thread has not set up its thread-local storage yet. */
	if (!READ_KERNEL(thread_pointer, THREAD_POINTER(task)) || !thread_pointer)
		return;
	find_published(draft, thread_pointer, target->libc, target->thread_context);
	read_thread_context(draft, (const u8 *)draft->published);
	find_published(draft, thread_pointer, target->libc, target->custom_labels);
	read_custom_labels(draft, (const struct label_set *)draft->published);
}

#endif
