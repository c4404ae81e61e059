//! A guard must not be held across an await: the task may go on on another thread, and others run meanwhile.

use opentelemetry::Context;
use otel_profiling::ContextLabels as _;

fn spawned(_: impl Future<Output = ()> + Send) {}

fn main() {
    spawned(async {
        let _guard = Context::current().with_profiling_label("tenant", "acme").attach();
        std::future::ready(()).await;
    });
}
