//! A writer in Rust: two threads that publish, and one that does not, all busy.

use std::io::Read as _;
use std::sync::Barrier;
use std::thread::Builder;
use std::time::{Duration, Instant};

use otel_profiling::{Record, SpanIds};

static BARRIER: Barrier = Barrier::new(4);

/// Prints "ready" once they run, and ends when standard input does.
pub fn run() {
    for (number, name) in ["publishes-0", "publishes-1", "silent"].into_iter().enumerate() {
        let thread = move || {
            if name == "silent" {
                spin();
            }
            let digit = b'0' + number as u8;
            let (mut trace_id, mut span_id) = (*b"trace-0000000000", *b"span-000");
            (trace_id[15], span_id[7]) = (digit, digit);
            let ids = SpanIds::new(trace_id, span_id, 1).expect("not zero");
            Record::new(ids).publish_while(|| spin());
        };
        Builder::new().name(name.to_owned()).spawn(thread).expect("room for a thread");
    }
    BARRIER.wait();
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

/// With pauses: many writers share few CPUs.
fn spin() -> ! {
    BARRIER.wait();
    loop {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1) {}
        std::thread::sleep(Duration::from_millis(2));
    }
}
