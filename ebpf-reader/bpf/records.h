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
#define MAX_COPY (16 * 1024)

enum kind {
	KIND_SAMPLE = 1,
	KIND_FORK = 2,
	KIND_EXEC = 3,
	KIND_EXIT = 4,
	KIND_APPEARED = 5,
	KIND_SWITCH_OUT = 6, /* a struct sample */
	KIND_SWITCH_IN = 7,
};

/* Bits of sample.flags. */
enum {
	HAS_THREAD_CONTEXT = 1,
	UNREADABLE = 4,
	HAS_COPY = 8,
};

/* An event in the life of a process. */
struct life_event {
	u32 kind;
	u32 pid;
	u32 child; /* KIND_FORK only */
	u32 unused;
};

/* A thread runs on. */
struct switch_in {
	u32 kind;
	u32 pid;
	u32 tid;
	u32 unused;
	u64 time_ns;
	u64 sequence; /* that of its switch-out */
};

/* User registers that a stack is unwound from. */
struct registers {
	u64 instruction;
	u64 stack;
	u64 frame;
	u64 link; /* aarch64 only */
};

/*
 * The fixed part of a sample. It is followed by `kernel_stack_size` and `user_stack_size` bytes of
 * addresses, `attrs_size` bytes of attributes, `labels` times { u16 key size, u16 value size, key, value },
 * and `copy_size` bytes of the user stack from `registers.stack` on.
 */
struct sample {
	u32 kind;
	u32 pid;
	u32 tid;
	u32 cpu;
	u64 time_ns;
	u64 sequence; /* KIND_SWITCH_OUT only */
	u8 thread_name[16];
	u16 kernel_stack_size;
	u16 user_stack_size;
	u16 attrs_size;
	u16 copy_size;
	u8 labels;
	u8 flags;
	u8 blocked; /* KIND_SWITCH_OUT only: it went to sleep */
	u8 unused;
	u8 record[RECORD_HEADER_SIZE]; /* the thread context's header as it was read */
	struct registers registers;    /* zero for threads of the kernel */
};

struct label_sizes {
	u16 key;
	u16 value;
};

/* In which of the modules that define a symbol, and how to get there. */
enum place_kind {
	PLACE_NONE = 0,    /* no more places */
	PLACE_STATIC = 1,  /* at `offset` from the thread pointer */
	PLACE_DYNAMIC = 2, /* at `offset` in the block that the thread's vector names for `module` */
};

struct place {
	u64 kind;
	u64 offset;
	u64 module;
	u64 generation; /* the vector is out of date for this module while its own is lower */
};

enum libc {
	LIBC_GLIBC = 0,
	LIBC_MUSL = 1,
};

#define MAX_PLACES 4

/* A process that is followed, by its process id in the reader's pid namespace. */
struct target {
	u32 known; /* the places are those of the program that it runs */
	u32 libc;
	struct place thread_context[MAX_PLACES];
	struct place custom_labels[MAX_PLACES];
};

enum counter {
	LOST_SAMPLES = 0,     /* the ring buffer was full */
	LOST_LIFE_EVENTS = 1, /* the same */
	UNREADABLE_SAMPLES = 2,
	TRUNCATED_SAMPLES = 3, /* beyond the bounds above; or a stack that was not copied, for want of room */
	REFUSED_TARGETS = 4,   /* the table of targets was full when one forked */
	LOST_SWITCH_INS = 5,   /* the ring buffer was full */
	COUNTERS = 6,
};

#endif
