//! Threads with known stacks.

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;

use super::{ready, settled, spin, thread, wait_for_end};

/// What lies on the stack of a thread, and how many times: more than is copied of a stack, or less.
pub(crate) const PATTERN: u64 = 0x5ca1_ab1e_0ddb_a110;
pub(crate) const DEEP_WORDS: usize = 8 * 1024;
pub(crate) const SHALLOW_WORDS: usize = 512;

/// Stack pointers that lead nowhere, and the threads that have them.
pub(crate) const WILD: [(&str, u64); 4] = [
    ("kernel", 0xffff_8000_0000_1000),
    ("unmapped", 0x1000),
    ("null", 0),
    ("last", u64::MAX - 15),
];

/// Runs with a stack that holds the pattern, word after word.
#[inline(never)]
fn with_pattern<const WORDS: usize>(run: fn() -> ()) {
    let mut words = [0_u64; WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = PATTERN.wrapping_add(index as u64);
    }
    black_box(&mut words);
    run();
    black_box(&mut words);
}

/// Reads as the kernel makes it up: nearly all the time is spent in system calls.
fn read_zeros() {
    let mut file = File::open("/dev/zero").expect("/dev/zero");
    let mut buffer = vec![0; 1 << 20];
    settled();
    loop {
        file.read_exact(&mut buffer).expect("zeros do not end");
        black_box(&mut buffer);
    }
}

/// Spins with a stack pointer that leads to the kernel's half of the addresses, or nowhere.
fn spin_with_stack_at(stack: u64) -> ! {
    settled();
    // SAFETY: never returns, and does not use the stack. No signal is sent to this thread; if one were, the
    // process would end.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov rsp, {}", "mov rbp, rsp", "2:", "jmp 2b", in(reg) stack, options(noreturn));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mov sp, {}", "mov x29, sp", "2:", "b 2b", in(reg) stack, options(noreturn));
    }
}

pub(super) fn run_wild() -> ! {
    for (name, stack) in WILD {
        thread(name, move || spin_with_stack_at(stack));
    }
    ready();
    wait_for_end()
}

pub(super) fn run() -> ! {
    thread("deep", || with_pattern::<DEEP_WORDS>(|| spin()));
    thread("shallow", || with_pattern::<SHALLOW_WORDS>(|| spin()));
    thread("calling", || with_pattern::<SHALLOW_WORDS>(read_zeros));
    ready();
    wait_for_end()
}
