//! The smallest use: Fibonacci numbers behind a span, which is exported to standard output and, while it
//! is current, visible to eBPF profilers.

#![forbid(unsafe_code)]

use std::hint::black_box;

use opentelemetry::trace::{TraceContextExt as _, Tracer as _};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() {
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        .build();
    global::set_tracer_provider(otel_profiling_tracer::wrap(provider)); // instead of `provider`

    let tracer = global::tracer("tracer-example");
    for n in 36..=43 {
        tracer.in_span("fibonacci", |context| {
            context
                .span()
                .set_attribute(KeyValue::new("n", i64::from(n)));
            context
                .span()
                .set_attribute(KeyValue::new("result", fibonacci(n) as i64));
        });
    }
}

#[inline(never)]
fn fibonacci(n: u32) -> u64 {
    match black_box(n) {
        0 | 1 => u64::from(n),
        n => fibonacci(n - 1) + fibonacci(n - 2),
    }
}
