//! What is published beside the ids: span attributes, names, local roots, baggage, labels; per span and per
//! trace. Read back on the thread itself, in both layouts.

use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use otel_profiling::{
    AttributeKey, Capture, Carrier, ContextLabels as _, FutureLabels as _, Granularity, Record,
    SpanIds, counters, process_context, published, with_label,
};
use otel_profiling_tests::in_own_process;
use otel_profiling_tracer::{ProfilingTracer, builder};

fn tracer(capture: Capture) -> ProfilingTracer<opentelemetry_sdk::trace::SdkTracer> {
    tracer_with(capture, Sampler::AlwaysOn)
}

fn tracer_with(
    capture: Capture,
    sampler: Sampler,
) -> ProfilingTracer<opentelemetry_sdk::trace::SdkTracer> {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let wrapped = builder().capture(capture).try_wrap(provider);
    wrapped.expect("everything is published").tracer("test")
}

fn remote(byte: u8) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes([byte; 16]),
        SpanId::from_bytes([byte; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}

#[track_caller]
fn assert_attributes(expected: &[(&str, &str)]) {
    let attributes = published::attributes();
    let found: Vec<_> = attributes
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(found, expected);
    // The custom labels say the same, after the ids.
    let labels = published::custom_labels();
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !["otel_traceid", "otel_spanid"].contains(name))
        .collect();
    assert_eq!(labels, expected);
}

fn published_span() -> Option<[u8; 8]> {
    published::thread_context().map(|context| context.ids.span_id())
}

fn span_id(context: &Context) -> [u8; 8] {
    context.span().span_context().span_id().to_bytes()
}

fn within<R>(context: &Context, work: impl FnOnce() -> R) -> R {
    let _guard = context.clone().attach();
    work()
}

#[test]
fn captured_attributes_of_a_span_and_no_others() {
    in_own_process("captured_attributes_of_a_span_and_no_others", &[], || {
        let tracer = tracer(
            Capture::new()
                .span_attributes(["http.route", "n"])
                .span_name(true),
        );
        let builder = tracer.span_builder("GET /users").with_attributes([
            KeyValue::new("http.route", "/users/{id}"),
            KeyValue::new("secret", "s"),
        ]);
        let context = Context::new().with_span(tracer.build(builder));
        within(&context, || {
            assert_attributes(&[("span_name", "GET /users"), ("http.route", "/users/{id}")]);
            context.span().set_attribute(KeyValue::new("n", 7));
            context.span().set_attribute(KeyValue::new("secret", "t"));
            assert_eq!(
                published::attributes().len(),
                2,
                "visible from the next attach on"
            );
        });
        let three = [
            ("span_name", "GET /users"),
            ("http.route", "/users/{id}"),
            ("n", "7"),
        ];
        within(&context, || assert_attributes(&three));
        // Every context of the span shows the change, also one that was derived before, on every thread.
        let derived = context.with_value(1_u8);
        context.span().update_name("renamed");
        let renamed = [
            ("span_name", "renamed"),
            ("http.route", "/users/{id}"),
            ("n", "7"),
        ];
        within(&derived, || assert_attributes(&renamed));
        std::thread::scope(|scope| {
            scope.spawn(|| within(&context, || assert_attributes(&renamed)));
        });
        // A child has attributes of its own only.
        within(&context, || {
            tracer.in_span("child", |_| assert_attributes(&[("span_name", "child")]));
        });
        let map = process_context::read_back().expect("it is published");
        let names = ["local_root_span_id", "http.route", "n", "span_name"];
        assert_eq!(map.attribute_key_map(), names);
        let key = AttributeKey::new("later").expect("there is room");
        let map = process_context::read_back().expect("it is published");
        assert_eq!(map.attribute_key_map()[usize::from(key.index())], "later");
    });
}

