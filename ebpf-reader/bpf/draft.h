/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The piece of memory in which a sample is put together. */
#ifndef DRAFT_H
#define DRAFT_H

#include "maps.h"

/*
 * A sample is larger than a program's stack. The kernel does not run a program that samples a second
 * time on a CPU while it is interrupted. Any offset below DRAFT_SIZE may be followed by the largest
 * single read, so that masking the offset is all the verifier needs.
 *
 * What changes from step to step is kept here too, and volatile: the verifier tells states apart by
 * what it knows of registers and stack, not by the contents of maps. All ways through a label then
 * come to the same state, where it would otherwise follow each of their combinations.
 */
#define DRAFT_SIZE 8192
#define DRAFT_MASK (DRAFT_SIZE - 1)
struct draft {
	volatile u64 end; /* of what `bytes` holds */
	volatile u64 flags;
	volatile u64 truncated;
	volatile u64 labels;
	volatile u64 published; /* the pointer that was found last */
	volatile u64 word;      /* what was read last on the way to it */
	u8 bytes[DRAFT_SIZE + 1024];
};

_Static_assert(sizeof(struct sample) == 120, "decoded in wire.rs");
_Static_assert(sizeof(struct sample) + 2 * MAX_FRAMES * 8 + MAX_ATTRS +
		       MAX_LABELS * (sizeof(struct label_sizes) + MAX_KEY + MAX_VALUE) <= DRAFT_SIZE,
	       "the largest sample fits");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct draft);
} drafts SEC(".maps");

/* Appends up to `limit` bytes of the target's memory to the draft; the number of bytes, or -1. */
INLINE s64 append(struct draft *draft, const void *from, u64 size, u64 limit)
{
	u64 end = draft->end & DRAFT_MASK;

	if (size > limit)
		draft->truncated = 1;
	OPAQUE(size);
	if (size > limit)
		size = limit;
	if (bpf_probe_read_user(&draft->bytes[end], size, from)) {
		draft->flags |= UNREADABLE;
		return -1;
	}
	draft->end = end + size;
	return size;
}

#endif
