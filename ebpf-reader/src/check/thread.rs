//! What one thread publishes at one moment, byte for byte: nothing is judged here, and nothing is left out
//! because it is wrong.

use otel_profiling::abi::custom_labels::{Label as WireLabel, LabelSet};
use otel_profiling::abi::thread_context::{MAX_ATTRS_SIZE, RecordHeader};

use crate::published::ReadMemory;

/// Labels of a set that are looked at.
pub(super) const MAX_LABELS: u64 = 64;
/// Bytes of a key or value that are looked at.
pub(super) const MAX_TEXT: u64 = 1024;

const HEADER: usize = size_of::<RecordHeader>();

/// A record, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawRecord {
    pub(super) address: u64,
    /// `None`: not readable.
    pub(super) header: Option<[u8; HEADER]>,
    /// As many as the header says, up to 612. `None`: not readable.
    pub(super) attrs: Option<Vec<u8>>,
}

impl RawRecord {
    pub(super) fn read(memory: &impl ReadMemory, address: u64) -> Self {
        let mut header = [0; HEADER];
        let mut record = Self {
            address,
            header: None,
            attrs: None,
        };
        if memory.read(address, &mut header).is_some() {
            record.header = Some(header);
            let size = usize::from(record.attrs_size()).min(MAX_ATTRS_SIZE);
            record.attrs = memory.bytes(address.wrapping_add(HEADER as u64), size);
        }
        record
    }

    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.header
            .as_ref()
            .and_then(|header| header.get(offset..)?.first_chunk().copied())
            .unwrap_or([0; N])
    }

    pub(super) fn trace_id(&self) -> [u8; 16] {
        self.field(0)
    }

    pub(super) fn span_id(&self) -> [u8; 8] {
        self.field(16)
    }

    pub(super) fn valid(&self) -> u8 {
        let [valid] = self.field(24);
        valid
    }

    pub(super) fn trace_flags(&self) -> u8 {
        let [flags] = self.field(25);
        flags
    }

    pub(super) fn attrs_size(&self) -> u16 {
        u16::from_ne_bytes(self.field(26))
    }
}

/// A label set, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawLabels {
    pub(super) address: u64,
    pub(super) storage: u64,
    pub(super) count: u64,
    pub(super) capacity: u64,
    /// Whether these three could be read.
    pub(super) is_readable: bool,
    /// The first labels; `None` for one that cannot be read, which is the last one then.
    pub(super) labels: Vec<Option<RawLabel>>,
}

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawLabel {
    pub(super) key: RawText,
    pub(super) value: RawText,
}

/// A string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawText {
    pub(super) address: u64,
    pub(super) size: u64,
    /// Its first bytes; `None`: not readable.
    pub(super) bytes: Option<Vec<u8>>,
}

impl RawText {
    fn read(memory: &impl ReadMemory, size: u64, address: u64) -> Self {
        let bytes = match size.min(MAX_TEXT) as usize {
            0 => Some(Vec::new()),
            _ if address == 0 => None,
            size => memory.bytes(address, size),
        };
        Self {
            address,
            size,
            bytes,
        }
    }
}

impl RawLabels {
    pub(super) fn read(memory: &impl ReadMemory, address: u64) -> Self {
        const {
            assert!(size_of::<LabelSet>() == 3 * 8 && size_of::<WireLabel>() == 4 * 8);
        }
        let words = memory.words(address);
        let [storage, count, capacity] = words.unwrap_or_default();
        let mut set = Self {
            address,
            storage,
            count,
            capacity,
            is_readable: words.is_some(),
            labels: Vec::new(),
        };
        for slot in 0..count.min(MAX_LABELS) {
            let address = storage.wrapping_add(slot * size_of::<WireLabel>() as u64);
            let Some([key_size, key, value_size, value]) = memory.words(address) else {
                set.labels.push(None);
                break;
            };
            set.labels.push(Some(RawLabel {
                key: RawText::read(memory, if key == 0 { 0 } else { key_size }, key),
                value: RawText::read(memory, value_size, value),
            }));
        }
        set
    }
}
