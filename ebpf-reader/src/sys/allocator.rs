//! Giving free memory back to the system.

/// Has the C library's allocator give back what it keeps of memory that was freed. It costs some milliseconds where
/// there is much to look through, so it is for programs that run for long, now and then.
pub(crate) fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and only gives back pages that hold nothing. It may be called
    // by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
