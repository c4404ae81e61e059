//! What only the OpenTelemetry API can do with contexts: guards out of order, forgotten guards, derived,
//! suppressed and empty contexts.

use opentelemetry::Context;
use opentelemetry::trace::noop::NoopTracer;
use opentelemetry::trace::{SpanContext, TraceContextExt, Tracer};
use otel_profiling::{Record, published};

use crate::driver::{Api, Driver};
use crate::{assert_published, installed, nothing_published};

const API: Api = Api { sampled: true };

#[test]
fn guards_may_be_dropped_out_of_order() {
    installed();
    let (a, b, c) = (API.start(), API.start(), API.start());
    let guard_a = a.clone().attach();
    let guard_b = b.clone().attach();
    let guard_c = c.clone().attach();
    drop(guard_b);
    assert_published(API.ids(&c));
    drop(guard_a);
    assert_published(API.ids(&c));
    drop(guard_c);
    nothing_published();

    // The contexts are freed while others are published.
    let guard_a = API.start().attach();
    let guard_b = b.clone().attach();
    drop(guard_a);
    assert_published(API.ids(&b));
    drop(guard_b);
    nothing_published();
}

#[test]
fn a_context_outlives_the_thread_that_made_and_published_it() {
    installed();
    let context = std::thread::spawn(|| {
        let context = API.start();
        API.within(&context, || assert_published(API.ids(&context)));
        context
    })
    .join()
    .expect("the thread does not panic");
    API.within(&context, || assert_published(API.ids(&context)));
    nothing_published();
}

#[test]
fn a_forgotten_guard_stays_published_until_its_thread_ends() {
    installed();
    std::thread::spawn(|| {
        let context = API.start();
        let ids = API.ids(&context);
        std::mem::forget(context.attach());
        assert_published(ids);
        let inner = API.start();
        API.within(&inner, || assert_published(API.ids(&inner)));
        assert_published(ids);
    })
    .join()
    .expect("the thread ends as usual");
    nothing_published();
}

#[test]
fn derived_and_suppressed_contexts_publish_the_same_span() {
    #[derive(Debug, PartialEq)]
    struct Value(u8);

    installed();
    let context = API.start();
    let ids = API.ids(&context);
    let derived = context.with_value(Value(1));
    API.within(&derived, || {
        assert_published(ids);
        let _inner = Context::current_with_value(Value(2)).attach();
        assert_published(ids);
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        assert_published(ids);
    });
    nothing_published();
}

#[test]
fn contexts_without_a_valid_span_publish_nothing() {
    installed();
    let context = API.start();
    let noop = Context::new().with_span(NoopTracer::new().start("nothing"));
    let invalid = Context::new().with_remote_span_context(SpanContext::empty_context());
    API.within(&context, || {
        for empty in [&Context::new(), &noop, &invalid] {
            API.within(empty, nothing_published);
        }
        assert_published(API.ids(&context));
    });
    nothing_published();
}

#[test]
fn a_middleware_s_record_shows_below_contexts_without_a_span() {
    installed();
    let (request, child) = (API.start(), API.start());
    let ids = API.ids(&request);
    Record::new(ids).publish_while(|| {
        assert_published(ids);
        API.within(&Context::new(), || assert_published(ids));
        API.within(&child, || assert_published(API.ids(&child)));
        assert_published(ids);
    });
    nothing_published();
}

#[test]
fn a_new_thread_s_middleware_record_does_not_keep_a_forgotten_context() {
    installed();
    std::thread::spawn(|| {
        // The record is published before OpenTelemetry was ever used on this thread.
        let outer = API.ids(&std::thread::spawn(|| API.start()).join().expect("no panic"));
        Record::new(outer).publish_while(|| std::mem::forget(API.start().attach()));
        assert!(published::thread_context().is_some());
    })
    .join()
    .expect("the thread ends as usual");
}

#[test]
fn installing_twice_succeeds() {
    installed();
    assert_eq!(
        otel_profiling::install(),
        Ok(otel_profiling::Installed::Before)
    );
}
