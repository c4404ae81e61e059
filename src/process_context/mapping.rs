//! The mapping named `OTEL_CTX`, and the page that tells a forked child from its parent.
//!
//! All system calls and all writes to the header are here.

use core::ffi::{CStr, c_ulong};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

use memmap2::{Advice, MmapMut, MmapOptions};

use super::error::PublishError;
use crate::abi::process_context::{Header, SIGNATURE, VERSION};

/// Name of the memfd and of the mapping; the same as the signature.
const NAME: &CStr = c"OTEL_CTX";

const _: () = assert!(NAME.to_bytes().len() == SIGNATURE.len());

/// The mapping, and the payload that its header points to. Dropped, it is gone from the process.
///
/// The payload has an allocation of its own, so that the next one can be complete before the header says
/// so, whatever its size.
#[derive(Debug)]
pub(super) struct Mapping {
    memory: MmapMut,
    payload: Box<[u8]>,
}

impl Mapping {
    /// A mapping that readers can find once it is published. `memfd` is [`memfd`], except in tests.
    pub(super) fn create(memfd: impl FnOnce() -> io::Result<File>) -> Result<Self, PublishError> {
        let from_memfd = memfd().and_then(|file| {
            file.set_len(size_of::<Header>() as u64)?;
            // SAFETY: the file must not change while mapped. `file` is the only descriptor of a file that
            // has no path, and it is closed on return; the mapping is private.
            unsafe { MmapOptions::new().len(size_of::<Header>()).map_copy(&file) }
        });
        let (memory, memfd_error) = match from_memfd {
            Ok(memory) => (Ok(memory), None),
            Err(error) => (MmapMut::map_anon(size_of::<Header>()), Some(error)),
        };
        let mut memory = memory.map_err(|source| PublishError::Mapping { source })?;
        memory
            .advise(Advice::DontFork)
            .map_err(|source| PublishError::Mapping { source })?;
        let header = Header {
            signature: SIGNATURE,
            version: VERSION,
            payload_size: 0,
            published_at: 0,
            payload: 0,
        };
        // SAFETY: the mapping starts at a page, is as long as a header, and is writable; `memory` is ours
        // alone. The write is volatile because the readers are outside of the program.
        unsafe { memory.as_mut_ptr().cast::<Header>().write_volatile(header) };
        // A kernel without names for mappings refuses; a memfd can be found without.
        if let (Err(naming), Some(memfd)) = (name(&memory), memfd_error) {
            return Err(PublishError::Nameless { memfd, naming });
        }
        Ok(Self {
            memory,
            payload: Box::default(),
        })
    }

    /// The payload that is published.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Replaces the payload. `published_at` differs from that of every earlier payload, and is not 0.
    pub(super) fn publish(&mut self, payload: Box<[u8]>, published_at: u64) {
        let old = core::mem::replace(&mut self.payload, payload);
        let address = self.payload.as_ptr().expose_provenance() as u64;
        // The limit on payloads is far below.
        let size = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let header = self.memory.as_mut_ptr().cast::<Header>();
        // SAFETY: the mapping starts at a page and is as long as a header, so each field is aligned and
        // inside; `&mut self` keeps other writers away, and nothing in the program reads it otherwise.
        let (published, payload_size, payload_address) = unsafe {
            (
                AtomicU64::from_ptr(&raw mut (*header).published_at),
                AtomicU32::from_ptr(&raw mut (*header).payload_size),
                AtomicU64::from_ptr(&raw mut (*header).payload),
            )
        };
        published.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        payload_size.store(size, Ordering::Relaxed);
        payload_address.store(address, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        published.store(published_at, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Whoever was reading the old payload finds another timestamp from here on, and reads again.
        drop(old);
        // Readers watch this call to learn of changes; the mapping had its chance of a name in `create`.
        let _ = name(&self.memory);
    }

    /// Tells readers that nothing is published, and unmaps.
    pub(super) fn withdraw(mut self) {
        let header = self.memory.as_mut_ptr().cast::<Header>();
        // SAFETY: as in `publish`.
        let published = unsafe { AtomicU64::from_ptr(&raw mut (*header).published_at) };
        published.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// An empty file in memory named `OTEL_CTX`.
pub(super) fn memfd() -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match memfd_create(flags | libc::MFD_NOEXEC_SEAL) {
        // Linux before 6.3 does not know the flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => memfd_create(flags),
        result => result,
    }
}

fn memfd_create(flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a C string.
    let descriptor = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Names a mapping `OTEL_CTX`.
fn name(memory: &MmapMut) -> io::Result<()> {
    // SAFETY: the range is a mapping of ours, the name is a C string; the kernel copies it and changes no
    // memory. All five arguments are of the width that prctl reads.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME as c_ulong,
            memory.as_ptr().addr() as c_ulong,
            memory.len() as c_ulong,
            NAME.as_ptr(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Nanoseconds since boot, suspended time included.
pub(super) fn boot_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec that the call may write. It fails only on a kernel without the clock
    // (before 2.6.39) and leaves 0 then, which callers must expect of a clock anyway.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// Knows the process that made it from the children that inherit it.
///
/// A pid alone does not: a grandchild can be given the pid of an ancestor that has ended. The kernel
/// empties the page in a child.
#[derive(Debug)]
pub(super) struct ForkMark {
    pid: u32,
    /// `None` on a kernel that does not empty pages (before 4.14): there the pid has to do.
    page: Option<MmapMut>,
}

impl ForkMark {
    pub(super) fn new() -> Self {
        let page = MmapMut::map_anon(1).ok().and_then(|mut page| {
            // SAFETY: the range is a private anonymous mapping of ours; the call affects children alone.
            let result = unsafe {
                libc::madvise(page.as_mut_ptr().cast(), page.len(), libc::MADV_WIPEONFORK)
            };
            page[0] = 1;
            (result == 0).then_some(page)
        });
        Self {
            pid: std::process::id(),
            page,
        }
    }

    pub(super) fn is_of_this_process(&self) -> bool {
        let marked = self.page.as_ref().is_none_or(|page| {
            // SAFETY: the page is mapped, and nobody writes to it after `new`; volatile because a fork
            // changes it behind the compiler's back.
            unsafe { page.as_ptr().read_volatile() == 1 }
        });
        marked && self.pid == std::process::id()
    }
}

#[cfg(test)]
mod tests {
    use super::ForkMark;
    use crate::process_context::tests::alone;
    use crate::process_context::tests::fork::{forks_as_linux_does, in_child};

    #[test]
    fn a_child_with_its_ancestors_pid_is_still_another_process() {
        let _alone = alone();
        if !forks_as_linux_does() {
            return;
        }
        let mut mark = ForkMark::new();
        assert!(mark.is_of_this_process());
        let by_page = mark.page.is_some();
        in_child(|| {
            let other_pid = !mark.is_of_this_process();
            mark.pid = std::process::id();
            let same_pid = !mark.is_of_this_process();
            (other_pid && same_pid == by_page)
                .then_some(())
                .ok_or(format!("told by pid: {other_pid}, by page: {same_pid}"))
        })
        .expect("the child knows that it is another process");
        assert!(mark.is_of_this_process());
    }
}
