//! Without the context observer, the layer still publishes what it finds itself.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use otel_profiling::{Installed, published};
use otel_profiling_http::ProfilingLayer;
use tower::{Layer, ServiceExt, service_fn};

fn context(byte: u8) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes([byte; 16]),
        SpanId::from_bytes([byte; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}

async fn published_byte(layer: &ProfilingLayer) -> Option<u8> {
    let service = layer.layer(service_fn(|_: Request<()>| async {
        let context = published::thread_context();
        let byte = context.map(|context| context.ids.trace_id()[0]);
        Ok::<_, Infallible>(Response::new(http_body_util::Full::new(Bytes::from(
            byte.into_iter().collect::<Vec<_>>(),
        ))))
    }));
    let response = service.oneshot(Request::new(())).await.expect("infallible");
    let body = response.into_body().collect().await.expect("infallible");
    body.to_bytes().first().copied()
}

// One test, since whether an observer is installed holds for the whole program.
#[tokio::test]
async fn the_observer_is_installed_when_a_service_is_layered_unless_told_otherwise() {
    let without = ProfilingLayer::new().install_observer(false);
    let by_default = ProfilingLayer::new();
    let current = context(1);
    {
        let _guard = current.clone().attach();
        assert_eq!(
            published::thread_context(),
            None,
            "no observer is installed"
        );
        assert_eq!(published_byte(&without).await, Some(1));
    }
    assert_eq!(published::thread_context(), None);
    drop(context(2).attach());

    let _layered = by_default.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    }));
    assert_eq!(otel_profiling::install(), Ok(Installed::Before));
    let _guard = context(3).attach();
    assert_eq!(published_byte(&by_default).await, Some(3));
}
