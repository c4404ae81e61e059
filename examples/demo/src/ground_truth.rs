//! What the service knows itself: the CPU time of its threads, by trace, measured around every poll.
//!
//! This is what the profiler's result is compared with. A real service has none of it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TraceId;
use rustix::time::{ClockId, clock_gettime};

/// What one trace has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that belong to it.
    pub requests: u64,
    /// CPU time of the threads that worked on them.
    pub cpu: Duration,
}

/// The usage of all traces.
pub type ByTrace = HashMap<TraceId, Usage>;

/// Where requests account for their CPU time.
#[derive(Clone, Debug, Default)]
pub struct GroundTruth(Arc<Mutex<ByTrace>>);

impl GroundTruth {
    /// Counts a request; what it uses goes to the account that is returned.
    pub fn request(&self, trace_id: TraceId) -> Account {
        let account = Account {
            ground_truth: self.clone(),
            trace_id,
        };
        account.change(|usage| usage.requests += 1);
        account
    }

    /// The usage so far.
    pub fn by_trace(&self) -> ByTrace {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The account of one trace.
#[derive(Clone, Debug)]
pub struct Account {
    ground_truth: GroundTruth,
    trace_id: TraceId,
}

impl Account {
    /// Runs `future`, and accounts for the CPU time of each of its polls, on whichever thread.
    pub async fn measure<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|task| {
            let before = thread_cpu_time();
            let poll = future.as_mut().poll(task);
            let cpu = thread_cpu_time().saturating_sub(before);
            self.change(|usage| usage.cpu += cpu);
            poll
        })
        .await
    }

    fn change(&self, change: impl FnOnce(&mut Usage)) {
        let mut traces = self
            .ground_truth
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(traces.entry(self.trace_id).or_default());
    }
}

/// CPU time that the calling thread has used since it began.
fn thread_cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Writes one line for each trace: its id, its requests, and its CPU time in nanoseconds.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write(traces: &ByTrace, mut out: impl Write) -> io::Result<()> {
    for (trace_id, usage) in traces {
        writeln!(
            out,
            "{trace_id} {} {}",
            usage.requests,
            usage.cpu.as_nanos()
        )?;
    }
    out.flush()
}

/// Reads a line that [`write()`] wrote.
///
/// # Errors
/// If it is none.
pub fn parse_line(line: &str) -> anyhow::Result<(TraceId, Usage)> {
    let mut fields = line.split_ascii_whitespace();
    let mut field = || {
        fields
            .next()
            .with_context(|| format!("not a line of the ground truth: {line:?}"))
    };
    let trace_id = TraceId::from_hex(field()?)?;
    let requests = field()?.parse()?;
    let cpu = Duration::from_nanos(field()?.parse()?);
    Ok((trace_id, Usage { requests, cpu }))
}
