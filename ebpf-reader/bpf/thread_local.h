/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * From a place to an address in one thread: the arithmetic of thread-local storage.
 *
 * The same as in ../src/thread_local.rs. A dynamic thread vector (DTV) belongs to the C library of the
 * process, and lies in memory that the process can write to: everything in it may be wrong.
 */
#ifndef THREAD_LOCAL_H
#define THREAD_LOCAL_H

#include "draft.h"

/* Where the vector's address lies, as an offset from the thread pointer. */
#if defined(__TARGET_ARCH_x86)
/* tcbhead_t.dtv and musl's struct pthread, both after a pointer to itself. */
#define GLIBC_VECTOR 8
#define MUSL_VECTOR 8
#else
/* tcbhead_t.dtv, right at the thread pointer; the last member of musl's struct pthread, below it. */
#define GLIBC_VECTOR 0
#define MUSL_VECTOR -8
#endif

/* glibc: an entry of the vector for a block that the thread has not touched. */
#define UNALLOCATED (~0ull)

enum found {
	FOUND_UNREADABLE, /* the way leads to memory that cannot be read */
	FOUND_NONE,       /* the thread has no such block yet */
	FOUND_ADDRESS,    /* in draft->word */
};

/* Reads one word of the target into draft->word; false if it cannot be read. */
INLINE int read_word(struct draft *draft, u64 address)
{
	return bpf_probe_read_user((void *)&draft->word, sizeof(u64), (void *)address) == 0;
}

/* The address of a dynamic place. */
INLINE enum found find_in_vector(struct draft *draft, u64 thread_pointer, u32 libc, const struct place *place)
{
	u64 vector;

	if (!read_word(draft, thread_pointer + (libc == LIBC_MUSL ? MUSL_VECTOR : GLIBC_VECTOR)))
		return FOUND_UNREADABLE;
	vector = draft->word;
	/* A thread that is being set up. */
	if (!vector)
		return FOUND_NONE;
	if (libc == LIBC_MUSL) {
		/* Entries of one word; the first one is their number. */
		if (!read_word(draft, vector))
			return FOUND_UNREADABLE;
		if (place->module > draft->word)
			return FOUND_NONE;
		if (!read_word(draft, vector + place->module * 8))
			return FOUND_UNREADABLE;
	} else {
		/* Entries of two words; their number lies before the first one, which is the generation. */
		if (!read_word(draft, vector - 16))
			return FOUND_UNREADABLE;
		if (place->module > draft->word)
			return FOUND_NONE;
		if (!read_word(draft, vector))
			return FOUND_UNREADABLE;
		if (draft->word < place->generation)
			return FOUND_NONE;
		if (!read_word(draft, vector + place->module * 16))
			return FOUND_UNREADABLE;
	}
	if (!draft->word || draft->word == UNALLOCATED)
		return FOUND_NONE;
	draft->word += place->offset;
	return FOUND_ADDRESS;
}

/* Leaves the first pointer that is not null in draft->published, or zero if there is none. */
INLINE void find_published(struct draft *draft, u64 thread_pointer, u32 libc, const struct place *places)
{
	draft->published = 0;
	for (u32 i = 0; i < MAX_PLACES; i++) {
		const struct place *place = &places[i];
		enum found found = FOUND_ADDRESS;

		if (place->kind == PLACE_NONE)
			return;
		if (place->kind == PLACE_DYNAMIC)
			found = find_in_vector(draft, thread_pointer, libc, place);
		else
			draft->word = thread_pointer + place->offset;
		if (found == FOUND_NONE)
			continue;
		if (found == FOUND_UNREADABLE || !read_word(draft, draft->word)) {
			draft->flags |= UNREADABLE;
			return;
		}
		if (draft->word) {
			draft->published = draft->word;
			return;
		}
	}
}

#endif
