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
#include "records.h"

#define MAX_TARGETS 8192
#define RING_SIZE (16 * 1024 * 1024)
/* Samples leave this much of the ring to life events: a lost exit would leave the reader waiting. */
#define RING_RESERVE (128 * 1024)
/* The reader looks at the ring by itself several times a second; it is woken only if that is too slow. */
#define RING_WAKEUP (1024 * 1024)

/* The inode of the reader's pid namespace, and whether it is the initial one (no translation). */
const volatile u32 READER_PID_NAMESPACE = 0;
const volatile u32 READER_IN_INITIAL_NAMESPACE = 1;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, MAX_TARGETS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct target);
} targets SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	MAP_NUMBER(max_entries, RING_SIZE);
} ring SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, COUNTERS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} counters SEC(".maps");

/*
 * A sample is put together here: it is larger than a program's stack. The kernel does not run
 * sample_cpu a second time on a CPU while it is interrupted. Any offset below DRAFT_SIZE may be
 * followed by the largest single read, so that masking the offset is all the verifier needs.
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
	u8 bytes[DRAFT_SIZE + 1024];
};

_Static_assert(sizeof(struct sample) == 80, "decoded in wire.rs");
_Static_assert(sizeof(struct sample) + MAX_FRAMES * 8 + MAX_ATTRS +
		       MAX_LABELS * (sizeof(struct label_sizes) + MAX_KEY + MAX_VALUE) <= DRAFT_SIZE,
	       "the largest sample fits");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct draft);
} drafts SEC(".maps");

INLINE void count(u32 which)
{
	u64 *counter = bpf_map_lookup_elem(&counters, &which);

	if (counter)
		*counter += 1;
}

/* The thread id of a task in the reader's pid namespace; 0 if it has none there. */
INLINE u32 thread_id(struct task_struct *task)
{
	struct pid *pid = 0;
	u32 level = 0, inode = 0;
	struct upid upid = {};

	if (READER_IN_INITIAL_NAMESPACE) {
		u32 id = 0;

		READ_KERNEL(id, task->pid);
		return id;
	}
	/* Released already: the task is in the last moments of its exit. */
	if (!READ_KERNEL(pid, task->thread_pid) || !pid || !READ_KERNEL(level, pid->level))
		return 0;
	/* From the innermost namespace outwards: mostly the reader sits next to its target. */
	for (u32 outwards = 0; outwards <= 32; outwards++) {
		struct upid *number;

		if (outwards > level)
			break;
		number = (struct upid *)&pid->numbers + (level - outwards);
		if (bpf_probe_read_kernel(&upid, sizeof(upid), number) || !READ_KERNEL(inode, upid.ns->ns.inum))
			return 0;
		if (inode == READER_PID_NAMESPACE)
			return upid.nr;
	}
	return 0;
}

/* The process id of a task in the reader's pid namespace; 0 if it has none there. */
INLINE u32 process_id(struct task_struct *task)
{
	struct task_struct *leader = 0;

	if (READER_IN_INITIAL_NAMESPACE) {
		u32 id = 0;

		READ_KERNEL(id, task->tgid);
		return id;
	}
	if (!READ_KERNEL(leader, task->group_leader))
		return 0;
	return thread_id(leader);
}

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

/* Reads the pointer that a thread publishes at `offset` from its thread pointer. */
INLINE const void *published(struct draft *draft, u64 thread_pointer, s64 offset)
{
	const void *pointer = 0;

	if (bpf_probe_read_user(&pointer, sizeof(pointer), (void *)(thread_pointer + offset))) {
		draft->flags |= UNREADABLE;
		return 0;
	}
	return pointer;
}

INLINE void read_contexts(struct draft *draft, struct target *target, struct task_struct *task)
{
	u64 thread_pointer = 0;

	if (!target->found)
		return;
	/* Zero: the thread has not set up its thread-local storage yet. */
	if (!READ_KERNEL(thread_pointer, THREAD_POINTER(task)) || !thread_pointer)
		return;
	if (target->found & HAS_THREAD_CONTEXT)
		read_thread_context(draft, published(draft, thread_pointer, target->thread_context));
	if (target->found & HAS_CUSTOM_LABELS)
		read_custom_labels(draft, published(draft, thread_pointer, target->custom_labels));
}

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

	stack = bpf_get_stack(context, draft->bytes + sizeof(struct sample), MAX_FRAMES * 8, BPF_F_USER_STACK);
	if (stack < 0 || stack > MAX_FRAMES * 8)
		stack = 0;
	sample->stack_size = stack;

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

INLINE void tell(u32 kind, u32 pid, u32 child)
{
	struct life_event event = { .kind = kind, .pid = pid, .child = child };

	if (bpf_ringbuf_output(&ring, &event, sizeof(event), BPF_RB_FORCE_WAKEUP))
		count(LOST_LIFE_EVENTS);
}

/* Runs in the parent, before the child's first instruction. */
SEC("raw_tracepoint/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *parent = (struct task_struct *)context->args[0];
	struct task_struct *child = (struct task_struct *)context->args[1];
	u32 parent_id = process_id(parent), child_id = process_id(child);
	struct target *target, copy;

	/* A new thread of the same process. */
	if (!parent_id || !child_id || parent_id == child_id)
		return 0;
	target = bpf_map_lookup_elem(&targets, &parent_id);
	if (!target)
		return 0;
	copy = *target;
	if (bpf_map_update_elem(&targets, &child_id, &copy, BPF_ANY)) {
		count(REFUSED_TARGETS);
		return 0;
	}
	tell(KIND_FORK, parent_id, child_id);
	return 0;
}

/* The thread-local offsets of the program before mean nothing in the new one. */
SEC("raw_tracepoint/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *context)
{
	u32 pid = process_id((struct task_struct *)context->args[0]);
	struct target *target = bpf_map_lookup_elem(&targets, &pid);

	if (!target)
		return 0;
	target->found = 0;
	tell(KIND_EXEC, pid, 0);
	return 0;
}

/* Runs in each exiting thread, after it was taken off the process's count of live threads. */
SEC("raw_tracepoint/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *task = (struct task_struct *)context->args[0];
	struct signal_struct *signal = 0;
	int live = 0;
	u32 pid;

	if (!READ_KERNEL(signal, task->signal) || !READ_KERNEL(live, signal->live.counter) || live > 0)
		return 0;
	pid = process_id(task);
	/* Two threads that exit at once may both find that none is left: only one of them deletes. */
	if (bpf_map_delete_elem(&targets, &pid))
		return 0;
	tell(KIND_EXIT, pid, 0);
	return 0;
}

/* The helpers for user memory and stacks are open to programs under a licence that is compatible with the GPL. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
