/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Process and thread ids as the reader sees them: those of its own pid namespace. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "kernel.h"

/* The inode of the reader's pid namespace, and whether it is the initial one (no translation). */
const volatile u32 READER_PID_NAMESPACE = 0;
const volatile u32 READER_IN_INITIAL_NAMESPACE = 1;

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

#endif
