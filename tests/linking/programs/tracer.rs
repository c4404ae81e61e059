//! The drop-in use. `wrap` warns on standard error if a profiler would find nothing.

use opentelemetry::global;
use opentelemetry::trace::Tracer;

fn main() {
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    global::set_tracer_provider(otel_profiling_tracer::wrap(provider));
    global::tracer("service").in_span("request", |_| println!("handled"));
}
