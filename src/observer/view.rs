//! What OpenTelemetry stores in a `Context` for the observer: the record of the context's span.

use std::any::Any;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use opentelemetry::context::ObserverContextView;

use super::PublishingObserver;
use super::extras::{Extras, Identity, compose};
use super::span::SpanCell;
use crate::keys::AttributeKey;
use crate::record::{ContextRecord, SpanIds};
use crate::thread;

/// The view of a context with something to publish: its record, in the view's own allocation.
///
/// Every record that [`thread::set_current`] is told about lies at the start of such a view.
#[repr(C)]
pub(super) struct SpanView {
    record: ContextRecord,
    /// What a second observer made of the same context.
    next: Option<Arc<dyn ObserverContextView>>,
    /// What the context itself adds to its span: labels, baggage, a middleware's attributes.
    extras: Option<Box<Extras>>,
    /// The span id of the trace's first span in this process; zero for the span of another process.
    local_root: [u8; 8],
}

/// Bytes of a view on the heap: two reference counts go with it.
const ALLOCATION: usize = size_of::<SpanView>() + 2 * size_of::<usize>();
const _: () = assert!(ALLOCATION <= 256);
const _: () = assert!(std::mem::offset_of!(SpanView, record) == 0);

/// What a view is made of; see [`SpanView`].
pub(super) struct Parts {
    pub(super) ids: Option<SpanIds>,
    pub(super) local_root: [u8; 8],
    pub(super) extras: Option<Box<Extras>>,
    pub(super) next: Option<Arc<dyn ObserverContextView>>,
}

impl SpanView {
    /// The view of a context, with what is known of its span.
    pub(super) fn new(
        parts: Parts,
        span: Option<&SpanCell>,
        observer: &PublishingObserver,
    ) -> Arc<Self> {
        let mut view = Arc::new(Self {
            record: ContextRecord::new(parts.ids),
            next: parts.next,
            extras: parts.extras,
            local_root: parts.local_root,
        });
        if let Some(view) = Arc::get_mut(&mut view) {
            view.record.link();
        }
        match span {
            Some(span) => span.show_in(&view, observer),
            None => view.rebuild(observer, &[]),
        }
        view
    }

    /// Publishes `attributes` of the span, from the next attach on, beside what the context adds.
    pub(super) fn rebuild(
        &self,
        observer: &PublishingObserver,
        attributes: &[(AttributeKey, Box<str>)],
    ) {
        compose(
            &observer.capture,
            self.local_root,
            self.extras.as_deref(),
            attributes,
            |attributes| self.record.replace(attributes),
        );
    }

    /// The record in our view behind OpenTelemetry's pointer; null if it is not ours.
    ///
    /// By upcasting rather than through `as_any`, which answers for the second observer. The pointer may
    /// be used for the whole allocation, so that [`SpanView::current`] can count another reference.
    pub(super) fn record_of(view: &Arc<dyn ObserverContextView>) -> *const ContextRecord {
        let any: &dyn Any = &**view;
        if any.is::<Self>() {
            Arc::as_ptr(view).cast()
        } else {
            ptr::null()
        }
    }

    /// The view of this thread's current context, if it has one.
    pub(super) fn current() -> Option<Arc<Self>> {
        // SAFETY: the observer passes no record to `thread` but those of views.
        unsafe { Self::from_record(thread::current()) }
    }

    /// The view in which a record lies.
    ///
    /// # Safety
    /// `record` is null, or what [`SpanView::record_of`] returned for a view that is alive.
    unsafe fn from_record(record: *const ContextRecord) -> Option<Arc<Self>> {
        if record.is_null() {
            return None;
        }
        let view = record.cast::<Self>();
        // SAFETY: the record lies at the start of a `SpanView` in an `Arc`, the pointer came from that `Arc`,
        // and somebody holds one of the counted references during the call.
        unsafe {
            Arc::increment_strong_count(view);
            Some(Arc::from_raw(view))
        }
    }

    /// Our view behind OpenTelemetry's pointer, if it is one.
    pub(super) fn downcast(view: &Arc<dyn ObserverContextView>) -> Option<Arc<Self>> {
        // SAFETY: the caller holds the view.
        unsafe { Self::from_record(Self::record_of(view)) }
    }

    pub(super) fn ids(&self) -> SpanIds {
        self.record.ids()
    }

    pub(super) fn identity(&self) -> Identity {
        self.extras
            .as_ref()
            .map_or(Identity::NONE, |extras| extras.identity)
    }

    /// The span id of the trace's first span in this process; zero for the span of another process.
    pub(super) fn local_root(&self) -> [u8; 8] {
        self.local_root
    }

    /// Whether the span was started in this process.
    pub(super) fn is_local(&self) -> bool {
        self.local_root != [0; 8]
    }
}

impl ObserverContextView for SpanView {
    fn as_any(&self) -> &dyn Any {
        match &self.next {
            Some(next) => next.as_any(),
            None => self,
        }
    }
}

impl std::fmt::Debug for SpanView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanView")
            .field("ids", &self.ids())
            .finish_non_exhaustive()
    }
}

/// The view of a context with nothing to publish, for which a second observer made one.
pub(super) struct ForwardedView(pub(super) Arc<dyn ObserverContextView>);

impl ObserverContextView for ForwardedView {
    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
}

thread_local! {
    static HANDED_OVER: Cell<Option<(SpanIds, Arc<SpanView>)>> = const { Cell::new(None) };
}

/// Leaves the view that the next context of `span` on this thread is to share.
pub(super) fn hand_over(span: SpanIds, view: &Arc<SpanView>) {
    // Fails while the thread ends: a record is built then.
    let _ = HANDED_OVER.try_with(|place| place.set(Some((span, view.clone()))));
}

/// Takes the view that was left for a context of `span`.
pub(super) fn taken_over(span: SpanIds) -> Option<Arc<SpanView>> {
    let (ids, view) = HANDED_OVER.try_with(Cell::take).ok()??;
    (ids == span).then_some(view)
}
