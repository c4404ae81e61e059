//! Somebody else's observer is in OpenTelemetry's slot: an error, and nothing half-installed.

use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::context::{ContextObserver, GlobalContextObserver};
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling::{InstallError, published};
use otel_profiling_tracer::wrap;

struct Foreign;

impl ContextObserver for Foreign {
    fn on_context_enter(&self, _from: &Context, _to: &Context) {}
    fn on_context_exit(&self, _from: &Context, _to: &Context) {}
}

#[test]
fn a_foreign_observer_is_an_error_and_the_provider_works_all_the_same() {
    GlobalContextObserver::set(Arc::new(Foreign));
    assert_eq!(otel_profiling::install(), Err(InstallError::SlotTaken));
    assert_eq!(
        otel_profiling::install(),
        Err(InstallError::SlotTaken),
        "still"
    );

    let error = otel_profiling_tracer::builder()
        .try_wrap(SdkTracerProvider::builder().build())
        .expect_err("the slot is taken");
    assert!(error.to_string().contains("forward_to"), "{error}");

    let provider = wrap(error.into_provider());
    let span = provider.tracer("test").start("span");
    let context = Context::new().with_span(span);
    assert!(context.span().span_context().is_valid());
    assert!(context.observer_view().is_none());
    let _guard = context.attach();
    assert_eq!(published::thread_context(), None);
}
