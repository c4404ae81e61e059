//! Process context: the header of the mapping named `OTEL_CTX` (OpenTelemetry OTEP 4719).
//!
//! The header says where a protobuf message `ProcessContext { Resource resource = 1; repeated KeyValue
//! attributes = 2; }` lies. For the thread context, `attributes` holds [`SCHEMA_VERSION_KEY`] and
//! [`ATTRIBUTE_KEY_MAP_KEY`].

use core::mem::{align_of, offset_of, size_of};

/// Name of the mapping, and the first eight bytes of the header.
pub const SIGNATURE: [u8; 8] = *b"OTEL_CTX";

/// Version of the layout in this module.
pub const VERSION: u32 = 2;

/// Largest payload that the readers in use accept, in bytes.
pub const MAX_PAYLOAD_SIZE: usize = 64 * 1024;

/// How the name of the mapping starts in `/proc/PID/maps`, one for each way to name it.
pub const MAPPING_NAMES: [&str; 3] = [
    "[anon_shmem:OTEL_CTX]",
    "[anon:OTEL_CTX]",
    "/memfd:OTEL_CTX",
];

/// Attribute that names the layout of the thread context.
pub const SCHEMA_VERSION_KEY: &str = "threadlocal.schema_version";

/// Value of [`SCHEMA_VERSION_KEY`] for records behind a TLSDESC-style symbol, as of OTEP 4947.
pub const SCHEMA_VERSION: &str = "tlsdesc_v1_dev";

/// Attribute with the names of the thread context's attributes: an array of strings, in which the
/// position is the key index.
pub const ATTRIBUTE_KEY_MAP_KEY: &str = "threadlocal.attribute_key_map";

/// First bytes of the mapping.
///
/// A reader takes `published_at`, then the payload, then `published_at` again, and starts over when it
/// was zero or changed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`SIGNATURE`].
    pub signature: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Bytes of the payload.
    pub payload_size: u32,
    /// CLOCK_BOOTTIME of the publication in nanoseconds; 0 while it is being changed.
    pub published_at: u64,
    /// Address of the payload in the process that published it.
    pub payload: u64,
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(align_of::<Header>() == 8);
    assert!(offset_of!(Header, signature) == 0);
    assert!(offset_of!(Header, version) == 8);
    assert!(offset_of!(Header, payload_size) == 12);
    assert!(offset_of!(Header, published_at) == 16);
    assert!(offset_of!(Header, payload) == 24);
};
