/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stacks of a thread: of the kernel by the kernel's own unwinder; of user space by frame pointers, or as a
 * copy with the registers to unwind it from.
 */
#ifndef STACK_H
#define STACK_H

#include "draft.h"

/* No frame lies below: the kernel keeps the lowest addresses free (vm.mmap_min_addr). */
#define LOWEST_FRAME 65536
/* The caller's frame pointer and the return address. */
#define FRAME_RECORD 16
/* Stack that is read at once. */
#define STACK_PIECE 1024

/* Appends a stack's addresses to the draft; the number of bytes. */
INLINE u32 append_addresses(void *context, struct draft *draft, u64 flags)
{
	u64 end = draft->end & DRAFT_MASK;
	s64 size = bpf_get_stack(context, &draft->bytes[end], MAX_FRAMES * 8, flags);

	if (size < 0 || size > MAX_FRAMES * 8)
		size = 0;
	draft->end = end + size;
	return size;
}

/* Whose instructions a thread runs in user space. */
enum user_space {
	USER_NONE,  /* a thread of the kernel */
	USER_WORDS, /* of the kernel's own word size */
	USER_OTHER, /* a 32-bit program */
};

/* Keeps the registers that a stack is found from. */
INLINE enum user_space keep_registers(struct draft *draft, const struct user_registers *user)
{
	struct sample *sample = (struct sample *)draft->bytes;

	sample->registers.instruction = INSTRUCTION(user);
	sample->registers.stack = user->sp;
	sample->registers.frame = FRAME(user);
#ifdef LINK
	sample->registers.link = LINK(user);
#endif
	return HAS_KERNEL_WORDS(user) ? USER_WORDS : USER_OTHER;
}

/* The registers with which a thread entered the kernel. */
INLINE enum user_space read_entry_registers(struct draft *draft, struct task_struct *task)
{
	struct mm_struct *memory = 0;
	const void *entry = 0;

	if (!READ_KERNEL(memory, task->mm) || !memory)
		return USER_NONE;
	if (HAS_TASK_PT_REGS) {
		entry = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	} else {
		/* They lie at the top of the thread's kernel stack. */
		if (!READ_KERNEL(entry, task->stack))
			return USER_NONE;
		entry += KERNEL_STACK_SIZE - __builtin_preserve_type_info(*(struct pt_regs *)0, TYPE_SIZE);
	}
	if (bpf_probe_read_kernel(&draft->entry, sizeof(draft->entry), entry))
		return USER_NONE;
	return keep_registers(draft, &draft->entry);
}

#if FOLLOW_FRAMES
/*
 * The two functions below are not inlined, and take and return numbers, so that the verifier looks at each of
 * them once. Inlined, they are followed anew for every state in which a caller can be there, and loading takes
 * four times as long.
 */

/* Reads the piece of the stack that a frame begins, for follow_frames; other than 0 if it cannot be read. */
__attribute__((noinline)) int read_piece(u64 frame)
{
	struct draft *draft = this_draft();
	/* Not beyond the page: the next one may be missing. */
	u64 size = STACK_PAGE - (frame & (STACK_PAGE - 1));

	if (!draft)
		return -1;
	if (size > STACK_PIECE)
		size = STACK_PIECE;
	if (size < FRAME_RECORD)
		size = FRAME_RECORD;
	draft->piece = frame;
	draft->last = size - FRAME_RECORD;
	return bpf_probe_read_user(&draft->bytes[DRAFT_SIZE], size, (void *)frame);
}

/*
 * Follows frame pointers as the kernel does, in a copy of the stack that is read piece by piece, from the
 * registers in this CPU's draft; the number of bytes that it appends there.
 *
 * The kernel reads frame by frame until an address is bad, which is how nearly every stack ends: a page
 * fault, in a virtual machine the greater part of a sample's cost. This ends at a frame pointer that
 * cannot be one.
 */
__attribute__((noinline)) int follow_frames(void)
{
	struct draft *draft = this_draft();
	struct registers *registers;
	u64 start, address, frame, *addresses;
	u8 *piece;

	if (!draft)
		return 0;
	registers = &((struct sample *)draft->bytes)->registers;
	address = registers->instruction;
	frame = registers->frame;
	start = draft->end & DRAFT_MASK;
	addresses = __builtin_assume_aligned(&draft->bytes[start], 8);
	piece = &draft->bytes[DRAFT_SIZE];
	draft->piece = draft->last = 0;
	for (u32 i = 0; i < MAX_FRAMES; i++) {
		u64 offset;

		addresses[i] = address;
		draft->end = start + (i + 1) * sizeof(address);
		if (frame < LOWEST_FRAME || (frame & 7))
			break;
		if (frame - draft->piece > draft->last && read_piece(frame))
			break;
		/* Computed anew, so that the verifier sees one state after all ways to here. */
		offset = frame - draft->piece;
		OPAQUE(offset);
		offset &= STACK_PIECE - 1;
		frame = *(u64 *)(piece + offset);
		address = *(u64 *)(piece + offset + sizeof(frame));
		if (!address)
			break;
	}
	return draft->end - start;
}
#else
/* Not called. */
INLINE int follow_frames(void)
{
	return 0;
}
#endif

/* Appends the one address that is known without a look at the stack. */
INLINE u32 append_instruction(struct draft *draft)
{
	struct sample *sample = (struct sample *)draft->bytes;
	u64 end = draft->end & DRAFT_MASK, *addresses = __builtin_assume_aligned(&draft->bytes[end], 8);

	addresses[0] = sample->registers.instruction;
	draft->end = end + sizeof(*addresses);
	return sizeof(*addresses);
}

/* Appends the user stack's addresses to the draft, which has the registers; or marks it for a copy, if there is room. */
INLINE void take_user_stack(void *context, struct draft *draft, enum user_space space, u32 pid, int has_room)
{
	struct sample *sample = (struct sample *)draft->bytes;

	if (bpf_map_lookup_elem(&copied, &pid)) {
		if (has_room) {
			draft->flags |= HAS_COPY;
			return;
		}
		sample->user_stack_size = append_instruction(draft);
		draft->truncated = 1;
		return;
	}
	if (FOLLOW_FRAMES && space == USER_WORDS)
		sample->user_stack_size = follow_frames();
	else
		sample->user_stack_size = append_addresses(context, draft, BPF_F_USER_STACK);
}

/* Copies the stack from the stack pointer up behind what the draft holds. */
INLINE void copy_stack(struct draft *draft, struct task_struct *task)
{
	struct sample *sample = (struct sample *)draft->bytes;
	u64 end = draft->end & DRAFT_MASK, limit = MAX_COPY, thread_pointer = 0;

	/* A thread's own block lies above its stack, mostly in the same mapping. There is no stack beyond. */
	if (READ_KERNEL(thread_pointer, THREAD_POINTER(task)) && thread_pointer - sample->registers.stack < limit)
		limit = thread_pointer - sample->registers.stack;
	draft->limit = limit;
	for (u32 i = 0; i < MAX_COPY / STACK_PAGE + 1; i++) {
		u64 copied = draft->copied, from, size, left;

		OPAQUE(copied);
		if (copied >= MAX_COPY)
			break;
		from = sample->registers.stack + copied;
		size = STACK_PAGE - (from & (STACK_PAGE - 1));
		left = draft->limit - copied;
		if (size > left)
			size = left;
		OPAQUE(size);
		if (size == 0 || size > STACK_PAGE)
			break;
		if (bpf_probe_read_user(&draft->bytes[end + copied], size, (void *)from))
			break;
		draft->copied = copied + size;
	}
}

#endif
