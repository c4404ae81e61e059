//! What a span tells about itself: its name and attributes, for spans whose tracer is wrapped.
//!
//! OpenTelemetry does not show the observer a span's attributes: asking the span would lock it. A wrapped span
//! keeps a [`SpanCapture`] beside itself instead. The observer finds it by the span's ids, in a table that has an
//! entry for every living span of the kind. The table's locks are leaves: nothing is called under them that could
//! lock, log, or run foreign code.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use opentelemetry::Context;

use super::PublishingObserver;
use super::capture::Granularity;
use super::install::installed;
use super::view::{self, SpanView};
use crate::keys::AttributeKey;
use crate::record::SpanIds;

/// Kept by a wrapped span for as long as it lives: tells the observer the span's name and attributes.
///
/// Made by tracers that wrap others, such as `otel-profiling-tracer`'s, from a [`SpanDraft`]. Costs no allocation
/// if nothing of spans is captured.
#[derive(Debug)]
pub struct SpanCapture {
    cell: Option<Arc<SpanCell>>,
    /// The span, and the view of its trace's root, which contexts of the span share.
    handover: Option<(SpanIds, Arc<SpanView>)>,
}

/// What is known of one span.
pub(super) struct SpanCell {
    pub(super) ids: SpanIds,
    /// The span id of the trace's first span in this process.
    pub(super) local_root: [u8; 8],
    state: Mutex<State>,
}

struct State {
    attributes: Vec<(AttributeKey, Box<str>)>,
    /// The views that show this span.
    views: Vec<Weak<SpanView>>,
}

type Shard = Mutex<HashMap<SpanIds, Arc<SpanCell>, BuildHasherDefault<DefaultHasher>>>;

/// Living spans by their ids.
static SPANS: LazyLock<[Shard; 32]> = LazyLock::new(|| std::array::from_fn(|_| Shard::default()));

fn shard(ids: SpanIds) -> &'static Shard {
    // Span ids are random; one byte of them spreads as well as any hash.
    let [.., last] = ids.span_id();
    &SPANS[usize::from(last) % SPANS.len()]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a span is built with, looked at before the builder is given away; becomes a [`SpanCapture`].
#[derive(Debug, Default)]
pub struct SpanDraft {
    observer: Option<&'static PublishingObserver>,
    /// The view of the parent, if that was started in this process.
    parent: Option<Arc<SpanView>>,
    attributes: Vec<(AttributeKey, Box<str>)>,
}

impl SpanDraft {
    /// Takes a copy of what is captured of a span with this name and these attributes, which is to be a child of
    /// the span in `parent`, if there is one. It copies nothing, and takes no time, if nothing of spans is
    /// captured; and nothing of a child with [`Granularity::Trace`].
    #[must_use]
    pub fn new<'a>(
        parent: &Context,
        name: &str,
        attributes: impl IntoIterator<Item = &'a opentelemetry::KeyValue>,
    ) -> Self {
        let Some(observer) = installed().filter(|observer| observer.wants_spans()) else {
            return Self::default();
        };
        let parent = parent.observer_view().as_ref().and_then(SpanView::downcast);
        let parent = parent.filter(|view| view.is_local());
        let mut captured = Vec::new();
        if parent.is_none() || observer.capture.granularity == Granularity::Span {
            if let Some(key) = observer.capture.span_name {
                captured.push((key, name.into()));
            }
            for attribute in attributes {
                set(&mut captured, observer, attribute);
            }
        }
        Self {
            observer: Some(observer),
            parent,
            attributes: captured,
        }
    }

    /// The span was started as `ids`; `None` if its span context is invalid.
    #[must_use]
    pub fn started(self, ids: Option<SpanIds>) -> SpanCapture {
        let (Some(ids), Some(observer)) = (ids, self.observer) else {
            return SpanCapture::none();
        };
        // A tracer may start another trace all the same.
        let parent = self
            .parent
            .filter(|view| view.ids().trace_id() == ids.trace_id());
        let local_root = parent
            .as_ref()
            .map_or(ids.span_id(), |view| view.local_root());
        if observer.capture.granularity == Granularity::Trace
            && let Some(root) = parent
        {
            return SpanCapture {
                cell: None,
                handover: Some((ids, root)),
            };
        }
        let cell = Arc::new(SpanCell {
            ids,
            local_root,
            state: Mutex::new(State {
                attributes: self.attributes,
                views: Vec::new(),
            }),
        });
        lock(shard(ids)).insert(ids, cell.clone());
        SpanCapture {
            cell: Some(cell),
            handover: None,
        }
    }
}

