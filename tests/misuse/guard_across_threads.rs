//! A guard of a context with a label belongs to the thread that attached it.

use opentelemetry::Context;
use otel_profiling::ContextLabels as _;

fn main() {
    let guard = Context::current().with_profiling_label("tenant", "acme").attach();
    std::thread::spawn(move || drop(guard));
}
