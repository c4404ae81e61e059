//! What a context adds to its span's record: labels of the application, baggage, and the attributes of the
//! middleware inside which it was made.

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};

use super::capture::Resolved;
use super::labels::Labels;
use crate::abi::thread_context;
use crate::keys::AttributeKey;
use crate::record::{Attribute, SpanIds};
use crate::thread;

/// Attributes that belong to one context, and where they came from.
pub(super) struct Extras {
    pub(super) identity: Identity,
    /// The application's labels.
    labels: Labels,
    /// A middleware's attributes, then captured baggage.
    others: Vec<(AttributeKey, Box<str>)>,
}

/// Tells contexts apart by what they carry: addresses, compared only while both contexts are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    labels: usize,
    baggage: usize,
}

impl Identity {
    pub(super) const NONE: Self = Self {
        labels: 0,
        baggage: 0,
    };

    /// What `context` carries that is captured.
    pub(super) fn of(context: &Context, capture: &Resolved) -> Self {
        let labels = context.get::<Labels>();
        let baggage = captured_baggage(context, capture);
        Self {
            labels: labels.map_or(0, |labels| labels.0.as_ptr().addr()),
            baggage: baggage.map_or(0, |baggage| std::ptr::from_ref(baggage).addr()),
        }
    }

    pub(super) fn has_labels(self) -> bool {
        self.labels != 0
    }
}

fn captured_baggage<'a>(context: &'a Context, capture: &Resolved) -> Option<&'a Baggage> {
    (!capture.baggage.is_empty())
        .then(|| context.baggage())
        .filter(|baggage| !baggage.is_empty())
}

impl Extras {
    /// What `context`, of the span `ids`, adds; `None` if nothing.
    pub(super) fn of(
        context: &Context,
        capture: &Resolved,
        ids: Option<SpanIds>,
    ) -> Option<Box<Self>> {
        let mut others = Vec::new();
        let floor = thread::floor()
            .map(|(floor, _)| floor)
            .filter(|floor| ids.is_none_or(|ids| ids.trace_id() == floor.ids().trace_id()));
        if let Some(floor) = floor {
            for (key, value) in thread_context::attributes(floor.bytes().attrs_data()) {
                if let (Some(key), Ok(value)) =
                    (AttributeKey::from_index(key), str::from_utf8(value))
                {
                    others.push((key, value.into()));
                }
            }
        }
        if let Some(baggage) = captured_baggage(context, capture) {
            for &key in &capture.baggage {
                if let Some(value) = baggage.get(key.name()) {
                    others.push((key, value.as_str().into()));
                }
            }
        }
        let identity = Identity::of(context, capture);
        (identity != Identity::NONE || !others.is_empty()).then(|| {
            Box::new(Self {
                identity,
                labels: context.get::<Labels>().cloned().unwrap_or_default(),
                others,
            })
        })
    }
}

/// Puts together what a record holds beside the ids, the most important first, and each name once; calls
/// `publish` with it unless it is nothing.
pub(super) fn compose(
    capture: &Resolved,
    local_root: [u8; 8],
    extras: Option<&Extras>,
    span: &[(AttributeKey, Box<str>)],
    publish: impl FnOnce(&[Attribute<'_>]),
) {
    let hex;
    let mut all: Vec<Attribute<'_>> = Vec::new();
    if let Some(key) = capture.local_root
        && local_root != [0; 8]
    {
        hex = format!("{:016x}", u64::from_be_bytes(local_root));
        all.push((key, &hex));
    }
    let labels = extras.map_or(&[][..], |extras| &extras.labels.0);
    let others = extras.map_or(&[][..], |extras| &extras.others);
    for (key, value) in labels.iter().chain(span).chain(others) {
        if all.iter().all(|(known, _)| known != key) {
            all.push((*key, value));
        }
    }
    if !all.is_empty() {
        publish(&all);
    }
}
