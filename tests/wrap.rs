//! `wrap` as services use it: global provider, published spans, process context.
//!
//! Each case runs in a process of its own, since observer, provider and process context are global.

use opentelemetry::trace::{
    Span as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use otel_profiling::{process_context, published, self_check};
use otel_profiling_tests::in_own_process;
use otel_profiling_tracer::{ResourceProcessor, builder, wrap};

#[track_caller]
fn assert_service(name: &str) {
    let context = process_context::read_back().expect("a process context is published");
    let attribute = |key: &str| context.resource_value(key).cloned();
    assert_eq!(attribute("service.name"), Some(name.into()));
    assert!(attribute("service.instance.id").is_some());
}

#[test]
fn the_global_provider_publishes() {
    in_own_process("the_global_provider_publishes", &[], || {
        global::set_tracer_provider(wrap(SdkTracerProvider::builder().build()));
        global::tracer("test").in_span("work", |context| {
            let published = published::thread_context().expect("the span is published");
            let ids = context.span().span_context().trace_id().to_bytes();
            assert_eq!(published.ids.trace_id(), ids);
        });
        assert_eq!(published::thread_context(), None);
        self_check::symbols().expect("a profiler finds the symbols");
        self_check::process_context().expect("a profiler finds the process context");
    });
}

#[test]
fn any_provider_can_be_wrapped() {
    in_own_process("any_provider_can_be_wrapped", &[], || {
        let provider = wrap(opentelemetry::trace::noop::NoopTracerProvider::new());
        provider.tracer("test").in_span("work", |_| {
            assert_eq!(published::thread_context(), None, "a no-op span has no ids");
        });
        // Wrapped twice, through the type-erased global provider.
        global::set_tracer_provider(SdkTracerProvider::builder().build());
        let provider = wrap(wrap(global::tracer_provider()));
        provider.tracer("test").in_span("work", |_| {
            assert!(published::thread_context().is_some());
        });
    });
}

#[test]
fn everything_is_forwarded() {
    in_own_process("everything_is_forwarded", &[], || {
        let exporter = InMemorySpanExporter::default();
        let provider = wrap(
            SdkTracerProvider::builder()
                .with_simple_exporter(exporter.clone())
                .build(),
        );
        let scope = InstrumentationScope::builder("scope")
            .with_version("1")
            .build();
        let tracer = provider.tracer_with_scope(scope.clone());
        let builder = tracer
            .span_builder("name")
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("a", 1)]);
        let mut span = tracer.build(builder);
        span.set_attribute(KeyValue::new("b", 2));
        span.add_event("event", vec![KeyValue::new("c", 3)]);
        span.update_name("renamed");
        let context = Context::new().with_span(span);
        context
            .span()
            .add_link(context.span().span_context().clone(), Vec::new());
        context.span().end();
        provider
            .force_flush()
            .expect("the SDK's provider is reached");
        let spans = exporter.get_finished_spans().expect("it was exported");
        let [span] = &spans[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(span.name, "renamed");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(
            span.attributes,
            [KeyValue::new("a", 1), KeyValue::new("b", 2)]
        );
        assert_eq!(span.events.len(), 1);
        assert_eq!(span.links.len(), 1);
        assert_eq!(span.instrumentation_scope, scope);
    });
}

#[test]
fn the_detectors_name_the_service() {
    let environment = [
        ("OTEL_SERVICE_NAME", "from-environment"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=i-1,team=x"),
    ];
    in_own_process("the_detectors_name_the_service", &environment, || {
        let _provider = wrap(SdkTracerProvider::builder().build());
        assert_service("from-environment");
        let context = process_context::read_back().expect("it is published");
        let attribute = |key: &str| context.resource_value(key).cloned();
        assert_eq!(attribute("service.instance.id"), Some("i-1".into()));
        assert_eq!(attribute("team"), Some("x".into()));
    });
}

fn provider_of(service: &'static str) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name(service).build())
        .with_span_processor(ResourceProcessor::new())
        .build()
}

#[test]
fn the_processor_knows_better_than_the_detectors() {
    let environment = [("OTEL_SERVICE_NAME", "from-environment")];
    in_own_process(
        "the_processor_knows_better_than_the_detectors",
        &environment,
        || {
            let _provider = wrap(provider_of("from-sdk"));
            assert_service("from-sdk");
            // A provider that is built later is not overlooked, nor is the process's identity changed.
            let before = process_context::read_back().expect("it is published");
            let _later = provider_of("later");
            assert_service("later");
            let after = process_context::read_back().expect("it is published");
            assert_eq!(
                before.resource_value("service.instance.id"),
                after.resource_value("service.instance.id")
            );
            let _again = wrap(SdkTracerProvider::builder().build());
            assert_service("later");
        },
    );
}

#[test]
fn the_builder_knows_best() {
    in_own_process("the_builder_knows_best", &[], || {
        let explicit = Resource::builder_empty()
            .with_service_name("explicit")
            .build();
        let wrapped = builder()
            .resource(explicit)
            .try_wrap(provider_of("from-sdk"));
        wrapped.expect("everything is published");
        assert_service("explicit");
        let _later = provider_of("later");
        let _again = wrap(SdkTracerProvider::builder().build());
        assert_service("explicit");
    });
}
