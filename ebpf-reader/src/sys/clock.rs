//! The clock that the kernel stamps samples with.

/// CLOCK_MONOTONIC in nanoseconds; std's `Instant` does not tell its value.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that the kernel may write to during the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    debug_assert_eq!(result, 0, "CLOCK_MONOTONIC always exists");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
