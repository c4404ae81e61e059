/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the program uses of the kernel's interface, and no more of it.
 *
 * Kernel structures hold only the fields that are read. `preserve_access_index` makes the compiler
 * record each access, and the loader puts in the offsets of the running kernel (CO-RE), so the order
 * and the position of fields here mean nothing.
 */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define RELOCATED __attribute__((preserve_access_index))

/* Map definitions as the loader expects them in the section ".maps": numbers travel as array lengths. */
#define MAP_NUMBER(name, value) int(*name)[value]
#define MAP_TYPE(name, value) typeof(value) *name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_F_USER_STACK = 1 << 8,
	BPF_RB_NO_WAKEUP = 1 << 0,
	BPF_RB_FORCE_WAKEUP = 1 << 1,
	BPF_RB_AVAIL_DATA = 0,
};

/* Helpers by their numbers in the kernel's ABI. All of them exist in Linux 5.10. */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *buffer, u32 size) = (void *)16;
static u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_get_stack)(void *context, void *buffer, u32 size, u64 flags) = (void *)67;
static long (*bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static u64 (*bpf_ringbuf_query)(void *ring, u64 flags) = (void *)134;

typedef struct {
	int counter;
} RELOCATED atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
} RELOCATED;

struct ns_common {
	unsigned int inum;
} RELOCATED;

struct pid_namespace {
	struct ns_common ns;
} RELOCATED;

/* Not relocated: its elements are addressed by a computed index. Unchanged since Linux 4.15. */
struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
} RELOCATED;

#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
} RELOCATED;
#define THREAD_POINTER(task) (task)->thread.fsbase
#elif defined(__TARGET_ARCH_arm64)
struct thread_struct {
	struct {
		unsigned long tp_value;
	} RELOCATED uw;
} RELOCATED;
#define THREAD_POINTER(task) (task)->thread.uw.tp_value
#else
#error "define __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"
#endif

struct mm_struct;

struct task_struct {
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct thread_struct thread;
} RELOCATED;

/* Arguments of a raw tracepoint. */
struct bpf_raw_tracepoint_args {
	u64 args[0];
};

/* Reads one field of a kernel structure into a variable; false if the address is bad. */
#define READ_KERNEL(variable, field) (bpf_probe_read_kernel(&(variable), sizeof(variable), &(field)) == 0)

/* Hides a number's origin from the compiler, so that it keeps the bounds check that the verifier needs. */
#define OPAQUE(number) asm volatile("" : "+r"(number))

#endif
