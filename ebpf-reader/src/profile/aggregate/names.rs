//! What a context says, once keys have names: ids, attributes and labels.

use otel_profiling::abi::thread_context;

use super::Settings;
use super::counts::Published;
use crate::process_context::ProcessContext;
use crate::profile::{Context, SpanId, TraceId};

/// Trace id and span id, from the thread context if it has them, else from the custom labels.
pub(super) fn ids(published: &Published, settings: &Settings) -> (Option<TraceId>, Option<SpanId>) {
    if let Some(record) = &published.thread_context
        && let Some(trace_id) = TraceId::some(record.trace_id)
    {
        return (Some(trace_id), SpanId::some(record.span_id));
    }
    let label = |name: &str| {
        let mut labels = published.custom_labels.iter();
        labels
            .find(|label| label.key == name.as_bytes())
            .map(|label| label.value)
    };
    let trace_id = label(&settings.trace_label).and_then(TraceId::from_hex);
    let span_id = label(&settings.span_label).and_then(SpanId::from_hex);
    (trace_id, trace_id.and(span_id))
}

/// A context with names: the record's last entry of a repeated key wins, of custom labels the first one, and
/// the thread context wins over custom labels.
pub(super) fn context(
    published: &Published,
    settings: &Settings,
    process: Option<&ProcessContext>,
) -> Context {
    let (trace_id, span_id) = ids(published, settings);
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(record) = &published.thread_context {
        for (index, value) in thread_context::attributes(&record.attrs_data) {
            let value = String::from_utf8_lossy(value).into_owned();
            // A reader ignores an unknown key index.
            if let Some(key) = process.and_then(|process| process.attribute_key(index)) {
                match labels.iter_mut().find(|(name, _)| name == key) {
                    Some((_, earlier)) => *earlier = value,
                    None => labels.push((key.to_owned(), value)),
                }
            }
        }
    }
    for label in published.custom_labels.iter() {
        let key = String::from_utf8_lossy(label.key);
        let is_id =
            trace_id.is_some() && (key == settings.trace_label || key == settings.span_label);
        if !is_id && labels.iter().all(|(name, _)| *name != key) {
            let value = String::from_utf8_lossy(label.value).into_owned();
            labels.push((key.into_owned(), value));
        }
    }
    Context {
        trace_id,
        span_id,
        labels,
    }
}
