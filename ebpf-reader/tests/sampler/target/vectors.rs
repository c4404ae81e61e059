//! Threads with dynamic thread vectors of the test's own making.

use std::ptr::{null, with_exposed_provenance_mut};

use super::publish::{RECORD, Record, THREAD_CONTEXT, thread_pointer};
use super::{spin, thread};

/// The place that the test asks for.
pub(crate) const MODULE: u64 = 5;
pub(crate) const OFFSET: u64 = 16;
pub(crate) const GENERATION: u64 = 3;

const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
const UNMAPPED: u64 = 0x10;
const UNTOUCHED: u64 = u64::MAX;

/// A vector as glibc lays it out; `tcb` points to `generation`.
struct Glibc {
    capacity: u64,
    generation: u64,
    /// Of [`MODULE`].
    entry: u64,
}

/// The block of a module, with a pointer to a record at [`OFFSET`], or null.
fn block(record: bool) -> u64 {
    let record: *const Record = if record {
        Box::leak(Box::new(RECORD))
    } else {
        null()
    };
    let block: &[u64; 3] = Box::leak(Box::new([0, 0, record as u64]));
    block.as_ptr() as u64
}

impl Glibc {
    fn address(self) -> u64 {
        let mut vector = vec![0_u64; 2 + 2 * 9];
        vector[0] = self.capacity;
        vector[2] = self.generation;
        vector[2 + 2 * MODULE as usize] = self.entry;
        vector.leak()[2..].as_ptr() as u64
    }
}

/// A vector as musl lays it out.
fn musl(count: u64, entry: u64) -> u64 {
    let mut vector = vec![0_u64; 9];
    vector[0] = count;
    vector[MODULE as usize] = entry;
    vector.leak().as_ptr() as u64
}

/// A thread that spins with this address as that of its vector. It must not do anything else any more.
fn spin_with(name: &str, vector: u64, fallback: bool) {
    thread(name, move || {
        if fallback {
            THREAD_CONTEXT.set(Box::leak(Box::new(RECORD)));
        }
        let slot = thread_pointer() + if cfg!(target_arch = "x86_64") { 8 } else { 0 };
        // SAFETY: the C library's pointer to this thread's vector. Nothing that this thread still does looks
        // at it: static thread-locals are found without, and the thread never ends.
        unsafe { with_exposed_provenance_mut::<u64>(slot as usize).write_volatile(vector) };
        spin()
    });
}

pub(super) fn run() {
    let good = |generation, entry| Glibc {
        capacity: 8,
        generation,
        entry,
    };
    spin_with("current", good(3, block(true)).address(), false);
    spin_with("newer", good(4, block(true)).address(), false);
    spin_with("stale", good(2, block(true)).address(), false);
    spin_with("untouched", good(3, UNTOUCHED).address(), false);
    spin_with("zero", good(3, 0).address(), false);
    spin_with("second", good(3, block(false)).address(), true);
    spin_with("stale-second", good(2, block(true)).address(), true);
    let small = Glibc {
        capacity: MODULE - 1,
        ..good(3, block(true))
    };
    spin_with("small", small.address(), false);
    let huge = Glibc {
        capacity: u64::MAX,
        ..good(3, block(true))
    };
    spin_with("huge", huge.address(), false);
    spin_with("wild-block", good(3, UNMAPPED).address(), true);
    spin_with("kernel-block", good(3, KERNEL_HALF).address(), true);
    spin_with("null", 0, false);
    spin_with("unmapped", UNMAPPED, true);
    spin_with("kernel", KERNEL_HALF, true);
    spin_with("musl", musl(8, block(true)), false);
    spin_with("musl-zero", musl(8, 0), false);
    spin_with("musl-small", musl(MODULE - 1, block(true)), false);
}
