//! From a [`Place`] to an address in one thread: the arithmetic of thread-local storage.
//!
//! The same in the kernel side (`bpf/thread_local.h`). A dynamic thread vector (DTV) belongs to the C library
//! of the process, and lies in memory that the process can write to: everything in it may be wrong.

use crate::published::ReadMemory;
use crate::sample::{Libc, Place};

/// Where the vector's address lies, as an offset from the thread pointer.
const fn vector_offset(libc: Libc) -> i64 {
    match libc {
        // tcbhead_t.dtv and musl's struct pthread, both after a pointer to itself.
        Libc::Glibc | Libc::Musl if cfg!(target_arch = "x86_64") => 8,
        // tcbhead_t.dtv, right at the thread pointer.
        Libc::Glibc => 0,
        // The last member of struct pthread, which lies below the thread pointer.
        Libc::Musl => -8,
    }
}

/// glibc: an entry of the vector for a block that the thread has not touched.
const UNALLOCATED: u64 = u64::MAX;

/// The address of a place in the thread with this thread pointer. `Ok(None)`: the thread has no such block
/// yet. `Err`: the way there leads to memory that cannot be read.
pub(crate) fn address(
    memory: &impl ReadMemory,
    thread_pointer: u64,
    libc: Libc,
    place: Place,
) -> Result<Option<u64>, Unreadable> {
    let (module, offset, generation) = match place {
        Place::Static { offset } => return Ok(Some(thread_pointer.wrapping_add_signed(offset))),
        Place::Dynamic {
            module,
            offset,
            generation,
        } => (module, offset, generation),
    };
    let word = |address: u64| {
        let [word] = memory.words(address).ok_or(Unreadable)?;
        Ok(word)
    };
    let vector = word(thread_pointer.wrapping_add_signed(vector_offset(libc)))?;
    // A thread that is being set up.
    if vector == 0 {
        return Ok(None);
    }
    let block = match libc {
        Libc::Glibc => {
            let capacity = word(vector.wrapping_sub(16))?;
            if module > capacity || word(vector)? < generation {
                return Ok(None);
            }
            word(vector.wrapping_add(module.wrapping_mul(16)))?
        }
        Libc::Musl => {
            if module > word(vector)? {
                return Ok(None);
            }
            word(vector.wrapping_add(module.wrapping_mul(8)))?
        }
    };
    Ok((block != 0 && block != UNALLOCATED).then(|| block.wrapping_add(offset)))
}

/// Something on the way to a thread-local block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;
