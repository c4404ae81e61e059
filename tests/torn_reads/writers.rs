//! Threads that use contexts as programs do, only faster and worse.

use std::cell::Cell;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use otel_profiling::ContextLabels as _;

use crate::check::{self, Trace};

const THREADS: u64 = 4;

/// Random traces: xorshift.
pub(crate) struct Traces(u64);

impl Traces {
    /// Different for each `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn next(&mut self) -> Trace {
        (u128::from(self.number()) << 64 | u128::from(self.number())).to_be_bytes()
    }

    /// One of those without attributes.
    pub(crate) fn next_plain(&mut self) -> Trace {
        let mut trace = self.next();
        trace[15] &= !1;
        trace
    }

    fn context(&mut self) -> Context {
        let trace = self.next();
        let context = Context::new().with_remote_span_context(check::span_context(&trace));
        let values = check::values(&trace).into_iter().flatten();
        check::NAMES
            .into_iter()
            .zip(values)
            .fold(context, |context, (name, value)| {
                context.with_profiling_label(name, &value)
            })
    }
}

/// Threads that attach and detach random contexts, nested, made before and afresh, without pause.
pub(crate) fn hammer() {
    otel_profiling::install().expect("no other observer");
    for seed in 0..THREADS {
        thread::spawn(move || {
            let mut traces = Traces::new(seed);
            let pool: Vec<Context> = (0..256).map(|_| traces.context()).collect();
            loop {
                let pick = |number: u64| pool[number as usize % pool.len()].clone();
                let _outer = pick(traces.number()).attach();
                let _fresh = traces.context().attach();
                let mut number = traces.number();
                for _ in 0..16 {
                    let _inner = pick(number).attach();
                    number = number.rotate_right(4);
                    let _innermost = pick(number).attach();
                }
            }
        });
    }
}

/// How long a thread shows what it publishes, so that it is surely sampled.
const WHILE: Duration = Duration::from_micros(400);

pub(crate) fn spin() {
    let start = Instant::now();
    while start.elapsed() < WHILE {
        black_box(());
    }
}

/// Spins when thread-locals are destroyed that were first used before a thread's first attach: after
/// OpenTelemetry's own, when the contexts of the thread have been freed.
struct Late(Cell<bool>);

impl Drop for Late {
    fn drop(&mut self) {
        spin();
    }
}

thread_local! {
    static LATE: Late = const { Late(Cell::new(false)) };
}

/// Starts threads for ever, each of which runs `work` and then [spins](spin) while it ends.
pub(crate) fn short_threads(work: fn(&mut Traces)) {
    for seed in 0..THREADS {
        thread::spawn(move || {
            for turn in 0.. {
                let mut traces = Traces::new(seed << 48 | turn);
                let thread = thread::spawn(move || {
                    LATE.with(|late| late.0.set(true));
                    work(&mut traces);
                });
                thread.join().expect("the thread ends as usual");
            }
        });
    }
}

/// Threads that end with contexts attached whose guards were forgotten.
pub(crate) fn end_with_forgotten_guards() {
    otel_profiling::install().expect("no other observer");
    short_threads(|traces| {
        for _ in 0..10 {
            // Only the stack of contexts owns these; it frees them while the thread ends.
            std::mem::forget(traces.context().attach());
        }
        spin();
    });
}
