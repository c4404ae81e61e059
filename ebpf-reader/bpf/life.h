/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Keeps the table of followed processes: a child is followed from its first instruction on, and nothing is
 * read with another program's offsets.
 */
#ifndef LIFE_H
#define LIFE_H

#include "identity.h"
#include "maps.h"

INLINE void tell(u32 kind, u32 pid, u32 child)
{
	struct life_event event = { .kind = kind, .pid = pid, .child = child };

	if (bpf_ringbuf_output(&ring, &event, sizeof(event), BPF_RB_FORCE_WAKEUP))
		count(LOST_LIFE_EVENTS);
}

/* Whether all threads of a task's process have begun to exit. */
INLINE int is_ending(struct task_struct *task)
{
	struct signal_struct *signal = 0;
	int live = 1;

	return READ_KERNEL(signal, task->signal) && READ_KERNEL(live, signal->live.counter) && live <= 0;
}

/* Tells the reader of a process that is not in the table, once; whether this was the time. */
INLINE int appear(u32 pid)
{
	u32 value = 1;

	/* Looked up first: that is cheaper, and keeps the entry from being the one that makes room. */
	if (pid == READER_PID || bpf_map_lookup_elem(&told, &pid) ||
	    bpf_map_update_elem(&told, &pid, &value, BPF_NOEXIST))
		return 0;
	tell(KIND_APPEARED, pid, 0);
	return 1;
}

/* Runs in the parent, before the child's first instruction. */
SEC("raw_tracepoint/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *parent = (struct task_struct *)context->args[0];
	struct task_struct *child = (struct task_struct *)context->args[1];
	u32 parent_id = process_id(parent), child_id = process_id(child);
	struct target *target;
	u32 *copy;

	/* A new thread of the same process. */
	if (!child_id || parent_id == child_id)
		return 0;
	target = parent_id ? bpf_map_lookup_elem(&targets, &parent_id) : 0;
	if (!target) {
		if (EVERYTHING)
			appear(child_id);
		return 0;
	}
	if (bpf_map_update_elem(&targets, &child_id, target, BPF_ANY)) {
		count(REFUSED_TARGETS);
		return 0;
	}
	copy = bpf_map_lookup_elem(&copied, &parent_id);
	if (copy)
		bpf_map_update_elem(&copied, &child_id, copy, BPF_ANY);
	tell(KIND_FORK, parent_id, child_id);
	return 0;
}

/* The thread-local offsets of the program before mean nothing in the new one. */
SEC("raw_tracepoint/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *context)
{
	u32 pid = process_id((struct task_struct *)context->args[0]);
	struct target *target;

	if (!pid)
		return 0;
	target = bpf_map_lookup_elem(&targets, &pid);
	if (target)
		target->known = 0;
	/* The reader may be looking at the program before. */
	else if (!EVERYTHING || pid == READER_PID || appear(pid))
		return 0;
	tell(KIND_EXEC, pid, 0);
	return 0;
}

/* Runs in each exiting thread, after it was taken off the process's count of live threads. */
SEC("raw_tracepoint/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *task = (struct task_struct *)context->args[0];
	u32 pid;

	if (!is_ending(task))
		return 0;
	pid = process_id(task);
	bpf_map_delete_elem(&copied, &pid);
	/* Two threads that exit at once may both find that none is left: only one of them deletes. */
	if (bpf_map_delete_elem(&targets, &pid) && (!EVERYTHING || bpf_map_delete_elem(&told, &pid)))
		return 0;
	tell(KIND_EXIT, pid, 0);
	return 0;
}

#endif