impl SpanCapture {
    fn none() -> Self {
        Self {
            cell: None,
            handover: None,
        }
    }

    /// Whether changes of the span may be captured. If not, the setters do nothing.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.cell.is_some()
    }

    /// Attributes of the span were set. Contexts with the span publish those that are captured from their next
    /// attach on; one call makes one new record for each such context.
    pub fn set_attributes(&self, attributes: &[opentelemetry::KeyValue]) {
        self.update(|known, observer| {
            let changes = attributes
                .iter()
                .filter(|attribute| set(known, observer, attribute));
            changes.count() > 0
        });
    }

    /// The span got another name.
    pub fn set_name(&self, name: &str) {
        self.update(|attributes, observer| {
            let key = observer.capture.span_name;
            key.is_some_and(|key| replace(attributes, key, name))
        });
    }

    fn update(
        &self,
        change: impl FnOnce(&mut Vec<(AttributeKey, Box<str>)>, &PublishingObserver) -> bool,
    ) {
        let (Some(cell), Some(observer)) = (&self.cell, installed()) else {
            return;
        };
        let mut state = lock(&cell.state);
        if !change(&mut state.attributes, observer) {
            return;
        }
        // A view is not freed under the lock: what `upgrade` keeps alive is dropped after it.
        let views: Vec<_> = state.views.iter().filter_map(Weak::upgrade).collect();
        for view in &views {
            view.rebuild(observer, &state.attributes);
        }
        drop(state);
        drop(views);
    }

    /// To be called where the span is asked for its context: OpenTelemetry asks just before it makes a context
    /// of the span, on the same thread. With [`Granularity::Trace`] the record of the trace is handed over so.
    pub fn hand_over(&self) {
        if let Some((span, view)) = &self.handover {
            view::hand_over(*span, view);
        }
    }
}

impl Drop for SpanCapture {
    fn drop(&mut self) {
        if let Some(cell) = &self.cell {
            let mut spans = lock(shard(cell.ids));
            // Another span with the same ids may have taken the place.
            if spans
                .get(&cell.ids)
                .is_some_and(|there| Arc::ptr_eq(there, cell))
            {
                spans.remove(&cell.ids);
            }
        }
    }
}

impl SpanCell {
    /// What is known of the living span `ids`.
    pub(super) fn find(ids: SpanIds) -> Option<Arc<Self>> {
        lock(shard(ids)).get(&ids).cloned()
    }

    /// The living root of a trace in this process, if there is exactly one.
    ///
    /// Looks at all living spans that tell about themselves; with [`Granularity::Trace`] those are roots alone.
    pub(super) fn root_of(trace_id: [u8; 16]) -> Option<Arc<Self>> {
        let mut root = None;
        for shard in SPANS.iter() {
            for (ids, cell) in lock(shard).iter() {
                if ids.trace_id() == trace_id && ids.span_id() == cell.local_root {
                    if root.is_some() {
                        return None;
                    }
                    root = Some(cell.clone());
                }
            }
        }
        root
    }

    /// Makes `view`'s first record, and keeps it up to date.
    pub(super) fn show_in(&self, view: &Arc<SpanView>, observer: &PublishingObserver) {
        let mut state = lock(&self.state);
        view.rebuild(observer, &state.attributes);
        if state.views.len() == state.views.capacity() {
            state.views.retain(|view| view.strong_count() > 0);
        }
        state.views.push(Arc::downgrade(view));
    }
}

impl std::fmt::Debug for SpanCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanCell")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

/// Sets a captured attribute; says whether anything changed.
fn set(
    attributes: &mut Vec<(AttributeKey, Box<str>)>,
    observer: &PublishingObserver,
    attribute: &opentelemetry::KeyValue,
) -> bool {
    match observer.capture.span_attribute(attribute.key.as_str()) {
        Some(key) => replace(attributes, key, &attribute.value.as_str()),
        None => false,
    }
}

fn replace(attributes: &mut Vec<(AttributeKey, Box<str>)>, key: AttributeKey, value: &str) -> bool {
    match attributes.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) if **known == *value => return false,
        Some((_, known)) => *known = value.into(),
        None => attributes.push((key, value.into())),
    }
    true
}
