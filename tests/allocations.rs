//! Publishing allocates nothing, and a live span context costs at most 256 bytes: counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling::{Capture, Granularity, Record, SpanIds, published};
use otel_profiling_tests::in_own_process;
use otel_profiling_tracer::builder;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(calls: usize, bytes: isize) {
    COUNT.with(|count| count.set(count.get() + calls));
    BYTES.with(|total| total.set(total.get() + bytes));
}

// SAFETY: everything is passed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(1, -layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn span_context(byte: u8) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes([byte; 16]),
        SpanId::from_bytes([byte; 8]),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

fn context(byte: u8) -> Context {
    Context::new().with_remote_span_context(span_context(byte))
}

/// Calls of the allocator during `work`.
fn calls(work: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

/// Bytes on the heap that what `work` returns holds.
fn bytes<T>(work: impl FnOnce() -> T) -> (isize, T) {
    let before = BYTES.with(Cell::get);
    let kept = work();
    (BYTES.with(Cell::get) - before, kept)
}

/// Calls of the allocator for the second of two child spans that are started, made current, and ended.
fn calls_of_a_child(tracer: &impl Tracer<Span: Send + Sync + 'static>) -> usize {
    let child = || {
        let context = Context::current_with_span(tracer.start("child"));
        drop(context.clone().attach());
    };
    child();
    calls(child)
}

#[test]
fn per_trace_a_child_span_costs_nothing() {
    in_own_process("per_trace_a_child_span_costs_nothing", &[], || {
        let provider = SdkTracerProvider::builder().build();
        let plain = provider.tracer("test");
        let unobserved = {
            let root = Context::new().with_span(plain.start("root"));
            let _guard = root.attach();
            calls_of_a_child(&plain)
        };
        let capture = Capture::new()
            .granularity(Granularity::Trace)
            .span_name(true);
        let wrapped = builder().capture(capture).try_wrap(provider);
        let wrapped = wrapped.expect("everything is published").tracer("test");
        let root = Context::new().with_span(wrapped.start("root"));
        let _guard = root.attach();
        assert!(published::thread_context().is_some());
        assert_eq!(calls_of_a_child(&wrapped), unobserved);
    });
}

#[test]
fn memory() {
    // One test, since the first part has to come before the observer is installed.
    let (without_view, unobserved) = bytes(|| context(1));
    assert!(unobserved.observer_view().is_none());
    otel_profiling::install().expect("no other observer");
    let (with_view, observed) = bytes(|| context(1));
    assert!(observed.observer_view().is_some());
    let view = with_view - without_view;
    assert!(
        (1..=256).contains(&view),
        "a live span context takes {view} bytes"
    );

    let ids = SpanIds::new([3; 16], [3; 8], 1).expect("valid ids");
    let (size, record) = bytes(|| Record::new(ids));
    assert!((1..=256).contains(&size), "a record takes {size} bytes");

    a_derived_context_shares_the_record_of_the_current_one(&observed);
    std::thread::spawn(move || attach_and_detach_do_not_allocate(&unobserved, &observed, &record))
        .join()
        .expect("no assertion failed");
}

fn a_derived_context_shares_the_record_of_the_current_one(observed: &Context) {
    let _guard = observed.clone().attach();
    assert!(published::thread_context().is_some());
    assert_eq!(calls(|| drop(observed.with_telemetry_suppressed())), 0);
}

fn attach_and_detach_do_not_allocate(unobserved: &Context, observed: &Context, record: &Record) {
    let other = context(2);
    let first = calls(|| drop(observed.clone().attach()));
    assert!(
        first > 0,
        "the counting allocator counts: OpenTelemetry's stack is made now"
    );
    let later = calls(|| {
        for _ in 0..1000 {
            for context in [unobserved, observed, &other] {
                let _guard = context.clone().attach();
                let _nested = other.clone().attach();
                record.publish_while(|| drop(observed.clone().attach()));
            }
        }
    });
    assert_eq!(later, 0);
}
