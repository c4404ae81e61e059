//! Publishes what `otel_profiling_vm_tests` says, in threads that use the CPU, until it is killed.
//!
//! With the argument `main`, the main thread does it alone, and asks the kernel for nothing once it has begun.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use otel_profiling::process_context::{self, ProcessContext};
use otel_profiling::{AttributeKey, Record, SpanIds};
use otel_profiling_vm_tests::{ATTRIBUTE, Published, SERVICE, THREADS, records};

/// After each turn, to leave some of the CPU to the reader.
const PAUSE: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    process_context::publish(&ProcessContext::new().resource("service.name", SERVICE))?;
    let key = AttributeKey::new(ATTRIBUTE)?;
    if std::env::args().nth(1).is_some_and(|mode| mode == "main") {
        publish(key, 0, || println!("ready"), Duration::ZERO)?;
    }

    let all_publish = Barrier::new(usize::from(THREADS) + 1);
    thread::scope(|scope| -> Result<()> {
        for thread in 0..THREADS {
            let all_publish = &all_publish;
            thread::Builder::new()
                .name(format!("writer-{thread}"))
                .spawn_scoped(scope, move || {
                    let begun = || {
                        all_publish.wait();
                    };
                    publish(key, thread, begun, PAUSE)
                })?;
        }
        all_publish.wait();
        println!("ready");
        loop {
            thread::park();
        }
    })
}

/// Publishes `thread`'s records in turn, for ever, and never none; calls `begun` when the first of them is published.
fn publish(key: AttributeKey, thread: u8, begun: impl FnOnce(), pause: Duration) -> Result<()> {
    let records = records(thread)
        .map(|record| build(key, &record))
        .collect::<Result<Vec<_>>>()?;
    let (first, others) = records.split_first().context("no records")?;
    first.publish_while(|| {
        begun();
        loop {
            work();
            for record in others {
                record.publish_while(work);
            }
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
    })
}

fn work() {
    for number in 0..200_000 {
        black_box(number);
    }
}

fn build(key: AttributeKey, published: &Published) -> Result<Record> {
    let ids = SpanIds::new(published.trace_id, published.span_id, 1).context("the ids are 0")?;
    Ok(Record::with_attributes(ids, &[(key, &published.value)]))
}
