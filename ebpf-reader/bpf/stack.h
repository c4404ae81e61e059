/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stacks of a thread: of the kernel and of user space by the kernel's own unwinder, which follows frame
 * pointers in user space; and a copy of the user stack, with the registers to unwind it from.
 */
#ifndef STACK_H
#define STACK_H

#include "draft.h"

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

/* Reads the registers with which a thread entered the kernel; false if it has no user space. */
INLINE int read_entry_registers(struct registers *registers, struct task_struct *task)
{
	const struct user_registers *entry;
	struct mm_struct *memory = 0;
	void *stack = 0;

	if (!READ_KERNEL(memory, task->mm) || !memory)
		return 0;
	if (HAS_TASK_PT_REGS) {
		entry = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	} else {
		/* They lie at the top of the thread's kernel stack. */
		if (!READ_KERNEL(stack, task->stack))
			return 0;
		entry = stack + KERNEL_STACK_SIZE - __builtin_preserve_type_info(*(struct pt_regs *)0, TYPE_SIZE);
	}
#ifdef LINK
	READ_KERNEL(registers->link, LINK(entry));
#endif
	return READ_KERNEL(registers->instruction, INSTRUCTION(entry)) && READ_KERNEL(registers->stack, entry->sp) &&
	       READ_KERNEL(registers->frame, FRAME(entry));
}

/* Copies the stack from the stack pointer up behind what the draft holds. */
INLINE void copy_stack(struct draft *draft)
{
	struct sample *sample = (struct sample *)draft->bytes;
	u64 end = draft->end & DRAFT_MASK;

	draft->flags |= HAS_COPY;
	for (u32 i = 0; i < MAX_COPY / STACK_PAGE + 1; i++) {
		u64 copied = draft->copied, from, size;

		OPAQUE(copied);
		if (copied >= MAX_COPY)
			break;
		from = sample->registers.stack + copied;
		size = STACK_PAGE - (from & (STACK_PAGE - 1));
		if (copied + size > MAX_COPY)
			size = MAX_COPY - copied;
		OPAQUE(size);
		if (size > STACK_PAGE)
			break;
		if (bpf_probe_read_user(&draft->bytes[end + copied], size, (void *)from))
			break;
		draft->copied = copied + size;
	}
}

/* Whether the stacks of a process are copied. */
INLINE int is_copied(u32 pid)
{
	return bpf_map_lookup_elem(&copied, &pid) != 0;
}

#endif
