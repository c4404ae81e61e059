//! The wrapping tracer: its spans tell the observer their name and attributes, if those are captured.

use std::borrow::Cow;

use opentelemetry::Context;
use opentelemetry::trace::{Span, SpanBuilder, Tracer};
use otel_profiling::SpanIds;
use otel_profiling::observer::SpanDraft;

use crate::span::ProfilingSpan;

/// A [`Tracer`] of a [wrapped](crate::wrap) provider.
///
/// Every call is passed on to the provider's own tracer. If something of spans is captured (see
/// [`Capture`](crate::Capture)), the name and attributes on its list are copied on the way.
#[derive(Clone, Debug)]
pub struct ProfilingTracer<T> {
    inner: T,
}

impl<T> ProfilingTracer<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner }
    }

    /// The wrapped tracer.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

fn started<S: Span>(draft: SpanDraft, span: S) -> ProfilingSpan<S> {
    let ids = SpanIds::from_span_context(span.span_context());
    ProfilingSpan::new(span, draft.started(ids))
}

impl<T: Tracer> Tracer for ProfilingTracer<T> {
    type Span = ProfilingSpan<T::Span>;

    fn start_with_context<N>(&self, name: N, parent: &Context) -> Self::Span
    where
        N: Into<Cow<'static, str>>,
    {
        let name = name.into();
        let draft = SpanDraft::new(parent, &name, []);
        started(draft, self.inner.start_with_context(name, parent))
    }

    fn span_builder<N>(&self, name: N) -> SpanBuilder
    where
        N: Into<Cow<'static, str>>,
    {
        self.inner.span_builder(name)
    }

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Self::Span {
        let draft = SpanDraft::new(parent, &builder.name, builder.attributes.iter().flatten());
        started(draft, self.inner.build_with_context(builder, parent))
    }
}
