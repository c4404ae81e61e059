//! The record of a context's span, as the observer owns it: plain bytes in its own allocation, and any number
//! of larger versions with attributes, of which the newest is published at the next attach.

// Without the feature there are no contexts, and nothing makes one of these.
#![cfg_attr(not(feature = "otel"), allow(dead_code))]

use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::SpanIds;
use super::bytes::{Attribute, Bytes, PlainBytes, Pointers, build};
use crate::counters;

/// Versions of a record that may be alive at once. A version that was published may still be so, on any
/// thread, until the context's last clone is gone; so none is freed before, and their number has to end.
const MAX_VERSIONS: usize = 16;

/// Boxed, since most contexts have none.
type Versions = Option<Box<Vec<Arc<dyn Bytes>>>>;

/// A record whose attributes can be replaced while it is published.
pub(crate) struct ContextRecord {
    plain: PlainBytes,
    thread_context: AtomicPtr<crate::abi::thread_context::RecordHeader>,
    custom_labels: AtomicPtr<crate::abi::custom_labels::LabelSet>,
    /// Every version with attributes that was ever published.
    versions: Mutex<Versions>,
}

impl ContextRecord {
    /// A record of a span, or of no span. It publishes nothing until it is linked, where it stays.
    pub(crate) fn new(ids: Option<SpanIds>) -> Self {
        Self {
            plain: PlainBytes::new(ids.unwrap_or(SpanIds::NONE)),
            thread_context: AtomicPtr::default(),
            custom_labels: AtomicPtr::default(),
            versions: Mutex::new(None),
        }
    }

    /// Completes the record where it lies now, without attributes.
    pub(crate) fn link(&mut self) {
        self.plain.link(&[]);
        self.swap(self.plain.pointers());
    }

    /// Publishes `attributes` instead of those of before, from the next attach on.
    ///
    /// Allocates; a call beyond a fixed number is dropped, and counted.
    pub(crate) fn replace(&self, attributes: &[Attribute<'_>]) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = versions.get_or_insert_default();
        if versions.len() >= MAX_VERSIONS {
            counters::UPDATES_DROPPED.add(1);
            return;
        }
        let version = build(self.plain.ids(), attributes);
        self.swap(version.pointers());
        versions.push(version);
    }

    fn swap(&self, pointers: Pointers) {
        // Released, so that a thread that attaches next publishes bytes that are written.
        self.thread_context
            .store(pointers.thread_context.cast_mut(), Ordering::Release);
        self.custom_labels
            .store(pointers.custom_labels.cast_mut(), Ordering::Release);
    }

    /// The span's identity; [`SpanIds::NONE`] for a record of labels alone.
    pub(crate) fn ids(&self) -> SpanIds {
        self.plain.ids()
    }

    /// Whether no version with attributes was published yet.
    pub(crate) fn is_plain(&self) -> bool {
        self.pointers() == self.plain.pointers()
    }

    /// Where the newest version lies; it lives as long as this record.
    pub(crate) fn pointers(&self) -> Pointers {
        Pointers {
            thread_context: self.thread_context.load(Ordering::Acquire),
            custom_labels: self.custom_labels.load(Ordering::Acquire),
        }
    }
}
