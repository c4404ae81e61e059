//! The processes that are sampled: this very test binary, started again.

pub(crate) mod frames;
mod publish;
pub(crate) mod stacks;
pub(crate) mod vectors;
mod waiting;

use std::io::{BufRead as _, stdin};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) use publish::locations;
use publish::{CUSTOM_LABELS, RECORD, Record, THREAD_CONTEXT, publish};

/// The variable that makes this binary a target, and says of which kind.
pub(crate) const VARIABLE: &str = "SAMPLER_TEST_TARGET";

/// Threads that were started, and those of them that have come to where they stay.
static STARTED: AtomicUsize = AtomicUsize::new(0);
static SETTLED: AtomicUsize = AtomicUsize::new(0);

/// To be called by each thread that was started before [`ready`]: it publishes what it is going to publish, and its
/// stack stays as it is. A thread has its name from the start, and could be sampled on the way here.
fn settled() {
    SETTLED.fetch_add(1, Ordering::Relaxed);
}

fn spin() -> ! {
    settled();
    loop {
        std::hint::black_box(());
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut used = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `used` is a valid timespec that the kernel may write to during the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut used) };
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Uses CPU time: on a busy machine that takes longer than the time itself.
fn spin_for(time: Duration) {
    let start = cpu_time();
    while cpu_time() - start < time {}
}

fn ready() {
    while SETTLED.load(Ordering::Relaxed) < STARTED.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
    let (thread_context, custom_labels) = locations();
    println!("\nready {thread_context} {custom_labels}");
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) {
    STARTED.fetch_add(1, Ordering::Relaxed);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .expect("a thread");
}

/// Runs on until standard input ends.
fn wait_for_end() -> ! {
    for line in stdin().lock().lines() {
        if line.is_err() {
            break;
        }
    }
    exit(0);
}

fn wait_for_line() {
    let mut line = String::new();
    stdin()
        .lock()
        .read_line(&mut line)
        .expect("a line on standard input");
}

static SIGNALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: i32) {
    SIGNALLED.store(true, Ordering::Relaxed);
}

pub(crate) fn run(kind: &str) -> ! {
    match kind {
        "busy" => {
            thread("with", || {
                publish();
                spin()
            });
            thread("without", || spin());
        }
        "wild" => {
            thread("odd", || {
                THREAD_CONTEXT.set(std::ptr::without_provenance(0x1001));
                spin()
            });
            thread("unmapped", || {
                THREAD_CONTEXT.set(std::ptr::without_provenance(0x10));
                spin()
            });
            thread("labels", || {
                CUSTOM_LABELS.set(std::ptr::without_provenance(0xffff_8000_0000_0000));
                spin()
            });
        }
        "fork" => {
            ready();
            wait_for_line();
            // On the heap: a child does not get its parent's mappings of file pages until it touches
            // them, and what is not mapped cannot be read at a sample.
            let record: &Record = Box::leak(Box::new(RECORD));
            // SAFETY: the child only spins, stores to its thread-locals and ends by _exit.
            let child = unsafe { libc::fork() };
            if child == 0 {
                THREAD_CONTEXT.set(record);
                spin_for(Duration::from_millis(600));
                // SAFETY: ends the process, nothing else.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: `status` is a valid int that the kernel may write to during the call.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            println!("\nchild {child} {status}");
            wait_for_end();
        }
        "exec" => {
            ready();
            thread("before", || {
                publish();
                spin()
            });
            wait_for_line();
            let program = std::env::current_exe().expect("own path");
            let mut command = Command::new(program);
            command
                .args(std::env::args_os().skip(1))
                .env(VARIABLE, "busy");
            panic!("exec failed: {}", command.exec());
        }
        "signals" => {
            let handler: extern "C" fn(i32) = on_signal;
            // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
            unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
            thread("spinning", || spin());
            ready();
            let mut caught = 0;
            while caught < 20 {
                // Sleeps are not cut short by the sampler, only by signals that were sent.
                thread::sleep(Duration::from_millis(5));
                if SIGNALLED.swap(false, Ordering::Relaxed) {
                    caught += 1;
                    println!("\ncaught {caught}");
                }
            }
            // Many short threads while being traced.
            for _ in 0..50 {
                thread::spawn(|| spin_for(Duration::from_millis(1)))
                    .join()
                    .expect("a thread");
            }
            println!("\ndone");
        }
        "frames" => frames::run(),
        "stacks" => stacks::run(),
        "wild-stacks" => stacks::run_wild(),
        "vectors" => vectors::run(),
        "waiting" => waiting::run(),
        other => panic!("no such target: {other}"),
    }
    ready();
    wait_for_end();
}
