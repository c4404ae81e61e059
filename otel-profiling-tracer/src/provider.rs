//! The wrapping provider: hands out wrapped tracers.

use std::ops::Deref;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider;

use crate::tracer::ProfilingTracer;

/// A [`TracerProvider`] whose process publishes the current span; see [`wrap`](crate::wrap).
///
/// Every call of its tracers and spans is passed on to the wrapped provider's own: what is published follows
/// OpenTelemetry's current context, not the tracer that made the span. The provider's other methods, such
/// as the SDK's `force_flush` and `shutdown`, are reached by dereferencing.
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let provider = otel_profiling_tracer::wrap(SdkTracerProvider::builder().build());
/// provider.force_flush()?;
/// # Ok::<(), opentelemetry_sdk::error::OTelSdkError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProfilingTracerProvider<P> {
    inner: P,
}

impl<P> ProfilingTracerProvider<P> {
    pub(crate) fn new(inner: P) -> Self {
        Self { inner }
    }

    /// The wrapped provider. Publishing goes on.
    pub fn into_inner(self) -> P {
        self.inner
    }
}

impl<P> Deref for ProfilingTracerProvider<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.inner
    }
}

impl<P: TracerProvider> TracerProvider for ProfilingTracerProvider<P> {
    type Tracer = ProfilingTracer<P::Tracer>;

    fn tracer_with_scope(&self, scope: InstrumentationScope) -> Self::Tracer {
        ProfilingTracer::new(self.inner.tracer_with_scope(scope))
    }
}
