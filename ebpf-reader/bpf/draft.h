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
/* A stack is copied up to the end of such a page, then page by page: what is missing is missing from there on. */
#define STACK_PAGE 4096
struct draft {
	volatile u64 end; /* of what `bytes` holds */
	volatile u64 flags;
	volatile u64 truncated;
	volatile u64 labels;
	volatile u64 published; /* the pointer that was found last */
	volatile u64 word;      /* what was read last on the way to it */
	volatile u64 piece;     /* where the piece of stack begins that lies behind the draft */
	volatile u64 last;      /* the last offset in it at which a frame may begin */
	volatile u64 copied;    /* bytes of the stack that follow `end` */
	volatile u64 limit;     /* how many there may be */
	struct user_registers entry;
	u8 bytes[DRAFT_SIZE + MAX_COPY + STACK_PAGE];
};

_Static_assert(sizeof(struct sample) == 120, "decoded in wire.rs");
_Static_assert(sizeof(struct sample) + 2 * MAX_FRAMES * 8 + MAX_ATTRS +
		       MAX_LABELS * (sizeof(struct label_sizes) + MAX_KEY + MAX_VALUE) <= DRAFT_SIZE,
	       "the largest sample fits, without a copy of the stack");
/* The kernel's limit for a value per CPU. */
_Static_assert(sizeof(struct draft) <= 32 * 1024, "the map can be made");

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

/* This CPU's draft. There is one: the check for it is for the verifier. */
INLINE struct draft *this_draft(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&drafts, &zero);
}

/* This CPU's draft with the header of a sample and nothing else. */
INLINE struct draft *begin(u32 kind, u32 pid, u32 tid, u64 time_ns)
{
	struct draft *draft = this_draft();
	struct sample *sample;

	if (!draft)
		return 0;
	sample = (struct sample *)draft->bytes;
	sample->kind = kind;
	sample->pid = pid;
	sample->tid = tid;
	sample->cpu = bpf_get_smp_processor_id();
	sample->time_ns = time_ns;
	sample->sequence = 0;
	bpf_get_current_comm(sample->thread_name, sizeof(sample->thread_name));
	sample->kernel_stack_size = 0;
	sample->user_stack_size = 0;
	sample->attrs_size = 0;
	sample->copy_size = 0;
	sample->labels = 0;
	sample->flags = 0;
	sample->blocked = 0;
	__builtin_memset(&sample->registers, 0, sizeof(sample->registers));
	draft->end = sizeof(struct sample);
	draft->flags = 0;
	draft->truncated = 0;
	draft->labels = 0;
	draft->copied = 0;
	return draft;
}

/* Puts the draft into the ring, of which `waiting` bytes are taken. */
INLINE void send(struct draft *draft, struct task_struct *task, u64 waiting)
{
	struct sample *sample = (struct sample *)draft->bytes;
	struct mm_struct *memory = 0;
	u64 size = draft->copied;

	if (draft->flags & UNREADABLE) {
		/* A task that exits has given its memory back: nothing is wrong with its pointers. */
		if (READ_KERNEL(memory, task->mm) && memory)
			count(UNREADABLE_SAMPLES);
		else
			draft->flags &= ~UNREADABLE;
	}
	if (draft->truncated)
		count(TRUNCATED_SAMPLES);
	sample->labels = draft->labels;
	sample->flags = draft->flags;
	OPAQUE(size);
	if (size > MAX_COPY)
		size = MAX_COPY;
	sample->copy_size = size;
	if (bpf_ringbuf_output(&ring, draft->bytes, (draft->end & DRAFT_MASK) + size,
			       waiting > RING_WAKEUP ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		count(LOST_SAMPLES);
}

#endif
