//! Threads that are off the CPU for a time that they know themselves.
//!
//! Each publishes its context just as long as it keeps account: other waits show none.

use std::sync::{Arc, Barrier, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::publish::{RECORD, Record, THREAD_CONTEXT};
use super::{cpu_time, ready, thread, wait_for_end, wait_for_line};

/// Runs with a context published, and tells the time that passed and the time on the CPU.
fn account(name: &'static str, run: impl FnOnce()) {
    let record: *const Record = Box::leak(Box::new(RECORD));
    let (start, cpu) = (Instant::now(), cpu_time());
    THREAD_CONTEXT.set(record);
    run();
    THREAD_CONTEXT.set(std::ptr::null());
    let (passed, used) = (start.elapsed(), cpu_time() - cpu);
    println!("\n{name} {} {}", passed.as_nanos(), used.as_nanos());
}

/// The thread runs on this CPU only.
fn pin_to(cpu: usize) {
    // SAFETY: a plain set of bits, for which zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is a number that the kernel told, below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads `set` during the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(result, 0, "a CPU that this thread runs on can be chosen");
}

pub(super) fn run() -> ! {
    ready();
    wait_for_line();
    thread("sleeping", || {
        account("sleeping", || {
            for _ in 0..20 {
                sleep(Duration::from_millis(10));
            }
        });
    });
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().expect("new");
    let barrier = Arc::new(Barrier::new(2));
    {
        let (lock, barrier) = (Arc::clone(&lock), Arc::clone(&barrier));
        thread("locked", move || {
            barrier.wait();
            account("locked", || drop(lock.lock()));
        });
    }
    barrier.wait();
    sleep(Duration::from_millis(300));
    drop(held);

    // SAFETY: takes nothing, returns a number.
    let cpu = usize::try_from(unsafe { libc::sched_getcpu() }).expect("a CPU");
    let barrier = Arc::new(Barrier::new(2));
    for name in ["first", "second"] {
        let barrier = Arc::clone(&barrier);
        thread(name, move || {
            pin_to(cpu);
            barrier.wait();
            account(name, || {
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(1) {}
            });
        });
    }

    wait_for_line();
    thread("forever", || {
        account("forever", || {
            println!("\nasleep");
            sleep(Duration::from_secs(1 << 20));
        });
    });
    wait_for_end()
}
