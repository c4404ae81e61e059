//! The list of robust mutexes that a thread has registered: its head lies in the thread's control block.

use std::io;

/// Where the head of thread `tid`'s list lies in its process; 0 if it has registered none. Needs the right to
/// trace the thread, and does not disturb it.
pub(crate) fn robust_list_head(tid: u32) -> io::Result<u64> {
    let mut head: u64 = 0;
    let mut size: libc::size_t = 0;
    // SAFETY: both are valid for the kernel to write a pointer and a size to, and outlive the call. The address
    // that it writes is one of another process, and is only used as a number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            tid as libc::pid_t,
            &raw mut head,
            &raw mut size,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(head)
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn glibc_registers_one_for_each_thread() {
        let own = robust_list_head(0).unwrap();
        let other = std::thread::spawn(|| robust_list_head(0).unwrap());
        assert_ne!(own, 0);
        assert_ne!(own, other.join().unwrap());
        assert!(robust_list_head(u32::MAX >> 1).is_err());
    }
}
