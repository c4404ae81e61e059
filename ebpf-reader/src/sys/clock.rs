//! The clocks that others stamp with, where std's `Instant` does not tell its value.

/// CLOCK_MONOTONIC in nanoseconds: the kernel's for samples.
pub(crate) fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME in nanoseconds: a publisher's for its process context.
pub(crate) fn boottime_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that the kernel may write to during the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut now) };
    debug_assert_eq!(result, 0, "both clocks always exist");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
