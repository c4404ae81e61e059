//! Reading the memory of another process.

use std::io;

/// Copies `buffer.len()` bytes at `address` of the process of thread `tid`: all of them, or an error.
pub(crate) fn read_memory(tid: u32, address: u64, buffer: &mut [u8]) -> io::Result<()> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: buffer.len(),
    };
    // SAFETY: `local` spans exactly `buffer`, which is borrowed mutably for the whole call. The remote
    // address is not one of ours: the kernel checks it and fails with EFAULT.
    let copied = unsafe {
        libc::process_vm_readv(
            tid as libc::pid_t,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    match usize::try_from(copied) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_refuses_the_rest() {
        let tid = std::process::id();
        let source = *b"published";
        let mut buffer = [0; 9];
        read_memory(tid, source.as_ptr() as u64, &mut buffer).expect("own memory");
        assert_eq!(buffer, source);
        for address in [0, 8, 0xffff_8000_0000_0000, u64::MAX] {
            assert!(
                read_memory(tid, address, &mut buffer).is_err(),
                "{address:#x}"
            );
        }
    }
}
