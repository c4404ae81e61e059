//! The bytes of a record, in both layouts and one allocation: the thread context with its attributes, the
//! label set with its labels, and the hex digits of the ids. The other labels' values are those of the
//! attributes, where they lie already.

use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr;
use std::sync::Arc;

use super::SpanIds;
use crate::abi::custom_labels::{
    Label, LabelSet, PARCA_MAX_KEY_SIZE, PARCA_MAX_LABELS, PARCA_MAX_VALUE_SIZE,
    PARCA_RESERVED_NAMES, Str,
};
use crate::abi::thread_context::{
    ATTR_HEADER_SIZE, MAX_ATTR_VALUE_SIZE, MAX_ATTRS_SIZE, RecordHeader, VALID,
};
use crate::counters;
use crate::keys::AttributeKey;
use crate::settings;

/// What the two thread-local pointers are set to while a record is published; null: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointers {
    pub(crate) thread_context: *const RecordHeader,
    pub(crate) custom_labels: *const LabelSet,
}

impl Pointers {
    /// Publishes nothing.
    pub(crate) const NULL: Self = Self {
        thread_context: ptr::null(),
        custom_labels: ptr::null(),
    };
}

/// An attribute that is to be published.
pub(crate) type Attribute<'a> = (AttributeKey, &'a str);

const TRACE_HEX: usize = 32;
const SPAN_HEX: usize = 16;

/// A record with room for `ATTRS` bytes of attributes and `LABELS` labels. The pointers inside lead to other
/// parts of the same value, so it must stay where [`RecordBytes::link`] found it.
#[repr(C, align(8))]
pub(crate) struct RecordBytes<const ATTRS: usize, const LABELS: usize> {
    header: RecordHeader,
    attrs: [u8; ATTRS],
    set: LabelSet,
    labels: [Label; LABELS],
    hex: [u8; TRACE_HEX + SPAN_HEX],
}

/// A record without attributes: room for the two ids' labels.
pub(crate) type PlainBytes = RecordBytes<0, 2>;

// The promise is at most 256 bytes for a live span context; whatever owns a record adds to it.
const _: () = assert!(size_of::<PlainBytes>() <= 168);
// The attributes follow the header without a gap.
const _: () =
    assert!(core::mem::offset_of!(RecordBytes<100, 10>, attrs) == size_of::<RecordHeader>());

// SAFETY: the pointers inside lead to the value itself and to names that live as long as the process, and
// nothing changes after `link`, which has the value for itself; so every thread may hold and read it.
unsafe impl<const ATTRS: usize, const LABELS: usize> Send for RecordBytes<ATTRS, LABELS> {}
// SAFETY: as for `Send`.
unsafe impl<const ATTRS: usize, const LABELS: usize> Sync for RecordBytes<ATTRS, LABELS> {}

/// A record of any size.
pub(crate) trait Bytes: Send + Sync + UnwindSafe + RefUnwindSafe {
    fn ids(&self) -> SpanIds;
    /// Where the record lies in each layout; null for a layout that is turned off.
    fn pointers(&self) -> Pointers;
    /// The attributes as they lie in the record.
    #[cfg_attr(not(any(feature = "otel", test)), allow(dead_code))]
    fn attrs_data(&self) -> &[u8];
}

