//! One OpenTelemetry set-up for all tests of the program, and which traces' spans have ended.

use std::collections::HashMap;
use std::sync::{Arc, Barrier, LazyLock, Mutex, Once};
use std::time::Duration;

use opentelemetry::trace::{TraceId, TracerProvider as _};
use opentelemetry::{Context, global};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use otel_profiling::{SpanIds, published};
use tracing_subscriber::layer::SubscriberExt as _;

static ENDED: LazyLock<Mutex<HashMap<TraceId, usize>>> = LazyLock::new(Mutex::default);

/// Sets everything up, once: the SDK, W3C propagation, `tracing` spans as OpenTelemetry spans.
pub(crate) fn set_up() {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        otel_profiling::install().expect("no other observer is set in this program");
        global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Ends)
            .build();
        let tracer = provider.tracer("tests");
        global::set_tracer_provider(provider);
        let spans = tracing_opentelemetry::layer().with_tracer(tracer);
        // Spans of the transport (h2, hyper, tower) are not the service's.
        let ours = tracing_subscriber::filter::filter_fn(|meta| {
            !["h2", "hyper", "tower::", "tonic::"]
                .iter()
                .any(|prefix| meta.target().starts_with(prefix))
        });
        let spans = tracing_subscriber::Layer::with_filter(spans, ours);
        let subscriber = tracing_subscriber::registry().with(spans);
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    });
}

/// How many spans of the trace have ended.
pub(crate) fn ended(trace_id: [u8; 16]) -> usize {
    let ended = ENDED.lock().expect("no test panicked inside");
    let count = ended.get(&TraceId::from_bytes(trace_id));
    count.copied().unwrap_or_default()
}

#[derive(Debug)]
struct Ends;

impl SpanProcessor for Ends {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let mut ended = ENDED.lock().expect("no test panicked inside");
        *ended.entry(span.span_context.trace_id()).or_default() += 1;
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Ids that no other test uses.
pub(crate) fn fresh_ids() -> SpanIds {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut trace_id = [0x77; 16];
    trace_id[8..].copy_from_slice(&number);
    SpanIds::new(trace_id, number, 1).expect("not zero")
}

/// The `traceparent` of a caller with this span.
pub(crate) fn traceparent(caller: SpanIds) -> String {
    format!(
        "00-{:032x}-{:016x}-{:02x}",
        u128::from_be_bytes(caller.trace_id()),
        u64::from_be_bytes(caller.span_id()),
        caller.trace_flags(),
    )
}

/// Asserts that none of the four workers of the runtime publishes anything.
pub(crate) async fn assert_nothing_on_four_workers() {
    // Each task holds its worker until every worker has one.
    let barrier = Arc::new(Barrier::new(4));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait();
                (published::thread_context(), published::custom_labels())
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.await.expect("no panic"), (None, vec![]));
    }
}
