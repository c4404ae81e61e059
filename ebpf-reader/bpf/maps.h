/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tables and the ring that the kernel side shares with the reader. */
#ifndef MAPS_H
#define MAPS_H

#include "kernel.h"
#include "records.h"

#define MAX_TARGETS 8192
#define RING_SIZE (16 * 1024 * 1024)
/* Samples leave this much of the ring to life events: a lost exit would leave the reader waiting. */
#define RING_RESERVE (128 * 1024)
/* The reader looks at the ring by itself several times a second; it is woken only if that is too slow. */
#define RING_WAKEUP (1024 * 1024)

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

INLINE void count(u32 which)
{
	u64 *counter = bpf_map_lookup_elem(&counters, &which);

	if (counter)
		*counter += 1;
}

#endif
