/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tables and the ring that the kernel side shares with the reader. */
#ifndef MAPS_H
#define MAPS_H

#include "kernel.h"
#include "records.h"

#define MAX_TARGETS 8192
#define RING_SIZE (16 * 1024 * 1024)
/*
 * Who leaves how much of the ring to others. Life events need none: a lost exit would leave the reader
 * waiting. A lost switch-in makes the switch-out useless. Times off the CPU leave room to samples.
 */
#define SWITCH_IN_RESERVE (128 * 1024)
#define SAMPLE_RESERVE (512 * 1024)
#define SWITCH_OUT_RESERVE (2 * 1024 * 1024)
/*
 * Copies of stacks take up nearly all of it. A reader that is held up, or a storm of switches, costs stacks
 * before it costs samples: beyond this nothing is copied.
 */
#define SAMPLE_COPY_RESERVE (RING_SIZE / 4)
#define SWITCH_OUT_COPY_RESERVE (RING_SIZE / 2)
/* The reader looks at the ring by itself several times a second; it is woken only if that is too slow. */
#define RING_WAKEUP (1024 * 1024)

/* Set by the reader before the programs are loaded. */
const volatile u32 EVERYTHING = 0;         /* sample processes that are not in the table too */
const volatile u32 KERNEL_STACKS = 0;      /* read kernel stacks */
const volatile u32 READER_PID = 0;         /* not sampled unless it is in the table */
const volatile u32 HAS_TASK_PT_REGS = 0;   /* the kernel has bpf_task_pt_regs */
const volatile u32 KERNEL_STACK_SIZE = 16384;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, MAX_TARGETS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct target);
} targets SEC(".maps");

/* Processes whose user stacks are copied. Kept apart from the targets, which on_exec changes in place. */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, MAX_TARGETS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} copied SEC(".maps");

/* Processes that the reader has been told of, though they are not in the table of targets. */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_NUMBER(max_entries, 2 * MAX_TARGETS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} told SEC(".maps");

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

INLINE void count(u32 which)
{
	u64 *counter = bpf_map_lookup_elem(&counters, &which);

	if (counter)
		*counter += 1;
}

#endif
