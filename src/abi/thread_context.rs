//! Thread context: the record that `otel_thread_ctx_v1` points to (OpenTelemetry OTEP 4947).
//!
//! The symbol is an 8-byte thread-local pointer: null, or the address of a [`RecordHeader`] that is
//! followed by `attrs_data_size` bytes of attributes. Each attribute is packed as key index (1 byte),
//! length (1 byte), value (`length` bytes of UTF-8); the key index selects a name from the process
//! context's attribute key map.

use core::mem::{align_of, offset_of, size_of};

/// Name of the TLS symbol, in `.dynsym` of the executable or of a shared object.
pub const SYMBOL: &str = "otel_thread_ctx_v1";

/// Size of the TLS object in bytes: one pointer.
pub const SYMBOL_SIZE: u64 = 8;

/// Value of [`RecordHeader::valid`] in a record that may be read. Every other value means: ignore it.
pub const VALID: u8 = 1;

/// Largest record, header included, that the specification recommends, in bytes.
pub const MAX_RECORD_SIZE: usize = 640;

/// Largest attribute area that fits a record of [`MAX_RECORD_SIZE`], in bytes.
pub const MAX_ATTRS_SIZE: usize = MAX_RECORD_SIZE - size_of::<RecordHeader>();

/// Bytes before an attribute's value: key index and length.
pub const ATTR_HEADER_SIZE: usize = 2;

/// Longest value of one attribute in bytes: its length is one byte.
pub const MAX_ATTR_VALUE_SIZE: usize = u8::MAX as usize;

/// Most keys that the attribute key map can hold: a key index is one byte.
pub const MAX_KEYS: usize = 256;

/// The fixed part of a thread context record; `attrs_data_size` bytes of attributes follow it.
///
/// The record starts at an even address and has no padding.
#[repr(C, align(2))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// Trace id in W3C order; all zero means none.
    pub trace_id: [u8; 16],
    /// Span id in W3C order; zero if and only if the trace id is.
    pub span_id: [u8; 8],
    /// [`VALID`] when the record may be read.
    pub valid: u8,
    /// W3C trace flags (bit 0: sampled, bit 1: random); zero with zero ids.
    pub trace_flags: u8,
    /// Bytes of attributes that follow the header.
    pub attrs_data_size: u16,
}

const _: () = {
    assert!(size_of::<RecordHeader>() == 28);
    assert!(align_of::<RecordHeader>() == 2);
    assert!(offset_of!(RecordHeader, trace_id) == 0);
    assert!(offset_of!(RecordHeader, span_id) == 16);
    assert!(offset_of!(RecordHeader, valid) == 24);
    assert!(offset_of!(RecordHeader, trace_flags) == 25);
    assert!(offset_of!(RecordHeader, attrs_data_size) == 26);
    assert!(MAX_ATTRS_SIZE == 612);
};

/// The attributes of a record, in the order in which they lie there: (key index, value).
///
/// Ends at the first entry that does not fit, as the specification asks of a reader; never reads past
/// `attrs_data`.
///
/// ```
/// use otel_profiling::abi::thread_context::attributes;
///
/// let data = [0, 3, b'G', b'E', b'T', 7, 200, b'c'];
/// assert_eq!(attributes(&data).collect::<Vec<_>>(), [(0, &b"GET"[..])]);
/// ```
pub fn attributes(attrs_data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = attrs_data;
    core::iter::from_fn(move || {
        let (&[key, len], tail) = rest.split_first_chunk::<ATTR_HEADER_SIZE>()?;
        let value = tail.get(..usize::from(len))?;
        rest = &tail[usize::from(len)..];
        Some((key, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stop_at_an_entry_that_does_not_fit() {
        assert_eq!(attributes(&[]).count(), 0);
        assert_eq!(attributes(&[1]).count(), 0);
        assert_eq!(attributes(&[1, 1]).count(), 0);
        assert_eq!(attributes(&[1, 0]).collect::<Vec<_>>(), [(1, &[][..])]);
        assert_eq!(attributes(&[1, 0, 2, 2, 9]).count(), 1);
    }
}
