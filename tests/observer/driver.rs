//! Two ways to make a span current, behind one interface: the OpenTelemetry API, and `tracing` spans
//! through tracing-opentelemetry. Every behaviour is tested with both.

use std::future::Future;
use std::pin::Pin;

use opentelemetry::Context;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use otel_profiling::SpanIds;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Makes spans current.
pub(crate) trait Driver: Copy + Send + Sync + 'static {
    /// A handle to a span that was started, but is not current yet.
    type Span: Clone + Send + Sync + 'static;

    /// Starts a child of the current span, or a root.
    fn start(self) -> Self::Span;
    /// The span's identity.
    fn ids(self, span: &Self::Span) -> SpanIds;
    /// Runs `work` while the span is current.
    fn within<R>(self, span: &Self::Span, work: impl FnOnce() -> R) -> R;
    /// Makes the span current in every poll of the future.
    fn instrument<T: Send + 'static>(self, span: &Self::Span, future: Boxed<T>) -> Boxed<T>;
}

/// Contexts of the OpenTelemetry API.
#[derive(Clone, Copy)]
pub(crate) struct Api {
    pub(crate) sampled: bool,
}

impl Driver for Api {
    type Span = Context;

    fn start(self) -> Context {
        let provider = provider(self.sampled);
        Context::current_with_span(provider.tracer("test").start("span"))
    }

    fn ids(self, span: &Context) -> SpanIds {
        SpanIds::from_span_context(span.span().span_context()).expect("the SDK makes valid ids")
    }

    fn within<R>(self, span: &Context, work: impl FnOnce() -> R) -> R {
        let _guard = span.clone().attach();
        work()
    }

    fn instrument<T: Send + 'static>(self, span: &Context, future: Boxed<T>) -> Boxed<T> {
        Box::pin(future.with_context(span.clone()))
    }
}

/// `tracing` spans, with the default settings of tracing-opentelemetry.
#[derive(Clone, Copy)]
pub(crate) struct Tracing;

impl Driver for Tracing {
    type Span = tracing::Span;

    fn start(self) -> tracing::Span {
        subscribe();
        tracing::info_span!("span")
    }

    fn ids(self, span: &tracing::Span) -> SpanIds {
        SpanIds::from_span_context(span.context().span().span_context())
            .expect("the SDK makes valid ids")
    }

    fn within<R>(self, span: &tracing::Span, work: impl FnOnce() -> R) -> R {
        span.in_scope(work)
    }

    fn instrument<T: Send + 'static>(self, span: &tracing::Span, future: Boxed<T>) -> Boxed<T> {
        Box::pin(future.instrument(span.clone()))
    }
}

fn provider(sampled: bool) -> SdkTracerProvider {
    let sampler = if sampled {
        Sampler::AlwaysOn
    } else {
        Sampler::AlwaysOff
    };
    SdkTracerProvider::builder().with_sampler(sampler).build()
}

fn subscribe() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tracer = provider(true).tracer("test");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
            .expect("no other subscriber is set in this program");
    });
}
