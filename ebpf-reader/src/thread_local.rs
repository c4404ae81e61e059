//! From a [`Place`] to an address in one thread: the arithmetic of thread-local storage.
//!
//! The same in the kernel side (`bpf/thread_local.h`). A dynamic thread vector (DTV) belongs to the C library
//! of the process, and lies in memory that the process can write to: everything in it may be wrong.

use crate::elf::Machine;
use crate::published::ReadMemory;
use crate::sample::{Libc, Place};

/// Where the vector's address lies, as an offset from the thread pointer.
const fn vector_offset(machine: Machine, libc: Libc) -> i64 {
    match (machine, libc) {
        // tcbhead_t.dtv and musl's struct pthread, both after a pointer to itself.
        (Machine::X86_64, _) => 8,
        // tcbhead_t.dtv, right at the thread pointer.
        (Machine::Aarch64, Libc::Glibc) => 0,
        // The last member of struct pthread, which lies below the thread pointer.
        (Machine::Aarch64, Libc::Musl) => -8,
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
    let machine = Machine::native().unwrap_or(Machine::X86_64);
    address_on(machine, memory, thread_pointer, libc, place)
}

fn address_on(
    machine: Machine,
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
    let vector = word(thread_pointer.wrapping_add_signed(vector_offset(machine, libc)))?;
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Words by their addresses.
    struct Fake(HashMap<u64, u64>);

    impl ReadMemory for Fake {
        fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
            for (index, bytes) in buffer.chunks_mut(8).enumerate() {
                let word = self.0.get(&address.wrapping_add(index as u64 * 8))?;
                bytes.copy_from_slice(&word.to_ne_bytes());
            }
            Some(())
        }
    }

    const POINTER: u64 = 0x7000_0000;
    const VECTOR: u64 = 0x5000;
    const GENERATION: u64 = 7;
    const CASES: [(Machine, Libc); 4] = [
        (Machine::X86_64, Libc::Glibc),
        (Machine::X86_64, Libc::Musl),
        (Machine::Aarch64, Libc::Glibc),
        (Machine::Aarch64, Libc::Musl),
    ];

    /// A thread with blocks of three modules, of which it has touched the first and the third.
    fn thread(machine: Machine, libc: Libc) -> Fake {
        let at = match (machine, libc) {
            (Machine::X86_64, _) => POINTER + 8,
            (Machine::Aarch64, Libc::Glibc) => POINTER,
            (Machine::Aarch64, Libc::Musl) => POINTER - 8,
        };
        let words: &[(u64, u64)] = match libc {
            // dtv[-1]: room for that many, dtv[0]: the generation; {pointer, to be freed} for each module.
            Libc::Glibc => &[
                (VECTOR - 16, 3),
                (VECTOR, GENERATION),
                (VECTOR + 16, 0x1_0000),
                (VECTOR + 32, UNALLOCATED),
                (VECTOR + 48, 0x3_0000),
            ],
            // dtv[0]: how many; a pointer for each module.
            Libc::Musl => &[
                (VECTOR, 3),
                (VECTOR + 8, 0x1_0000),
                (VECTOR + 16, 0),
                (VECTOR + 24, 0x3_0000),
            ],
        };
        let words = words.iter().copied().chain([(at, VECTOR)]);
        Fake(words.collect())
    }

    fn dynamic(module: u64, generation: u64) -> Place {
        Place::Dynamic {
            module,
            offset: 0x18,
            generation,
        }
    }

    #[test]
    fn the_static_block_needs_no_vector() {
        let nothing = Fake(HashMap::new());
        for (machine, libc) in CASES {
            for (offset, expected) in [(-16, POINTER - 16), (24, POINTER + 24)] {
                let place = Place::Static { offset };
                let found = address_on(machine, &nothing, POINTER, libc, place);
                assert_eq!(found, Ok(Some(expected)));
            }
        }
    }

    #[test]
    fn dynamic_blocks_are_found_through_the_vector() {
        for (machine, libc) in CASES {
            let memory = thread(machine, libc);
            let find = |place| address_on(machine, &memory, POINTER, libc, place);
            assert_eq!(
                find(dynamic(1, 0)),
                Ok(Some(0x1_0018)),
                "{machine:?} {libc:?}"
            );
            assert_eq!(find(dynamic(3, GENERATION)), Ok(Some(0x3_0018)));
            // Not touched yet; loaded after the vector was made; beyond reason.
            for module in [2, 4, u64::MAX] {
                assert_eq!(find(dynamic(module, 0)), Ok(None), "{machine:?} {libc:?}");
            }
        }
    }

    #[test]
    fn a_vector_that_is_out_of_date_has_no_block() {
        let (machine, libc) = (Machine::X86_64, Libc::Glibc);
        let memory = thread(machine, libc);
        let find = |place| address_on(machine, &memory, POINTER, libc, place);
        assert_eq!(find(dynamic(1, GENERATION + 1)), Ok(None));
        assert_eq!(find(dynamic(1, u64::MAX)), Ok(None));
    }

    #[test]
    fn a_thread_that_is_being_set_up_has_no_block_and_a_wild_vector_is_unreadable() {
        for (machine, libc) in CASES {
            let at = POINTER.wrapping_add_signed(vector_offset(machine, libc));
            for (vector, expected) in [
                (0, Ok(None)),
                (0x9999, Err(Unreadable)),
                (u64::MAX, Err(Unreadable)),
            ] {
                let memory = Fake(HashMap::from([(at, vector)]));
                let found = address_on(machine, &memory, POINTER, libc, dynamic(1, 0));
                assert_eq!(found, expected, "{machine:?} {libc:?} {vector:#x}");
            }
            let nothing = Fake(HashMap::new());
            let found = address_on(machine, &nothing, POINTER, libc, dynamic(1, 0));
            assert_eq!(found, Err(Unreadable));
        }
    }
}
