//! Records: what a profiler reads for one span context, in both layouts.
//!
//! A record is built once, does not change while anybody may publish it, and is freed when its last
//! owner lets go of it. Its bytes are in [`bytes`]; who owns them:
//!
//! | owner | who uses it |
//! |---|---|
//! | [`Record`] | middlewares, and code without OpenTelemetry |
//! | [`ContextRecord`] | the observer: the record of a `Context`'s span, in the same allocation |

mod bytes;
mod context;

use core::fmt;
use std::sync::Arc;

#[cfg(feature = "otel")]
pub(crate) use bytes::Attribute;
pub(crate) use bytes::{Bytes, Pointers};
#[cfg_attr(not(feature = "otel"), allow(unused_imports))]
pub(crate) use context::ContextRecord;

use crate::keys::AttributeKey;

/// The identity of a span: what every record starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanIds {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    trace_flags: u8,
}

impl SpanIds {
    /// The ids of a record with labels alone.
    pub(crate) const NONE: Self = Self {
        trace_id: [0; 16],
        span_id: [0; 8],
        trace_flags: 0,
    };

    /// A trace id and span id in W3C order, with the W3C trace flags (1 = sampled).
    ///
    /// `None` if one of the ids is all zero: such a span context is invalid and is never published.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], trace_flags: u8) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            trace_flags,
        })
    }

    /// The trace id in W3C order.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span id in W3C order.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The W3C trace flags.
    #[must_use]
    pub fn trace_flags(&self) -> u8 {
        self.trace_flags
    }

    /// The ids of an OpenTelemetry span context; `None` if it is invalid.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn from_span_context(context: &opentelemetry::trace::SpanContext) -> Option<Self> {
        Self::new(
            context.trace_id().to_bytes(),
            context.span_id().to_bytes(),
            context.trace_flags().to_u8(),
        )
    }
}

/// A record that a middleware, or code without OpenTelemetry, publishes itself.
///
/// Building one allocates once; cloning it counts a reference. [`Record::publish_while`] makes it
/// current on the calling thread for the length of a call.
///
/// ```
/// use otel_profiling::{Record, SpanIds, published};
///
/// let ids = SpanIds::new([0xab; 16], [0xcd; 8], 1).expect("the ids are not zero");
/// let record = Record::new(ids);
/// record.publish_while(|| {
///     // An eBPF profiler that interrupts the thread here attributes the sample to this trace.
///     # if cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
///     assert_eq!(published::thread_context().map(|context| context.ids), Some(ids));
///     # }
/// });
/// assert!(published::thread_context().is_none());
/// ```
#[derive(Clone)]
pub struct Record(Arc<dyn Bytes>);

impl Record {
    /// The record of a span, without attributes.
    #[must_use]
    pub fn new(ids: SpanIds) -> Self {
        Self::with_attributes(ids, &[])
    }

    /// The record of a span, with attributes, in the order in which they matter: what does not fit is left
    /// out from the end.
    ///
    /// Values are cut at a character boundary to what readers read: 255 bytes each in the thread context, 612
    /// in all; 53 bytes each and ten labels, the ids included, in custom labels. What was cut or left out is
    /// counted: see [`counters`](crate::counters).
    ///
    /// ```
    /// use otel_profiling::{AttributeKey, Record, SpanIds};
    ///
    /// let route = AttributeKey::new("http.route")?;
    /// let ids = SpanIds::new([0xab; 16], [0xcd; 8], 1).expect("the ids are not zero");
    /// let record = Record::with_attributes(ids, &[(route, "/users/{id}")]);
    /// # Ok::<(), otel_profiling::AttributeKeyError>(())
    /// ```
    #[must_use]
    pub fn with_attributes(ids: SpanIds, attributes: &[(AttributeKey, &str)]) -> Self {
        Self(bytes::build(ids, attributes))
    }

    /// The span's identity.
    #[must_use]
    pub fn ids(&self) -> SpanIds {
        self.0.ids()
    }

    pub(crate) fn bytes(&self) -> &dyn Bytes {
        &*self.0
    }

    /// The record's address, for [`Record::from_ptr`].
    pub(crate) fn as_ptr(&self) -> *const dyn Bytes {
        Arc::as_ptr(&self.0)
    }

    /// Another owner of the record at `record`.
    ///
    /// # Safety
    /// `record` came from [`Record::as_ptr`], and an owner of that record is alive.
    #[cfg_attr(not(feature = "otel"), allow(dead_code))]
    pub(crate) unsafe fn from_ptr(record: *const dyn Bytes) -> Self {
        // SAFETY: the caller's promise: the pointer is that of an `Arc` with an owner during the call.
        unsafe {
            Arc::increment_strong_count(record);
            Self(Arc::from_raw(record))
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&self.ids()).finish()
    }
}

#[cfg(test)]
mod tests;
