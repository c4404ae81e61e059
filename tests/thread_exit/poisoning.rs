//! An allocator that never gives memory back: what was freed reads as garbage for ever.

use std::alloc::{GlobalAlloc, Layout, System};

struct Poisoning;

// SAFETY: allocation is the system's; freed memory is overwritten within its own bounds, and leaks.
unsafe impl GlobalAlloc for Poisoning {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up memory of this layout. The barrier keeps the compiler from
        // dropping stores to memory that is not used again.
        unsafe { std::ptr::write_bytes(pointer, 0xdd, layout.size()) };
        std::hint::black_box(pointer);
    }
}

#[global_allocator]
static ALLOCATOR: Poisoning = Poisoning;
