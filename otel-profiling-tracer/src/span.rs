//! The wrapping span: passes everything on, and tells the observer what is captured.

use std::borrow::Cow;
use std::error::Error;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, SpanContext, Status};
use otel_profiling::observer::SpanCapture;

/// A [`Span`] of a [wrapped](crate::wrap) provider: the provider's own, and what the observer knows of it.
///
/// Attributes that are captured are published also if the span is not sampled, for which the SDK keeps none.
#[derive(Debug)]
pub struct ProfilingSpan<S> {
    inner: S,
    capture: SpanCapture,
}

impl<S> ProfilingSpan<S> {
    pub(crate) fn new(inner: S, capture: SpanCapture) -> Self {
        Self { inner, capture }
    }
}

impl<S: Span> Span for ProfilingSpan<S> {
    fn add_event<T>(&mut self, name: T, attributes: Vec<KeyValue>)
    where
        T: Into<Cow<'static, str>>,
    {
        self.inner.add_event(name, attributes);
    }

    fn record_error(&mut self, error: &dyn Error) {
        self.inner.record_error(error);
    }

    fn add_event_with_timestamp<T>(
        &mut self,
        name: T,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) where
        T: Into<Cow<'static, str>>,
    {
        self.inner
            .add_event_with_timestamp(name, timestamp, attributes);
    }

    fn span_context(&self) -> &SpanContext {
        self.capture.hand_over();
        self.inner.span_context()
    }

    fn is_recording(&self) -> bool {
        self.inner.is_recording()
    }

    fn set_attribute(&mut self, attribute: KeyValue) {
        self.capture
            .set_attributes(std::slice::from_ref(&attribute));
        self.inner.set_attribute(attribute);
    }

    fn set_attributes(&mut self, attributes: impl IntoIterator<Item = KeyValue>) {
        if !self.capture.is_active() {
            return self.inner.set_attributes(attributes);
        }
        let attributes: Vec<_> = attributes.into_iter().collect();
        self.capture.set_attributes(&attributes);
        self.inner.set_attributes(attributes);
    }

    fn set_status(&mut self, status: Status) {
        self.inner.set_status(status);
    }

    fn update_name<T>(&mut self, new_name: T)
    where
        T: Into<Cow<'static, str>>,
    {
        let name = new_name.into();
        self.capture.set_name(&name);
        self.inner.update_name(name);
    }

    fn add_link(&mut self, span_context: SpanContext, attributes: Vec<KeyValue>) {
        self.inner.add_link(span_context, attributes);
    }

    fn end(&mut self) {
        self.inner.end();
    }

    fn end_with_timestamp(&mut self, timestamp: SystemTime) {
        self.inner.end_with_timestamp(timestamp);
    }
}
