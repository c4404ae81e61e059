//! A place in a request's extensions where what runs inside the layer leaves the request's context for it.
//!
//! For middlewares that see the request after an OpenTelemetry layer changed it but stand inside this one, and cannot
//! wrap the handler: interceptors.

use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;
use otel_profiling::{Record, SpanIds};

use crate::attributes::Values;
use crate::source;

/// Takes the request's context from a middleware inside the layer to the layer, which publishes it from the next
/// poll on, in the response's body, and while both are dropped.
///
/// The layer puts one into each request's extensions if
/// [`ProfilingLayer::context_slot`](crate::ProfilingLayer::context_slot) says so. That of a request that is not to be
/// published takes nothing.
#[derive(Clone, Debug)]
pub struct ContextSlot(Option<Arc<Slot>>);

#[derive(Debug)]
struct Slot {
    /// The request's attributes, which go into the record.
    values: Values,
    record: Mutex<Option<Record>>,
}

impl ContextSlot {
    /// A slot for a request with these attributes.
    pub(crate) fn new(values: Values) -> Self {
        Self(Some(Arc::new(Slot {
            values,
            record: Mutex::new(None),
        })))
    }

    /// A slot for a request that is not to be published.
    pub(crate) const CLOSED: Self = Self(None);

    /// Hands over the request's context; it takes the place of what the layer knew before.
    pub fn set(&self, ids: SpanIds) {
        self.put(ids);
    }

    /// Hands over the request's context, and publishes it at once, with the request's attributes, for the rest of the
    /// layer's poll, or of its call of the inner service, in which this is called.
    ///
    /// False if nothing was published: outside of both, on another thread, or if the request is not to be published.
    pub fn publish(&self, ids: SpanIds) -> bool {
        let record = self.put(ids);
        record.is_some_and(|record| record.publish_for_rest_of_scope())
    }

    /// Hands over, and [publishes](ContextSlot::publish), the `opentelemetry::Context` or `SpanContext` that a middleware
    /// left beside the slot in a request's extensions, if there is a valid one.
    ///
    /// False if there is no slot: no layer puts one there.
    pub fn publish_from(extensions: &Extensions) -> bool {
        let Some(slot) = extensions.get::<Self>() else {
            return false;
        };
        if let Some(ids) = source::of_extensions(extensions) {
            slot.publish(ids);
        }
        true
    }

    /// What was handed over last.
    #[must_use]
    pub fn ids(&self) -> Option<SpanIds> {
        self.record().map(|record| record.ids())
    }

    /// The record of what was handed over last.
    pub(crate) fn record(&self) -> Option<Record> {
        let slot = self.0.as_ref()?;
        slot.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The attributes of the request.
    pub(crate) fn values(&self) -> &Values {
        self.0.as_ref().map_or(&Values::NONE, |slot| &slot.values)
    }

    fn put(&self, ids: SpanIds) -> Option<Record> {
        let slot = self.0.as_ref()?;
        let mut record = slot.record.lock().unwrap_or_else(PoisonError::into_inner);
        if record.as_ref().is_none_or(|record| record.ids() != ids) {
            *record = Some(slot.values.record(ids));
        }
        record.clone()
    }
}
