/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel side of the reader: samples the processes in a table, and keeps that table.
 *
 * sample_cpu runs at each tick of a CPU's sampling clock. If a followed process is interrupted, it
 * reads what the thread publishes (thread context, custom labels) and its user stack, while the thread
 * cannot change either. on_fork, on_exec and on_exit keep the table, so that a child is followed from
 * its first instruction and nothing is read with another program's offsets.
 *
 * Everything that is read from a target may be hostile: each size is bounded, each pointer may be
 * wrong, and the only thing done with the bytes is to hand them on.
 *
 * Runs on Linux 5.10 and later: only helpers of that version, bounded loops, instruction set v2.
 */
#include "contexts.h"
#include "draft.h"
#include "identity.h"
#include "life.h"
#include "maps.h"

SEC("perf_event")
int sample_cpu(void *context)
{
	u64 ids = bpf_get_current_pid_tgid();
	u32 pid = ids >> 32, tid = ids, zero = 0;
	struct task_struct *task;
	struct target *target;
	struct draft *draft;
	struct sample *sample;
	struct mm_struct *memory = 0;
	u64 waiting, wakeup;
	s64 stack;

	/* The idle task. */
	if (!pid)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	if (!READER_IN_INITIAL_NAMESPACE)
		pid = process_id(task);
	target = bpf_map_lookup_elem(&targets, &pid);
	if (!target)
		return 0;
	waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	if (waiting > RING_SIZE - RING_RESERVE) {
		count(LOST_SAMPLES);
		return 0;
	}
	draft = bpf_map_lookup_elem(&drafts, &zero);
	if (!draft)
		return 0;
	if (!READER_IN_INITIAL_NAMESPACE)
		tid = thread_id(task);

	sample = (struct sample *)draft->bytes;
	sample->kind = KIND_SAMPLE;
	sample->pid = pid;
	sample->tid = tid;
	sample->cpu = bpf_get_smp_processor_id();
	sample->time_ns = bpf_ktime_get_ns();
	bpf_get_current_comm(sample->thread_name, sizeof(sample->thread_name));
	sample->attrs_size = 0;
	sample->kernel_stack_size = 0;
	sample->copy_size = 0;

	stack = bpf_get_stack(context, draft->bytes + sizeof(struct sample), MAX_FRAMES * 8, BPF_F_USER_STACK);
	if (stack < 0 || stack > MAX_FRAMES * 8)
		stack = 0;
	sample->user_stack_size = stack;

	draft->end = sizeof(struct sample) + stack;
	draft->flags = 0;
	draft->truncated = 0;
	draft->labels = 0;
	read_contexts(draft, target, task);
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

	wakeup = waiting > RING_WAKEUP ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	if (bpf_ringbuf_output(&ring, draft->bytes, draft->end & DRAFT_MASK, wakeup))
		count(LOST_SAMPLES);
	return 0;
}

/* The helpers for user memory and stacks are open to programs under a licence that is compatible with the GPL. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
