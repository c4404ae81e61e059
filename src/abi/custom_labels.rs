//! Custom labels: the label set that `custom_labels_current_set` points to (custom-labels ABI v1).
//!
//! The symbol is an 8-byte thread-local pointer: null, or the address of a [`LabelSet`]. The constant
//! [`VERSION_SYMBOL`] tells readers which version of the layout a module uses.

use core::mem::{align_of, offset_of, size_of};

/// Name of the TLS symbol, in `.dynsym` of the executable or of a shared object.
pub const SYMBOL: &str = "custom_labels_current_set";

/// Size of the TLS object in bytes: one pointer.
pub const SYMBOL_SIZE: u64 = 8;

/// Name of the 4-byte constant that holds [`VERSION`].
pub const VERSION_SYMBOL: &str = "custom_labels_abi_version";

/// Version of the layout in this module.
pub const VERSION: u32 = 1;

/// Label slots that Parca Agent reads of a set; it ignores the rest.
pub const PARCA_MAX_LABELS: usize = 10;

/// Bytes of a key that Parca Agent reads.
pub const PARCA_MAX_KEY_SIZE: usize = 25;

/// Bytes of a value that Parca Agent reads.
pub const PARCA_MAX_VALUE_SIZE: usize = 53;

/// Label names that clash with columns of Parca's own and so must not be used.
pub const PARCA_RESERVED_NAMES: [&str; 4] = ["cpu", "thread_id", "thread_name", "node"];

/// A string: `len` bytes of UTF-8 at `buf`, not terminated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Str {
    /// Length in bytes.
    pub len: usize,
    /// First byte; null only in the key of a label that readers skip.
    pub buf: *const u8,
}

/// One label. A reader skips a label whose key has a null buffer; of a repeated key the first one wins.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name.
    pub key: Str,
    /// The value; its buffer is never null.
    pub value: Str,
}

/// The labels of one thread: `count` of them at `storage`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelSet {
    /// The first label.
    pub storage: *const Label,
    /// Labels in use.
    pub count: usize,
    /// Labels that fit the storage; at least `count`.
    pub capacity: usize,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Str>() == 16);
    assert!(align_of::<Str>() == 8);
    assert!(offset_of!(Str, len) == 0);
    assert!(offset_of!(Str, buf) == 8);

    assert!(size_of::<Label>() == 32);
    assert!(align_of::<Label>() == 8);
    assert!(offset_of!(Label, key) == 0);
    assert!(offset_of!(Label, value) == 16);

    assert!(size_of::<LabelSet>() == 24);
    assert!(align_of::<LabelSet>() == 8);
    assert!(offset_of!(LabelSet, storage) == 0);
    assert!(offset_of!(LabelSet, count) == 8);
    assert!(offset_of!(LabelSet, capacity) == 16);
};
