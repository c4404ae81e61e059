/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Times off the CPU: a sample when a followed thread is switched out, and a short record when it runs on.
 *
 * The reader joins the two. Each carries the thread's number of switches so far, which is the same at a
 * switch-out and at the switch-in that ends it: when one of them is lost, what is left joins nothing.
 * The program is attached only if it is asked for.
 */
#ifndef OFF_CPU_H
#define OFF_CPU_H

#include "contexts.h"
#include "draft.h"
#include "identity.h"
#include "maps.h"
#include "stack.h"

/* The innermost frames of the kernel stack are this program and who calls it: the stack starts after them. */
#define OWN_FRAMES 2

/* The number of switches, together with the thread's start: ids are used again. */
INLINE u64 sequence_of(struct task_struct *task)
{
	unsigned long willing = 0, unwilling = 0;
	u64 start = 0;

	READ_KERNEL(willing, task->nvcsw);
	READ_KERNEL(unwilling, task->nivcsw);
	READ_KERNEL(start, task->start_time);
	return (start << 32) + willing + unwilling;
}

/* Whether a task has gone to sleep; otherwise it would run on if it had a CPU. */
INLINE int is_asleep(struct task_struct *task)
{
	struct task_struct___before_5_14 *before = (void *)task;
	unsigned int state = 0;
	long old_state = 0;

	if (__builtin_preserve_field_info(task->__state, FIELD_EXISTS)) {
		READ_KERNEL(state, task->__state);
		return state != 0;
	}
	READ_KERNEL(old_state, before->state);
	return old_state != 0;
}

INLINE int has_user_space(struct task_struct *task)
{
	struct mm_struct *memory = 0;

	return READ_KERNEL(memory, task->mm) && memory;
}

INLINE void switch_in(struct task_struct *task, u64 time_ns, u64 waiting)
{
	struct switch_in event = { .kind = KIND_SWITCH_IN };

	event.pid = process_id(task);
	if (!event.pid || !bpf_map_lookup_elem(&targets, &event.pid) || !has_user_space(task))
		return;
	event.tid = thread_id(task);
	event.time_ns = time_ns;
	event.sequence = sequence_of(task);
	if (waiting > RING_SIZE - SWITCH_IN_RESERVE ||
	    bpf_ringbuf_output(&ring, &event, sizeof(event), BPF_RB_NO_WAKEUP))
		count(LOST_SWITCH_INS);
}

INLINE void switch_out(void *context, struct task_struct *task, int preempted, u64 time_ns, u64 waiting)
{
	u32 pid = process_id(task);
	struct target *target;
	struct sample *sample;
	struct draft *draft;
	enum user_space space;

	if (!pid)
		return;
	target = bpf_map_lookup_elem(&targets, &pid);
	/* A thread that exits has no memory any more, and does not come back. */
	if (!target || !has_user_space(task))
		return;
	if (waiting > RING_SIZE - SWITCH_OUT_RESERVE) {
		count(LOST_SAMPLES);
		return;
	}
	draft = begin(KIND_SWITCH_OUT, pid, thread_id(task), time_ns);
	if (!draft)
		return;
	sample = (struct sample *)draft->bytes;
	sample->sequence = sequence_of(task);
	/* One that is preempted on its way to sleep is still ready to run. */
	sample->blocked = !preempted && is_asleep(task);
	if (KERNEL_STACKS)
		sample->kernel_stack_size = append_addresses(context, draft, OWN_FRAMES);
	space = read_entry_registers(draft, task);
	if (space != USER_NONE)
		take_user_stack(context, draft, space, pid, waiting <= RING_SIZE - SWITCH_OUT_COPY_RESERVE);
	read_contexts(draft, target, task);
	if (draft->flags & HAS_COPY)
		copy_stack(draft, task);
	send(draft, task, waiting);
}

/* Runs on the CPU that switches, with interrupts off; the current task is still the one that leaves. */
SEC("raw_tracepoint/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *context)
{
	int preempted = context->args[0] & 1;
	u64 time_ns = bpf_ktime_get_ns(), waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	switch_out(context, (struct task_struct *)context->args[1], preempted, time_ns, waiting);
	switch_in((struct task_struct *)context->args[2], time_ns, waiting);
	return 0;
}

#endif