#[test]
fn attributes_of_unsampled_spans() {
    in_own_process("attributes_of_unsampled_spans", &[], || {
        let tracer = tracer_with(
            Capture::new().span_attributes(["a", "b"]),
            Sampler::AlwaysOff,
        );
        let builder = tracer
            .span_builder("span")
            .with_attributes([KeyValue::new("a", "1")]);
        let mut span = tracer.build(builder);
        assert!(!span.is_recording());
        span.set_attributes([KeyValue::new("b", "2")]);
        let context = Context::new().with_span(span);
        within(&context, || assert_attributes(&[("a", "1"), ("b", "2")]));
    });
}

#[test]
fn a_span_that_changes_all_the_time_is_bounded() {
    in_own_process("a_span_that_changes_all_the_time_is_bounded", &[], || {
        let tracer = tracer(Capture::new().span_attributes(["n"]));
        let context = Context::new().with_span(tracer.start("span"));
        for n in 0..100 {
            context.span().set_attribute(KeyValue::new("n", n));
        }
        within(&context, || assert_eq!(published::attributes().len(), 1));
        assert!(counters().updates_dropped >= 80, "{:?}", counters());
        // The span is gone, and so is what was kept of it: the next one starts anew.
        drop(context);
        let context = Context::new().with_span(tracer.start("span"));
        context.span().set_attribute(KeyValue::new("n", "new"));
        within(&context, || assert_attributes(&[("n", "new")]));
    });
}

#[test]
fn the_local_root_of_every_span() {
    in_own_process("the_local_root_of_every_span", &[], || {
        let tracer = tracer(Capture::new().local_root_span_id(true));
        let parent = remote(7);
        within(&parent, || assert_attributes(&[]));
        let root = parent.with_span(tracer.start_with_context("root", &parent));
        let hex = |id: [u8; 8]| format!("{:016x}", u64::from_be_bytes(id));
        let root_hex = hex(span_id(&root));
        let expected = [("local_root_span_id", root_hex.as_str())];
        within(&root, || assert_attributes(&expected));
        // Not by being current: by being the parent.
        let child = root.with_span(tracer.start_with_context("child", &root));
        let grandchild = child.with_span(tracer.start_with_context("grandchild", &child));
        within(&grandchild, || {
            assert_attributes(&expected);
            assert_eq!(published_span(), Some(span_id(&grandchild)));
        });
        // Another root of the same trace in this process.
        let other = parent.with_span(tracer.start_with_context("other", &parent));
        within(&root, || {
            within(&other, || {
                assert_attributes(&[("local_root_span_id", &hex(span_id(&other)))]);
            });
        });
    });
}

#[test]
fn baggage_on_the_list() {
    in_own_process("baggage_on_the_list", &[], || {
        let tracer = tracer(Capture::new().baggage(["tenant"]));
        let context = Context::new()
            .with_span(tracer.start("span"))
            .with_baggage([
                KeyValue::new("tenant", "acme"),
                KeyValue::new("secret", "s"),
            ]);
        within(&context, || {
            assert_attributes(&[("tenant", "acme")]);
            tracer.in_span("child", |_| assert_attributes(&[("tenant", "acme")]));
            let other = Context::map_current(|context| {
                context.with_baggage([KeyValue::new("tenant", "umbrella")])
            });
            within(&other, || assert_attributes(&[("tenant", "umbrella")]));
            within(&context.with_cleared_baggage(), || assert_attributes(&[]));
        });
    });
}

#[test]
fn labels_travel_with_the_context() {
    in_own_process("labels_travel_with_the_context", &[], || {
        let tracer = tracer(Capture::new().span_attributes(["tenant"]));
        let builder = tracer
            .span_builder("s")
            .with_attributes([KeyValue::new("tenant", "span's")]);
        let context = Context::new().with_span(tracer.build(builder));
        within(&context, || {
            assert_attributes(&[("tenant", "span's")]);
            with_label("tenant", "acme", || {
                assert_eq!(published_span(), Some(span_id(&context)));
                assert_attributes(&[("tenant", "acme")]);
                with_label("shard", "3", || {
                    assert_attributes(&[("shard", "3"), ("tenant", "acme")]);
                    let inner = Context::current();
                    std::thread::scope(|scope| {
                        scope.spawn(move || {
                            let _guard = inner.attach();
                            assert_attributes(&[("shard", "3"), ("tenant", "acme")]);
                        });
                    });
                    tracer.in_span("child", |child| {
                        assert_eq!(published_span(), Some(span_id(&child)));
                        assert_attributes(&[("shard", "3"), ("tenant", "acme")]);
                    });
                });
                assert_attributes(&[("tenant", "acme")]);
                with_label("tenant", "umbrella", || {
                    assert_attributes(&[("tenant", "umbrella")]);
                });
            });
            assert_attributes(&[("tenant", "span's")]);
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let future = async {
                assert_attributes(&[("job", "x")]);
                tokio::task::yield_now().await;
                assert_attributes(&[("job", "x")]);
            };
            let task = future.with_profiling_label("job", "x");
            tokio::spawn(task).await.expect("no assertion failed");
        });
        assert_attributes(&[]);
    });
}

