/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What travels from the kernel to the reader through the ring buffer, and the tables they share.
 *
 * The same layout is decoded in ../src/sampler/wire.rs. All numbers are native-endian.
 */
#ifndef RECORDS_H
#define RECORDS_H

#include "kernel.h"

/* The layouts that are read in the target; the Rust side declares them in the crate otel-profiling. */
#define RECORD_HEADER_SIZE 28
#define RECORD_VALID_OFFSET 24
#define RECORD_VALID 1
#define RECORD_SIZE_OFFSET 26
#define MAX_ATTRS 612

/* Bounds of one sample. */
#define MAX_FRAMES 127
#define MAX_LABELS 16
#define MAX_KEY 64
#define MAX_VALUE 256

enum kind {
	KIND_SAMPLE = 1,
	KIND_FORK = 2,
	KIND_EXEC = 3,
	KIND_EXIT = 4,
};

/* Bits of sample.flags and of target.found. */
enum {
	HAS_THREAD_CONTEXT = 1,
	HAS_CUSTOM_LABELS = 2,
	UNREADABLE = 4,
};

/* An event in the life of a process. */
struct life_event {
	u32 kind;
	u32 pid;
	u32 child; /* KIND_FORK only */
	u32 unused;
};

/*
 * The fixed part of a sample. It is followed by `stack_size` bytes of addresses, `attrs_size` bytes of
 * attributes, and `labels` times { u16 key size, u16 value size, key, value }.
 */
struct sample {
	u32 kind;
	u32 pid;
	u32 tid;
	u32 cpu;
	u64 time_ns;
	u8 thread_name[16];
	u16 stack_size;
	u16 attrs_size;
	u8 labels;
	u8 flags;
	u16 unused;
	u8 record[RECORD_HEADER_SIZE]; /* the thread context's header as it was read */
	u32 unused2;
};

struct label_sizes {
	u16 key;
	u16 value;
};

/* A process that is followed, by its process id in the reader's pid namespace. */
struct target {
	s64 thread_context; /* offsets from the thread pointer */
	s64 custom_labels;
	u64 found; /* which of the two the process has */
};

enum counter {
	LOST_SAMPLES = 0,     /* the ring buffer was full */
	LOST_LIFE_EVENTS = 1, /* the same */
	UNREADABLE_SAMPLES = 2,
	TRUNCATED_SAMPLES = 3, /* attributes, labels, keys or values beyond the bounds above */
	REFUSED_TARGETS = 4,   /* the table of targets was full when one forked */
	COUNTERS = 5,
};

#endif
