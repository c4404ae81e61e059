//! A handler that knows which trace it works for, and checks at every step that this is what its thread publishes.
//!
//! The trace id comes with the request. Requests with an even number burn CPU in [`work_even`], and their trace
//! ids start with the byte `ee`; the others in [`work_odd`], with `0d`. So a profiler sees from outside, too,
//! whether a sample got another request's id.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use otel_profiling::published;

/// What was checked, and what was wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Steps of handlers and frames of bodies that were checked.
    pub(crate) steps: AtomicU64,
    /// Steps that saw nothing published.
    pub(crate) nothing: AtomicU64,
    /// Steps that saw another request's trace id.
    pub(crate) other: AtomicU64,
}

impl Findings {
    fn check(&self, trace_id: [u8; 16]) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        match published::thread_context() {
            None => self.nothing.fetch_add(1, Ordering::Relaxed),
            Some(context) if context.ids.trace_id() != trace_id => {
                self.other.fetch_add(1, Ordering::Relaxed)
            }
            Some(_) => 0,
        };
    }
}

/// The trace id of request `number`.
pub(crate) fn trace_id(number: u64) -> [u8; 16] {
    let mut id = [if number.is_multiple_of(2) { 0xee } else { 0x0d }; 16];
    id[8..].copy_from_slice(&(number + 1).to_be_bytes());
    id
}

/// Request `number`, as a traced client would send it.
pub(crate) fn request(number: u64) -> Request<()> {
    let trace_id = u128::from_be_bytes(trace_id(number));
    let mut request = Request::new(());
    if let Ok(value) = format!("00-{trace_id:032x}-{:016x}-01", number + 1).parse() {
        request.headers_mut().insert("traceparent", value);
    }
    request.extensions_mut().insert(number);
    request
}

/// Serves request `number`: steps of work with random waits between them, then a body of five frames.
pub(crate) async fn serve(
    findings: Arc<Findings>,
    number: u64,
) -> Result<Response<Frames>, Infallible> {
    let mut random = Random(number + 1);
    let trace_id = trace_id(number);
    for _ in 0..10 {
        findings.check(trace_id);
        work(number, Duration::from_micros(random.below(40)));
        findings.check(trace_id);
        match random.below(4) {
            0 => tokio::time::sleep(Duration::from_micros(random.below(2000))).await,
            1 => {
                for _ in 0..random.below(5) {
                    tokio::task::yield_now().await;
                    findings.check(trace_id);
                }
            }
            2 => child(&findings, trace_id, random.below(3)).await,
            _ => {}
        }
    }
    Ok(Response::new(Frames {
        findings,
        number,
        left: 5,
        ready: false,
    }))
}

/// Work below a span of its own.
async fn child(findings: &Findings, trace_id: [u8; 16], yields: u64) {
    use opentelemetry::context::FutureExt as _;
    use opentelemetry::trace::{TraceContextExt, Tracer as _};

    let tracer = opentelemetry::global::tracer("concurrent");
    if !opentelemetry::Context::map_current(TraceContextExt::has_active_span) {
        // It would be the root of a trace of its own.
        return;
    }
    let span = opentelemetry::Context::current_with_span(tracer.start("child"));
    async {
        for _ in 0..yields {
            findings.check(trace_id);
            tokio::task::yield_now().await;
        }
        findings.check(trace_id);
    }
    .with_context(span)
    .await;
}

fn work(number: u64, time: Duration) {
    if number.is_multiple_of(2) {
        work_even(time);
    } else {
        work_odd(time);
    }
}

#[inline(never)]
fn work_even(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        black_box(2);
    }
}

#[inline(never)]
fn work_odd(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        black_box(1);
    }
}

/// A response's body that works for each frame, and waits between them.
#[derive(Debug)]
pub(crate) struct Frames {
    findings: Arc<Findings>,
    number: u64,
    left: u64,
    ready: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.findings.check(trace_id(self.number));
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = false;
        self.left -= 1;
        work(self.number, Duration::from_micros(20));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"frame")))))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.findings.check(trace_id(self.number));
    }
}

/// A small generator of numbers that look random: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