#[test]
fn labels_without_a_span() {
    in_own_process("labels_without_a_span", &[], || {
        let _tracer = tracer(Capture::new());
        with_label("job", "cleanup", || {
            assert_attributes(&[("job", "cleanup")]);
            assert_eq!(published::thread_context(), None, "there are no ids");
        });
        // Inside a middleware the label is added to its span, not shown instead of it.
        let ids = SpanIds::new([1; 16], [2; 8], 1).expect("valid ids");
        let route = AttributeKey::new("http.route").expect("there is room");
        let made_before = Context::new().with_profiling_label("job", "before");
        Record::with_attributes(ids, &[(route, "/x")]).publish_while(|| {
            with_label("tenant", "acme", || {
                assert_eq!(published_span(), Some([2; 8]));
                assert_attributes(&[("tenant", "acme"), ("http.route", "/x")]);
            });
            within(&made_before, || assert_eq!(published_span(), Some([2; 8])));
            assert_attributes(&[("http.route", "/x")]);
        });
        assert_attributes(&[]);
    });
}

#[test]
fn spans_inside_a_middleware_have_its_attributes() {
    in_own_process("spans_inside_a_middleware_have_its_attributes", &[], || {
        let tracer = tracer(Capture::new());
        let context = Context::new().with_span(tracer.start("request"));
        let ids = SpanIds::from_span_context(context.span().span_context()).expect("valid");
        let route = AttributeKey::new("http.route").expect("there is room");
        within(&context, || {
            assert_attributes(&[]);
            Record::with_attributes(ids, &[(route, "/x")]).publish_while(|| {
                assert_attributes(&[("http.route", "/x")]);
                tracer.in_span("child", |child| {
                    assert_eq!(published_span(), Some(span_id(&child)));
                    assert_attributes(&[("http.route", "/x")]);
                });
                // A span of another trace is not part of the request.
                let other =
                    Context::new().with_span(tracer.start_with_context("o", &Context::new()));
                within(&other, || assert_attributes(&[]));
            });
            assert_attributes(&[]);
        });
    });
}

#[test]
fn carriers_take_along_what_is_published() {
    in_own_process("carriers_take_along_what_is_published", &[], || {
        let tracer = tracer(Capture::new());
        let context = Context::new().with_span(tracer.start("request"));
        let ids = SpanIds::from_span_context(context.span().span_context()).expect("valid");
        let route = AttributeKey::new("http.route").expect("there is room");
        let record = Record::with_attributes(ids, &[(route, "/x")]);
        // The same is published on another thread as here, and nothing afterwards.
        let same_elsewhere = || {
            let here = (published_span(), published::attributes());
            let carrier = Carrier::current();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let there = carrier.run(|| (published_span(), published::attributes()));
                    assert_eq!(there, here);
                    assert_eq!(published_span(), None);
                    let closure = carrier.clone().closure(published_span);
                    assert_eq!(closure(), here.0);
                });
            });
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime");
            let future = carrier.future(DropIn(here.0));
            runtime.block_on(async {
                let task = tokio::spawn(future);
                tokio::task::yield_now().await;
                task.abort();
                assert!(task.await.expect_err("it was cancelled").is_cancelled());
            });
            here
        };
        assert_eq!(same_elsewhere(), (None, vec![]));
        record.publish_while(|| assert_eq!(same_elsewhere().1, [("http.route", "/x".to_owned())]));
        within(&context, || {
            assert_eq!(same_elsewhere(), (Some(span_id(&context)), vec![]));
            record.publish_while(|| {
                assert_eq!(same_elsewhere().1, [("http.route", "/x".to_owned())]);
                tracer.in_span("child", |child| {
                    assert_eq!(same_elsewhere().0, Some(span_id(&child)));
                });
            });
        });
    });
}

