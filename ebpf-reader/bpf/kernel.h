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
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_USER_STACK = 1 << 8,
	BPF_RB_NO_WAKEUP = 1 << 0,
	BPF_RB_FORCE_WAKEUP = 1 << 1,
	BPF_RB_AVAIL_DATA = 0,
};

/* What __builtin_preserve_field_info and __builtin_preserve_type_info are asked for. */
enum {
	FIELD_EXISTS = 2,
	TYPE_SIZE = 1,
};

/* Helpers by their numbers in the kernel's ABI. Linux 5.10 has them all but the last two. */
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
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158; /* 5.11 */
static u64 (*bpf_task_pt_regs)(struct task_struct *task) = (void *)175;     /* 5.15 */

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

/*
 * The registers of an interrupted program, as the kernel shows them to user space: what a perf_event
 * program's context starts with, and also what the kernel's own struct pt_regs starts with.
 */
#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
} RELOCATED;
#define THREAD_POINTER(task) (task)->thread.fsbase

struct user_registers {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
	u64 ip, cs, flags, sp, ss;
};
#define INSTRUCTION(registers) (registers)->ip
#define FRAME(registers) (registers)->bp
/* The privilege level in the code segment's selector. */
#define IN_USER_MODE(registers) (((registers)->cs & 3) != 0)
/* The selector of 64-bit code in user space, also under Xen. */
#define HAS_KERNEL_WORDS(registers) (((registers)->cs & 0xff) == 0x33)
#define FOLLOW_FRAMES 1
#elif defined(__TARGET_ARCH_arm64)
struct thread_struct {
	struct {
		unsigned long tp_value;
	} RELOCATED uw;
} RELOCATED;
#define THREAD_POINTER(task) (task)->thread.uw.tp_value

struct user_registers {
	u64 regs[31], sp, pc, pstate;
};
#define INSTRUCTION(registers) (registers)->pc
#define FRAME(registers) (registers)->regs[29]
#define LINK(registers) (registers)->regs[30]
/* Exception level 0. */
#define IN_USER_MODE(registers) (((registers)->pstate & 0xf) == 0)
/* Bit 4 says that it is 32-bit code. */
#define HAS_KERNEL_WORDS(registers) (((registers)->pstate & 0x10) == 0)
/* Left to the kernel, which takes signatures out of return addresses. It knows a last frame pointer here. */
#define FOLLOW_FRAMES 0
#else
#error "define __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"
#endif

/* Only its size is used. */
struct pt_regs {
	u64 sp;
} RELOCATED;

struct mm_struct;

struct task_struct {
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	void *stack;
	unsigned int __state; /* since 5.14 */
	unsigned long nvcsw;  /* times that it was switched out, of its own will and against it */
	unsigned long nivcsw;
	u64 start_time;
	struct thread_struct thread;
} RELOCATED;

/* Before 5.14. */
struct task_struct___before_5_14 {
	long state;
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