/// The record of `ids` with `attributes`, in the smallest size that fits.
pub(crate) fn build(ids: SpanIds, attributes: &[Attribute<'_>]) -> Arc<dyn Bytes> {
    fn build_sized<const ATTRS: usize, const LABELS: usize>(
        ids: SpanIds,
        attributes: &[Attribute<'_>],
    ) -> Arc<dyn Bytes> {
        let mut bytes = Arc::new(RecordBytes::<ATTRS, LABELS>::new(ids));
        if let Some(bytes) = Arc::get_mut(&mut bytes) {
            bytes.link(attributes);
        }
        bytes
    }

    let size: usize = attributes
        .iter()
        .map(|(_, value)| ATTR_HEADER_SIZE + value.len().min(MAX_ATTR_VALUE_SIZE))
        .sum();
    match size {
        0 => build_sized::<0, 2>(ids, attributes),
        1..=100 => build_sized::<100, PARCA_MAX_LABELS>(ids, attributes),
        101..=228 => build_sized::<228, PARCA_MAX_LABELS>(ids, attributes),
        _ => build_sized::<MAX_ATTRS_SIZE, PARCA_MAX_LABELS>(ids, attributes),
    }
}

impl<const ATTRS: usize, const LABELS: usize> RecordBytes<ATTRS, LABELS> {
    /// The bytes for `ids`, still without attributes and without the pointers to themselves.
    pub(super) fn new(ids: SpanIds) -> Self {
        const EMPTY: Str = Str {
            len: 0,
            buf: ptr::null(),
        };
        let mut hex = [0; TRACE_HEX + SPAN_HEX];
        write_hex(&ids.trace_id, &mut hex[..TRACE_HEX]);
        write_hex(&ids.span_id, &mut hex[TRACE_HEX..]);
        Self {
            header: RecordHeader {
                trace_id: ids.trace_id,
                span_id: ids.span_id,
                valid: VALID,
                trace_flags: ids.trace_flags,
                attrs_data_size: 0,
            },
            attrs: [0; ATTRS],
            set: LabelSet {
                storage: ptr::null(),
                count: 0,
                capacity: LABELS,
            },
            labels: [Label {
                key: EMPTY,
                value: EMPTY,
            }; LABELS],
            hex,
        }
    }

    /// Writes the attributes, and the pointers to what this value holds, where it lies now.
    pub(super) fn link(&mut self, attributes: &[Attribute<'_>]) {
        let settings = settings::current();
        // The ids come first, so that a reader's limits never drop them.
        let (trace, span) = self.hex.split_at(TRACE_HEX);
        let ids = [(&settings.trace_label, trace), (&settings.span_label, span)];
        let ids = ids.map(|(name, value)| Some((str_of(name.as_ref()?.as_bytes()), str_of(value))));
        if self.ids() != SpanIds::NONE {
            for (name, value) in ids.into_iter().flatten() {
                self.push_label(name, value);
            }
        }
        for &(key, value) in attributes {
            let Some(value) = self.push_attribute(key, value) else {
                counters::ATTRIBUTES_DROPPED.add(1);
                continue;
            };
            if PARCA_RESERVED_NAMES.contains(&key.name()) {
                counters::LABELS_DROPPED.add(1);
                continue;
            }
            let name = cut(key.name(), PARCA_MAX_KEY_SIZE);
            let label = cut(value, PARCA_MAX_VALUE_SIZE);
            counters::LABELS_CUT.add(u64::from(label.len() < value.len()));
            let (name, label) = (str_of(name.as_bytes()), str_of(label.as_bytes()));
            self.push_label(name, label);
        }
        self.set.storage = self.labels.as_ptr();
    }

    /// Appends an attribute to the thread context; returns its value, cut, where it lies. `None` if there
    /// is no room.
    fn push_attribute(&mut self, key: AttributeKey, value: &str) -> Option<&'static str> {
        let value_cut = cut(value, MAX_ATTR_VALUE_SIZE);
        let start = usize::from(self.header.attrs_data_size);
        let end = start + ATTR_HEADER_SIZE + value_cut.len();
        let room = self.attrs.get_mut(start..end)?;
        let (head, tail) = room.split_first_chunk_mut::<ATTR_HEADER_SIZE>()?;
        *head = [key.index(), u8::try_from(value_cut.len()).ok()?];
        tail.copy_from_slice(value_cut.as_bytes());
        self.header.attrs_data_size = u16::try_from(end).ok()?;
        counters::VALUES_CUT.add(u64::from(value_cut.len() < value.len()));
        // SAFETY: the bytes were copied from a `str`. The lifetime is the record's in truth: the only
        // caller makes a label of it that lies in the same record.
        Some(unsafe {
            str::from_utf8_unchecked(core::slice::from_raw_parts(tail.as_ptr(), tail.len()))
        })
    }

    fn push_label(&mut self, key: Str, value: Str) {
        match self.labels.get_mut(self.set.count) {
            Some(label) => {
                *label = Label { key, value };
                self.set.count += 1;
            }
            None => counters::LABELS_DROPPED.add(1),
        }
    }
}

impl<const ATTRS: usize, const LABELS: usize> Bytes for RecordBytes<ATTRS, LABELS> {
    fn ids(&self) -> SpanIds {
        SpanIds {
            trace_id: self.header.trace_id,
            span_id: self.header.span_id,
            trace_flags: self.header.trace_flags,
        }
    }

    fn pointers(&self) -> Pointers {
        let settings = settings::current();
        let mut pointers = Pointers::NULL;
        if settings.thread_context {
            // From the whole record, not from the header alone: attributes follow it.
            pointers.thread_context = ptr::from_ref(self).cast();
        }
        if settings.custom_labels && self.set.count > 0 {
            pointers.custom_labels = &raw const self.set;
        }
        pointers
    }

    fn attrs_data(&self) -> &[u8] {
        self.attrs
            .get(..usize::from(self.header.attrs_data_size))
            .unwrap_or_default()
    }
}

/// The first bytes of `text`, at most `max`, whole characters only.
fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|&end| text.is_char_boundary(end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn str_of(bytes: &[u8]) -> Str {
    Str {
        len: bytes.len(),
        buf: bytes.as_ptr(),
    }
}

fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}
