//! Waiting for a file descriptor.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// Waits until `fd` is readable, a signal arrives, or `timeout` is over.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // In whole milliseconds, a caller that waits for the rest of a time would come back again and again at its end.
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: `entry` is one valid pollfd, and its descriptor is borrowed for the whole call; `timeout` is valid, too,
    // and a null mask of signals leaves the thread's as it is.
    let result = unsafe { libc::ppoll(&raw mut entry, 1, &raw const timeout, std::ptr::null()) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::time::Instant;

    use super::*;

    #[test]
    fn less_than_a_millisecond_is_waited_for_too() {
        let (reader, mut writer) = io::pipe().unwrap();
        let short = Duration::from_micros(700);
        let begin = Instant::now();
        wait_readable(reader.as_fd(), short).unwrap();
        assert!(begin.elapsed() >= short);

        // Not the whole time: it would be longer than any test may take.
        writer.write_all(b"x").unwrap();
        wait_readable(reader.as_fd(), Duration::from_secs(100_000)).unwrap();
        wait_readable(reader.as_fd(), Duration::MAX).unwrap();
    }
}
