//! A program that keeps all CPUs busy, some calls deep, each thread in a trace of its own.

use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::Context as _;
use otel_profiling::{Record, SpanIds};

/// With this argument the program is the busy one.
pub(crate) const ARGUMENT: &str = "keep-busy";

/// Calls between a thread's first function and the one that works: about what a handler in a web service has.
const DEPTH: u32 = 16;

/// The busy program; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Child);

impl Busy {
    pub(crate) fn start(program: &Path) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start a busy process")?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Works until standard input is closed: whoever started it is gone.
pub(crate) fn run() -> ! {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    for thread in 1..=threads {
        thread::spawn(move || {
            let number = u8::try_from(thread).unwrap_or(u8::MAX);
            let ids = SpanIds::new([number; 16], [number; 8], 1).expect("the ids are not zero");
            Record::new(ids).publish_while(|| {
                loop {
                    black_box(deep(black_box(DEPTH)));
                }
            })
        });
    }
    // An error is an end, too.
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0)
}

#[inline(never)]
fn deep(calls: u32) -> u64 {
    if calls == 0 {
        return (0..100_000_u64).fold(0, |sum, n| black_box(sum ^ n.wrapping_mul(n)));
    }
    // Not a tail call.
    black_box(deep(black_box(calls - 1))) + 1
}
