//! The limit on locked memory, to which kernels before 5.11 charge eBPF maps.

use std::io;

/// Lifts the soft and the hard limit on locked memory of this process.
pub(crate) fn lift_locked_memory_limit() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is a valid rlimit that the kernel only reads during the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
