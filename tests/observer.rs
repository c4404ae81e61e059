//! The context observer, driven as programs drive it, and read back on the thread itself.

#[path = "observer/behaviour.rs"]
mod behaviour;
#[path = "observer/contexts.rs"]
mod contexts;
#[path = "observer/driver.rs"]
mod driver;

use otel_profiling::{SpanIds, published};

fn installed() {
    otel_profiling::install().expect("no other observer is set in this program");
}

#[track_caller]
fn assert_published(ids: SpanIds) {
    let context = published::thread_context().expect("a thread context is published");
    assert_eq!(context.ids, ids);
    assert!(context.attrs_data.is_empty());
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(
        published::custom_labels(),
        [
            ("otel_traceid".to_owned(), hex(&ids.trace_id())),
            ("otel_spanid".to_owned(), hex(&ids.span_id())),
        ]
    );
}

#[track_caller]
fn nothing_published() {
    assert_eq!(published::thread_context(), None);
    assert_eq!(published::custom_labels(), []);
}
