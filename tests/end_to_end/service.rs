//! The demo's service as a process of its own, which also tells which spans it had.

use std::hint::black_box;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use demo::process::Service;
use opentelemetry::Context;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};

const CASE: &str = "OTEL_PROFILING_TEST_CASE";

/// A thread of the service that uses the CPU outside of all requests.
pub(crate) const BACKGROUND: &str = "background";

/// What a line about a span begins with.
const SPAN: &str = "span ";

/// Starts the service for the test `case`. In that process it runs the service, and does not return.
pub(crate) fn start(case: &str) -> Service {
    if std::env::var_os(CASE).is_some_and(|running| running == case) {
        run();
        std::process::exit(0);
    }
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command
        .args([case, "--exact", "--nocapture"])
        .env(CASE, case);
    Service::start(command).expect("the service starts")
}

/// The spans in what the service printed.
pub(crate) fn spans(lines: &[String]) -> Vec<(TraceId, SpanId)> {
    lines
        .iter()
        .filter_map(|line| line.strip_prefix(SPAN)?.split_once(' '))
        .map(|(trace_id, span_id)| {
            let trace_id = TraceId::from_hex(trace_id).expect("a trace id");
            (trace_id, SpanId::from_hex(span_id).expect("a span id"))
        })
        .collect()
}

fn run() {
    thread::Builder::new()
        .name(BACKGROUND.to_owned())
        .spawn(work_outside_of_requests)
        .expect("threads can be started");
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(ended.clone())
        .build();
    demo::service::run(provider).expect("the service serves");
    for (trace_id, span_id) in ended.0.lock().expect("no panic").iter() {
        println!("{SPAN}{trace_id} {span_id}");
    }
}

fn work_outside_of_requests() {
    loop {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2) {
            black_box(());
        }
        thread::sleep(Duration::from_millis(8));
    }
}

/// The ids of all spans that have ended.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<(TraceId, SpanId)>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let ids = (span.span_context.trace_id(), span.span_context.span_id());
        self.0.lock().expect("no panic").push(ids);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
