//! From what the dynamic linker filled in to places: reads the slots of references in a process's memory.
//!
//! The memory belongs to the process. A slot may not be filled in yet, or hold anything.

use super::memory::Memory;
use crate::elf::{Access, Elf, Machine, Reference};
use crate::sample::{Libc, Place};

/// Offsets in static thread-local storage have 32 bits in every model of code.
const MAX_STATIC: i64 = 1 << 31;
/// Modules with thread-local storage in one process.
const MAX_MODULE: u64 = 1 << 20;

/// What is asked of a process's memory; a test has its own.
pub(super) trait Words {
    /// `N` words at an address, if it is one.
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]>;
}

impl Words for Memory {
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        Memory::words(self, address)
    }
}

/// What is known of the process beside its memory.
pub(super) struct Process<'a> {
    pub(super) machine: Machine,
    pub(super) libc: Libc,
    /// Whether an address lies in code.
    pub(super) is_code: &'a dyn Fn(u64) -> bool,
    /// The offsets that the pointer has in the modules that define it.
    pub(super) offsets: &'a [u64],
}

impl Process<'_> {
    /// The place to which a reference in the module at `base` leads; `None` if its slot is not filled in yet,
    /// or leads nowhere.
    pub(super) fn place(
        &self,
        memory: &impl Words,
        elf: &Elf,
        base: u64,
        reference: &Reference,
    ) -> Option<Place> {
        let slot = base.wrapping_add(reference.vaddr);
        match reference.access {
            Access::InitialExec => {
                let [offset] = memory.words(slot)?;
                self.in_static_block(offset)
            }
            Access::GeneralDynamic => {
                let [module, offset] = memory.words(slot)?;
                self.in_dynamic_block(module, offset, 0)
            }
            Access::Descriptor => {
                let [resolver, argument] = memory.words(slot)?;
                if !(self.is_code)(resolver) {
                    return None;
                }
                // Older C libraries leave a relocation there until the first use.
                let is_unresolved = elf
                    .dynamic
                    .as_ref()
                    .is_some_and(|dynamic| dynamic.is_in_relocations(argument.wrapping_sub(base)));
                if is_unresolved {
                    return None;
                }
                self.by_argument(memory, argument)
            }
        }
    }

    /// The argument of a descriptor is an offset, or an address of {module, offset}. Never told apart by sign:
    /// static offsets are positive on aarch64.
    fn by_argument(&self, memory: &impl Words, argument: u64) -> Option<Place> {
        let Some([module, offset]) = memory.words(argument) else {
            return self.in_static_block(argument);
        };
        // glibc has the generation behind them; musl has something else there.
        let generation = match self.libc {
            Libc::Glibc => memory
                .words(argument)
                .map_or(0, |[_, _, generation]| generation),
            Libc::Musl => 0,
        };
        self.in_dynamic_block(module, offset, generation)
    }

    fn in_static_block(&self, offset: u64) -> Option<Place> {
        let offset = offset.cast_signed();
        // What lies around the thread pointer is the C library's; a weak symbol that nobody defines has
        // offset 0.
        let is_possible = match self.machine {
            Machine::X86_64 => (-MAX_STATIC..=-8).contains(&offset),
            Machine::Aarch64 => (16..MAX_STATIC).contains(&offset),
        };
        is_possible.then_some(Place::Static { offset })
    }

    fn in_dynamic_block(&self, module: u64, offset: u64, generation: u64) -> Option<Place> {
        let is_possible = (1..=MAX_MODULE).contains(&module) && self.offsets.contains(&offset);
        is_possible.then_some(Place::Dynamic {
            module,
            offset,
            generation,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::File;

    use super::*;
    use crate::elf::Pointer;

    /// Words by their addresses.
    struct Fake(HashMap<u64, u64>);

    impl Words for Fake {
        fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
            let mut words = [0; N];
            for (index, word) in (0..).zip(&mut words) {
                *word = *self.0.get(&address.wrapping_add(index * 8))?;
            }
            Some(words)
        }
    }

    const BASE: u64 = 0x7f00_0000_0000;
    const SLOT: u64 = BASE + 0x3000;
    const CODE: u64 = BASE + 0x1000;
    const OFFSET: u64 = 0x18;
    const MINUS_16: u64 = 16_u64.wrapping_neg();

    /// Where a slot with these words leads.
    fn place(
        machine: Machine,
        libc: Libc,
        access: Access,
        slot: [u64; 2],
        elsewhere: &[(u64, u64)],
    ) -> Option<Place> {
        let mut memory = HashMap::from([(SLOT, slot[0]), (SLOT + 8, slot[1])]);
        memory.extend(elsewhere.iter().copied());
        let process = Process {
            machine,
            libc,
            is_code: &|address| address == CODE,
            offsets: &[OFFSET],
        };
        // Any file will do: only its tables of relocations are asked for.
        let elf = Elf::read(&File::open("/proc/self/exe").unwrap()).unwrap();
        let reference = Reference {
            pointer: Pointer::ThreadContext,
            vaddr: SLOT - BASE,
            is_named: true,
            access,
        };
        process.place(&Fake(memory), &elf, BASE, &reference)
    }

    const DYNAMIC: Place = Place::Dynamic {
        module: 3,
        offset: OFFSET,
        generation: 0,
    };

    #[test]
    fn a_descriptor_of_the_static_block() {
        let find = |machine, slot| place(machine, Libc::Glibc, Access::Descriptor, slot, &[]);
        let below = Some(Place::Static { offset: -16 });
        assert_eq!(find(Machine::X86_64, [CODE, MINUS_16]), below);
        // Positive on aarch64: the sign does not tell.
        let above = Some(Place::Static { offset: 0x48 });
        assert_eq!(find(Machine::Aarch64, [CODE, 0x48]), above);
        // Not filled in, a weak symbol without definition, what cannot be.
        for slot in [
            [0, 0],
            [0, MINUS_16],
            [CODE, 0],
            [CODE, 0x10],
            [CODE, 1 << 63],
        ] {
            assert_eq!(find(Machine::X86_64, slot), None, "{slot:x?}");
        }
        for slot in [
            [0, 0x48],
            [CODE, 0],
            [CODE, 8],
            [CODE, MINUS_16],
            [CODE, 1 << 40],
        ] {
            assert_eq!(find(Machine::Aarch64, slot), None, "{slot:x?}");
        }
    }

    #[test]
    fn a_descriptor_of_a_dynamic_block() {
        // On the heap.
        let argument = 0x5555_0000;
        let words = [(argument, 3), (argument + 8, OFFSET), (argument + 16, 5)];
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let find = |libc, words: &[_]| {
                place(machine, libc, Access::Descriptor, [CODE, argument], words)
            };
            let with_generation = Place::Dynamic {
                module: 3,
                offset: OFFSET,
                generation: 5,
            };
            assert_eq!(find(Libc::Glibc, &words), Some(with_generation));
            assert_eq!(find(Libc::Glibc, &words[..2]), Some(DYNAMIC));
            // What lies behind is not a generation in musl.
            assert_eq!(find(Libc::Musl, &words), Some(DYNAMIC));
            // Another variable, no module, a module beyond reason.
            for (module, offset) in [(3, OFFSET + 8), (0, OFFSET), (1 << 40, OFFSET)] {
                let words = [(argument, module), (argument + 8, offset)];
                assert_eq!(find(Libc::Glibc, &words), None);
            }
        }
    }

    #[test]
    fn a_descriptor_that_waits_for_its_first_use_is_not_resolved() {
        let elf = Elf::read(&File::open("/proc/self/exe").unwrap()).unwrap();
        let Some(dynamic) = &elf.dynamic else { return };
        let (start, size) = dynamic.first_relocations().unwrap();
        assert!(dynamic.is_in_relocations(start) && dynamic.is_in_relocations(start + size - 1));
        assert!(!dynamic.is_in_relocations(0) && !dynamic.is_in_relocations(u64::MAX));
        let argument = BASE + start;
        let words = [(argument, 3), (argument + 8, OFFSET)];
        let found = place(
            Machine::X86_64,
            Libc::Glibc,
            Access::Descriptor,
            [CODE, argument],
            &words,
        );
        assert_eq!(found, None);
    }

    #[test]
    fn the_older_access_models() {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let find = |access, slot| place(machine, Libc::Glibc, access, slot, &[]);
            assert_eq!(find(Access::GeneralDynamic, [3, OFFSET]), Some(DYNAMIC));
            for slot in [[0, 0], [0, OFFSET], [3, OFFSET + 8], [u64::MAX, OFFSET]] {
                assert_eq!(find(Access::GeneralDynamic, slot), None, "{slot:x?}");
            }
            assert_eq!(find(Access::InitialExec, [0, 0]), None);
        }
        let find =
            |machine, offset| place(machine, Libc::Musl, Access::InitialExec, [offset, 0], &[]);
        let below = Some(Place::Static { offset: -16 });
        assert_eq!(find(Machine::X86_64, MINUS_16), below);
        let above = Some(Place::Static { offset: 0x48 });
        assert_eq!(find(Machine::Aarch64, 0x48), above);
    }
}
