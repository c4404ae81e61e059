//! Follows OpenTelemetry's current context, on every thread: the context observer.
//!
//! The `opentelemetry` crate has one slot per process for a [`ContextObserver`] and calls it on every
//! attach and detach of a `Context`, whoever causes it: the API, `FutureExt::with_context`, or
//! `tracing` spans through tracing-opentelemetry. [`install`] puts an observer there that publishes.
//!
//! | called | when | what happens here |
//! |---|---|---|
//! | `make_view` | a context is created or derived | a record is built for its span, or the current context's is shared |
//! | `on_context_enter`, `_exit` | a context becomes current, or is current again | two stores |
//!
//! Contexts that were made before the observer was installed have no view, and nothing is published for
//! them; so install it first thing in `main`.

mod capture;
mod carrier;
mod extras;
mod install;
mod labels;
mod span;
mod view;

use std::fmt;
use std::ptr;
use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::context::{ContextObserver, ObserverContextView};
use opentelemetry::trace::{SpanContext, TraceContextExt};

use crate::record::SpanIds;
use crate::thread;

pub use capture::{Capture, Granularity, SPAN_NAME};
pub use carrier::{Carried, Carrier};
pub use install::{InstallError, Installed, Observer, install};
pub use labels::{ContextLabels, FutureLabels, with_label};
pub use span::{SpanCapture, SpanDraft};

use capture::Resolved;
use extras::{Extras, Identity};
use span::SpanCell;
use view::{ForwardedView, Parts, SpanView};

/// The observer in the slot.
struct PublishingObserver {
    capture: Resolved,
    next: Option<Arc<dyn ContextObserver + Send + Sync>>,
}

impl PublishingObserver {
    /// Publishes the record of `context`, or what is below it.
    fn publish(context: &Context, entered: bool) {
        let record = context
            .observer_view()
            .as_ref()
            .map_or(ptr::null(), SpanView::record_of);
        // SAFETY: OpenTelemetry keeps the current context on this thread's stack, and with it the view
        // that owns the record, until the exit call for it has returned. At the thread's end it frees
        // the stack without a call; but the stack is a thread-local that was initialised before the
        // first call of this function, which OpenTelemetry makes while it holds the stack.
        unsafe { thread::set_current(record, entered) };
    }

    /// Whether spans have something to tell that only they know.
    fn wants_spans(&self) -> bool {
        self.capture.of_spans()
            || self.capture.local_root.is_some()
            || self.capture.granularity == Granularity::Trace
    }

    /// A view that speaks for the span already: of another context with the same span, or per trace the one
    /// of the trace's root.
    fn kin(&self, span: &SpanContext, ids: SpanIds) -> Option<Arc<SpanView>> {
        // Most contexts are derived from the current one, or made of a child span of it.
        let current = SpanView::current();
        match self.capture.granularity {
            Granularity::Span => current.filter(|view| view.ids() == ids),
            Granularity::Trace => view::taken_over(ids).or_else(|| {
                current.filter(|view| {
                    let child = view.is_local() && !span.is_remote();
                    view.ids() == ids || child && view.ids().trace_id() == ids.trace_id()
                })
            }),
        }
    }

    /// The view of a context with a valid span.
    fn view_of_span(
        &self,
        context: &Context,
        span: &SpanContext,
        ids: SpanIds,
        next: Option<Arc<dyn ObserverContextView>>,
    ) -> Arc<SpanView> {
        let kin = self.kin(span, ids);
        if next.is_none()
            && let Some(kin) = &kin
            && kin.identity() == Identity::of(context, &self.capture)
        {
            return kin.clone();
        }
        let ids = kin.as_ref().map_or(ids, |kin| kin.ids());
        let known = match self.capture.granularity {
            _ if !self.wants_spans() => None,
            // A child's context that is derived where neither it nor its parent is current.
            Granularity::Trace if kin.is_none() && !span.is_remote() => {
                SpanCell::find(ids).or_else(|| SpanCell::root_of(ids.trace_id()))
            }
            _ => SpanCell::find(ids),
        };
        let ids = known.as_ref().map_or(ids, |known| known.ids);
        let local_root = match (&known, &kin) {
            (Some(known), _) => known.local_root,
            (None, Some(kin)) => kin.local_root(),
            (None, None) if span.is_remote() => [0; 8],
            (None, None) => SpanView::current()
                .filter(|view| view.is_local() && view.ids().trace_id() == ids.trace_id())
                .map_or(ids.span_id(), |parent| parent.local_root()),
        };
        let parts = Parts {
            ids: Some(ids),
            local_root,
            extras: Extras::of(context, &self.capture, Some(ids)),
            next,
        };
        SpanView::new(parts, known.as_deref(), self)
    }

    /// The view of a context without a span, but with labels: of the middleware's span, if it is made inside
    /// one.
    fn view_of_labels(
        &self,
        context: &Context,
        next: Option<Arc<dyn ObserverContextView>>,
    ) -> Arc<SpanView> {
        let parts = Parts {
            ids: thread::floor().map(|(floor, _)| floor.ids()),
            local_root: [0; 8],
            extras: Extras::of(context, &self.capture, None),
            next,
        };
        SpanView::new(parts, None, self)
    }
}

impl ContextObserver for PublishingObserver {
    // The context stack is borrowed during these two, and the caller may hold locks of its own: no call
    // into OpenTelemetry's current context, no lock, no allocation, no logging.

    fn on_context_enter(&self, from: &Context, to: &Context) {
        Self::publish(to, true);
        if let Some(next) = &self.next {
            next.on_context_enter(from, to);
        }
    }

    fn on_context_exit(&self, from: &Context, to: &Context) {
        Self::publish(to, false);
        if let Some(next) = &self.next {
            next.on_context_exit(from, to);
        }
    }

    fn make_view(&self, context: &Context) -> Option<Arc<dyn ObserverContextView>> {
        let next = self.next.as_ref().and_then(|next| next.make_view(context));
        // Nothing but `span_context` may be asked of the span here: everything else locks it.
        let span = context.span();
        let span = span.span_context();
        match SpanIds::from_span_context(span) {
            Some(ids) => Some(self.view_of_span(context, span, ids, next)),
            None if Identity::of(context, &self.capture).has_labels() => {
                Some(self.view_of_labels(context, next))
            }
            None => next.map(|next| Arc::new(ForwardedView(next)) as _),
        }
    }
}

impl fmt::Debug for PublishingObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishingObserver")
            .field("capture", &self.capture)
            .field("forwards", &self.next.is_some())
            .finish()
    }
}
