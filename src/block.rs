//! The thread-local block that profilers find by name: its definition, and the addresses of its slots.
//!
//! | offset | symbol | feature | what |
//! |---|---|---|---|
//! | 0 | `otel_thread_ctx_v1` | – | pointer to this thread's thread context record, or null |
//! | 8 | `custom_labels_current_set` | `custom-labels` | pointer to this thread's label set, or null |
//!
//! Readers look for these names in `.dynsym`, with type `STT_TLS`. Stable Rust cannot define an exported
//! thread-local, nor choose how it is reached (the specification wants TLSDESC), so the block is written
//! in assembly here, and the sequence that computes an address in one small file per architecture.
//!
//! In a shared object another module's definition may interpose one symbol and not the other. Each slot
//! is therefore resolved by its own sequence; nothing relies on their being neighbours.
//!
//! Linux on x86-64 and aarch64 only. Elsewhere the crate compiles and [`slots`] is `None`.

use core::ptr::NonNull;
use core::sync::atomic::AtomicPtr;

use crate::abi::custom_labels::LabelSet;
use crate::abi::thread_context::RecordHeader;

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(miri)
))]
#[cfg_attr(target_arch = "x86_64", path = "block/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "block/aarch64.rs")]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    path = "block/unsupported.rs"
)]
mod access;

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(miri)
)))]
#[path = "block/unsupported.rs"]
mod access;

/// Addresses of the calling thread's two slots.
///
/// They are valid until the thread ends, destructors of thread-locals included, and 8-aligned. Only the
/// owning thread may store; whoever reads them does so while that thread is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    /// The slot behind `otel_thread_ctx_v1`.
    pub(crate) thread_context: NonNull<AtomicPtr<RecordHeader>>,
    /// The slot behind `custom_labels_current_set`; `None` without the feature `custom-labels`.
    pub(crate) custom_labels: Option<NonNull<AtomicPtr<LabelSet>>>,
}

/// Whether this target has the block at all, for tests.
#[cfg(test)]
pub(crate) const SUPPORTED: bool = access::SUPPORTED;

/// The addresses of the calling thread's slots, or `None` on a target without the block.
///
/// Callable in signal handlers and after fork. It takes no lock and does not allocate, with one
/// exception that is the C library's: in a shared object loaded by `dlopen` that found no room in static
/// TLS, the first call on a thread allocates that thread's copy of the block.
pub(crate) fn slots() -> Option<Slots> {
    Some(Slots {
        thread_context: NonNull::new(access::thread_context())?.cast(),
        custom_labels: NonNull::new(access::custom_labels()).map(NonNull::cast),
    })
}

/// The thread pointer, from which static TLS offsets count; `None` on a target without the block.
#[cfg_attr(
    not(all(target_os = "linux", target_pointer_width = "64")),
    expect(dead_code, reason = "the self check looks at 64-bit Linux only")
)]
pub(crate) fn thread_pointer() -> Option<usize> {
    access::thread_pointer()
}

#[cfg(test)]
mod tests;