/// A future that never ends, and knows what is published when it is polled and dropped.
struct DropIn(Option<[u8; 8]>);

impl Future for DropIn {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        assert_eq!(published_span(), self.0);
        std::task::Poll::Pending
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        assert_eq!(published_span(), self.0);
    }
}

#[test]
fn per_trace_every_context_publishes_the_local_root() {
    in_own_process(
        "per_trace_every_context_publishes_the_local_root",
        &[],
        || {
            let capture = Capture::new()
                .granularity(Granularity::Trace)
                .span_name(true);
            let tracer = tracer(capture);
            let parent = remote(9);
            within(&parent, || assert_eq!(published_span(), Some([9; 8])));
            let root = parent.with_span(tracer.start_with_context("root", &parent));
            let root_id = span_id(&root);
            let shown = |context: &Context| {
                within(context, || {
                    assert_eq!(published_span(), Some(root_id));
                    assert_attributes(&[("span_name", "root")]);
                });
            };
            shown(&root);
            let child = root.with_span(tracer.start_with_context("child", &root));
            shown(&child);
            shown(&child.with_span(tracer.start_with_context("grandchild", &child)));
            // Derived where nothing is current, from a context whose span is not the root's.
            shown(&child.with_value(1_u8));
            within(&child, || {
                tracer.in_span("grandchild", |grandchild| {
                    assert_ne!(span_id(&grandchild), root_id);
                    assert_eq!(published_span(), Some(root_id));
                    with_label("tenant", "acme", || {
                        assert_eq!(published_span(), Some(root_id));
                        assert_attributes(&[("tenant", "acme"), ("span_name", "root")]);
                    });
                });
            });
            // Another root of the same trace stands for itself.
            let other = parent.with_span(tracer.start_with_context("other", &parent));
            within(&root, || {
                within(&other, || {
                    assert_eq!(published_span(), Some(span_id(&other)));
                });
            });
            root.span().update_name("renamed");
            within(&child, || assert_attributes(&[("span_name", "renamed")]));
            std::thread::scope(|scope| {
                scope.spawn(|| within(&child, || assert_eq!(published_span(), Some(root_id))));
            });
        },
    );
}

#[test]
fn the_limits_of_readers() {
    in_own_process("the_limits_of_readers", &[], || {
        let names: Vec<_> = (0..300).map(|n| format!("key-{n}")).collect();
        let too_many = builder()
            .capture(Capture::new().span_attributes(&names))
            .try_wrap(SdkTracerProvider::builder().build());
        assert!(too_many.is_err_and(|error| error.to_string().contains("256")));

        let tracer = tracer(Capture::new().span_attributes(&names[..20]));
        let huge = "ü".repeat(500_000);
        let attributes = names[..20]
            .iter()
            .map(|name| KeyValue::new(name.clone(), huge.clone()));
        let builder = tracer.span_builder("s").with_attributes(attributes);
        let context = Context::new().with_span(tracer.build(builder));
        within(&context, || {
            let attributes = published::attributes();
            assert_eq!(attributes.len(), 2, "612 bytes in all");
            assert!(attributes.iter().all(|(_, value)| value.len() == 254));
            let labels = published::custom_labels();
            assert_eq!(labels.len(), 4);
            assert_eq!(labels[0].0, "otel_traceid");
            assert!(labels[2..].iter().all(|(_, value)| value.len() == 52));
        });
        let counters = counters();
        assert!(
            counters.values_cut >= 2 && counters.labels_cut >= 2,
            "{counters:?}"
        );
        assert!(counters.attributes_dropped >= 18, "{counters:?}");
        assert!(counters.keys_refused >= 1, "{counters:?}");
    });
}
