//! Targets without the block: everything compiles, nothing is published.

use core::ptr::null_mut;

#[cfg(test)]
pub(super) const SUPPORTED: bool = false;

pub(super) fn thread_context() -> *mut () {
    null_mut()
}

pub(super) fn custom_labels() -> *mut () {
    null_mut()
}

pub(super) fn thread_pointer() -> Option<usize> {
    None
}
