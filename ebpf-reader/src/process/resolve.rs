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
            // An offset that happens to be an address.
            .or_else(|| self.in_static_block(argument))
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
