//! The good writer: rounds of CPU time, each with a trace of its own, and its own account of them.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use otel_profiling::process_context::{self, ProcessContext};
use otel_profiling::{AttributeKey, Record, SpanIds};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of a round.
const ROUND: Duration = Duration::from_millis(50);

/// How the trace id of each round begins.
pub(crate) const TRACE: &str = "600d600d600d600d600d600d";

/// The value of its attribute.
pub(crate) const ROUTE: &str = "/good";

/// The name of its service.
pub(crate) const SERVICE: &str = "good";

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap(),
    )
}

/// The ids of a round.
pub(crate) fn ids(round: u32) -> ([u8; 16], [u8; 8]) {
    let mut trace_id = [0x0d; 16];
    for pair in trace_id.chunks_exact_mut(2) {
        pair[0] = 0x60;
    }
    trace_id[12..].copy_from_slice(&round.to_be_bytes());
    let mut span_id = [0xee; 8];
    span_id[4..].copy_from_slice(&round.to_be_bytes());
    (trace_id, span_id)
}

/// Works until it is killed, and tells after each round its number and its CPU time in nanoseconds.
pub(crate) fn run() -> ! {
    process_context::publish(&ProcessContext::new().resource("service.name", SERVICE)).unwrap();
    let route = AttributeKey::new("http.route").unwrap();
    for round in 1.. {
        let (trace_id, span_id) = ids(round);
        let ids = SpanIds::new(trace_id, span_id, 1).unwrap();
        let record = Record::with_attributes(ids, &[(route, ROUTE)]);
        let (begin, end) = record.publish_while(|| {
            let begin = cpu_time();
            while cpu_time() - begin < ROUND {
                for number in 0..10_000 {
                    black_box(number);
                }
            }
            (begin, cpu_time())
        });
        let line = format!("\nround {round} {}\n", (end - begin).as_nanos());
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
    unreachable!("rounds do not end")
}
