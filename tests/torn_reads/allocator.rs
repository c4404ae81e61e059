//! Memory that was freed looks like a record that may be read, but is none: a reader that follows a
//! pointer to it notices.

use std::alloc::{GlobalAlloc, Layout, System};

/// As the byte [`valid`](otel_profiling::abi::thread_context::RecordHeader::valid) it says that the
/// record may be read; the ids that it makes do not belong to each other.
const POISON: u8 = 1;

struct Poisoning;

// SAFETY: allocation and deallocation are the system's; freed memory is overwritten within its own bounds.
unsafe impl GlobalAlloc for Poisoning {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up memory of this layout. The barrier keeps the compiler from
        // dropping stores to memory that is freed.
        unsafe {
            std::ptr::write_bytes(pointer, POISON, layout.size());
            std::hint::black_box(pointer);
            System.dealloc(pointer, layout);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Poisoning = Poisoning;
