/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel side of the reader.
 *
 * sample_cpu runs at each tick of a CPU's sampling clock. If a followed process is interrupted, it
 * reads what the thread publishes (thread context, custom labels) and its stacks, while the thread
 * cannot change either. on_switch does the same for a thread that is taken off its CPU (off_cpu.h);
 * on_fork, on_exec and on_exit keep the table of processes (life.h).
 *
 * Everything that is read from a target may be hostile: each size is bounded, each pointer may be
 * wrong, and the only thing done with the bytes is to hand them on. A sample takes at most a fixed
 * number of reads, none of which waits for a page to be brought in.
 *
 * Runs on Linux 5.10 and later: only helpers of that version, or guarded ones with a substitute;
 * bounded loops; instruction set v2.
 */
#include "contexts.h"
#include "draft.h"
#include "identity.h"
#include "life.h"
#include "maps.h"
#include "off_cpu.h"
#include "stack.h"

SEC("perf_event")
int sample_cpu(struct user_registers *interrupted)
{
	u64 ids = bpf_get_current_pid_tgid();
	u32 pid = ids >> 32, tid = ids;
	struct task_struct *task;
	struct target *target;
	struct sample *sample;
	struct draft *draft;
	enum user_space space;
	u64 waiting;

	/* The idle task. */
	if (!pid)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	if (!READER_IN_INITIAL_NAMESPACE) {
		pid = process_id(task);
		tid = thread_id(task);
		if (!pid)
			return 0;
	}
	target = bpf_map_lookup_elem(&targets, &pid);
	if (!target) {
		/* Its end has been told already, or is about to be. */
		if (!EVERYTHING || pid == READER_PID || is_ending(task))
			return 0;
		appear(pid);
	}
	waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	if (waiting > RING_SIZE - SAMPLE_RESERVE) {
		count(LOST_SAMPLES);
		return 0;
	}
	draft = begin(KIND_SAMPLE, pid, tid, bpf_ktime_get_ns());
	if (!draft)
		return 0;
	sample = (struct sample *)draft->bytes;
	if (KERNEL_STACKS && !IN_USER_MODE(interrupted))
		sample->kernel_stack_size = append_addresses(interrupted, draft, 0);
	/* The context's fields can only be read directly. */
	if (IN_USER_MODE(interrupted))
		space = keep_registers(draft, interrupted);
	else
		space = read_entry_registers(draft, task);
	if (space != USER_NONE)
		take_user_stack(interrupted, draft, space, pid, waiting <= RING_SIZE - SAMPLE_COPY_RESERVE);
	if (target)
		read_contexts(draft, target, task);
	if (draft->flags & HAS_COPY)
		copy_stack(draft, task);
	send(draft, task, waiting);
	return 0;
}

/* The helpers for user memory and stacks are open to programs under a licence that is compatible with the GPL. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
