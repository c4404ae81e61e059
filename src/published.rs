//! Reads back what the calling thread publishes: what a profiler that interrupted it here would see.
//!
//! For tests and diagnosis. Not a way to carry a context along: use OpenTelemetry's `Context` for that.

use crate::abi::custom_labels::{LabelSet, Str};
use crate::abi::thread_context::{self, RecordHeader, VALID};
use crate::keys::AttributeKey;
use crate::record::SpanIds;
use crate::thread;

/// A copy of the published thread context.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadContext {
    /// Trace id, span id and flags.
    pub ids: SpanIds,
    /// The attributes as they lie in the record;
    /// [`attributes`](thread_context::attributes) takes them apart.
    pub attrs_data: Vec<u8>,
}

/// The thread context that this thread publishes; `None` if none, if it is one of labels without a span, or if
/// the platform has none.
#[must_use]
pub fn thread_context() -> Option<ThreadContext> {
    let (context, _) = thread::published()?;
    // SAFETY: `thread` publishes only records that live for as long as they are published, and this
    // is the thread that would have to withdraw this one.
    unsafe { read_thread_context(context) }
}

/// The attributes of the record that this thread publishes, by name, in order; empty if none. Also of a record
/// with labels but without a span.
#[must_use]
pub fn attributes() -> Vec<(&'static str, String)> {
    let Some((context, _)) = thread::published() else {
        return Vec::new();
    };
    // SAFETY: as in `thread_context`.
    let Some((_, attrs_data)) = (unsafe { read_record(context) }) else {
        return Vec::new();
    };
    thread_context::attributes(&attrs_data)
        .filter_map(|(key, value)| {
            let name = AttributeKey::from_index(key)?.name();
            Some((name, String::from_utf8_lossy(value).into_owned()))
        })
        .collect()
}

/// The custom labels that this thread publishes, in order; empty if none.
#[must_use]
pub fn custom_labels() -> Vec<(String, String)> {
    let Some((_, labels)) = thread::published() else {
        return Vec::new();
    };
    // SAFETY: as in `thread_context`.
    unsafe { read_custom_labels(labels) }
}

/// Copies a record of a span as a reader would.
///
/// # Safety
/// `record` is null, or leads to a record that lives, and does not change, during the call.
pub(crate) unsafe fn read_thread_context(record: *const RecordHeader) -> Option<ThreadContext> {
    // SAFETY: the caller's promise.
    let (header, attrs_data) = unsafe { read_record(record) }?;
    Some(ThreadContext {
        ids: SpanIds::new(header.trace_id, header.span_id, header.trace_flags)?,
        attrs_data,
    })
}

/// Copies a record's header and attributes.
///
/// # Safety
/// As for [`read_thread_context`].
unsafe fn read_record(record: *const RecordHeader) -> Option<(RecordHeader, Vec<u8>)> {
    // SAFETY: the caller's promise.
    let header = *unsafe { record.as_ref() }?;
    if header.valid != VALID {
        return None;
    }
    // SAFETY: a live record is followed by as many bytes of attributes as its header says.
    let attrs_data = unsafe {
        core::slice::from_raw_parts(
            record.add(1).cast::<u8>(),
            usize::from(header.attrs_data_size),
        )
    };
    Some((header, attrs_data.to_vec()))
}

/// Copies a label set as a reader would.
///
/// # Safety
/// `set` is null, or leads to a label set that lives, and does not change, during the call.
pub(crate) unsafe fn read_custom_labels(set: *const LabelSet) -> Vec<(String, String)> {
    // SAFETY: the caller's promise.
    let Some(set) = (unsafe { set.as_ref() }) else {
        return Vec::new();
    };
    let text = |string: Str| {
        // SAFETY: the strings of a live label set live, and have the length that they say.
        let bytes = unsafe { core::slice::from_raw_parts(string.buf, string.len) };
        String::from_utf8_lossy(bytes).into_owned()
    };
    // SAFETY: a live label set has `count` labels at `storage`.
    let labels = unsafe { core::slice::from_raw_parts(set.storage, set.count) };
    labels
        .iter()
        .filter(|label| !label.key.buf.is_null())
        .map(|label| (text(label.key), text(label.value)))
        .collect()
}
