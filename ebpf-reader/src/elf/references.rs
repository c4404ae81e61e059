//! Relocations that concern the thread-local pointers: where the dynamic linker leaves what leads to them.
//!
//! A relocation names the symbol, or, where the symbol cannot be interposed, the file's own thread-local
//! segment and the symbol's offset in it.

use std::collections::HashMap;

use object::LittleEndian as LE;
use object::elf;

use super::bytes::{Bytes, for_each};
use super::headers::file_offset;
use super::{Elf, ElfError, Machine, Pointer};

/// References to both pointers together that are kept; compilers and linkers make one or two for each.
const MAX_REFERENCES: usize = 64;
/// Different symbols of thread-local relocations that are looked at.
const MAX_SYMBOLS: usize = 1 << 14;

/// A place in the module that the dynamic linker fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Which pointer it leads to.
    pub pointer: Pointer,
    /// Its address in the file's own address space.
    pub vaddr: u64,
    /// What is filled in.
    pub access: Access,
    /// Whether the relocation names the symbol. If not, it is one against the file's own segment.
    pub is_named: bool,
}

/// How code gets from a [`Reference`] to the address in the running thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// TLSDESC: a resolver to call, and its argument.
    Descriptor,
    /// Legacy general dynamic: the module's number and the offset in its block.
    GeneralDynamic,
    /// Initial exec: the offset from the thread pointer.
    InitialExec,
}

impl Access {
    fn of(machine: Machine, relocation: u32) -> Option<Self> {
        match (machine, relocation) {
            (Machine::X86_64, elf::R_X86_64_TLSDESC)
            | (Machine::Aarch64, elf::R_AARCH64_TLSDESC) => Some(Self::Descriptor),
            (Machine::X86_64, elf::R_X86_64_DTPMOD64)
            | (Machine::Aarch64, elf::R_AARCH64_TLS_DTPMOD) => Some(Self::GeneralDynamic),
            (Machine::X86_64, elf::R_X86_64_TPOFF64)
            | (Machine::Aarch64, elf::R_AARCH64_TLS_TPREL) => Some(Self::InitialExec),
            _ => None,
        }
    }
}

/// What a symbol of the table is to the pointers.
#[derive(Clone, Copy)]
enum Target {
    Named(Pointer),
    /// At this offset in the file's own segment.
    Own(u64),
    Other,
}

impl Elf {
    /// The relocations of the dynamic segment that concern the two pointers.
    ///
    /// # Errors
    /// If the tables cannot be read, contradict themselves or are too large.
    pub fn references<B: Bytes + ?Sized>(&self, bytes: &B) -> Result<Vec<Reference>, ElfError> {
        let mut found = Vec::new();
        let Some(dynamic) = &self.dynamic else {
            return Ok(found);
        };
        let mut known: HashMap<u32, Target> = HashMap::new();
        let mut constants = MAX_SYMBOLS;
        for (offset, size) in dynamic.relocations.iter().flatten() {
            let count = size / size_of::<elf::Rela64<LE>>() as u64;
            for_each(
                bytes,
                *offset,
                count,
                "its table of relocations",
                |_, relocation: &elf::Rela64<LE>| {
                    let info = relocation.r_info.get(LE);
                    let Some(access) = Access::of(self.machine, info as u32) else {
                        return Ok(true);
                    };
                    let symbol = (info >> 32) as u32;
                    let target = match known.get(&symbol) {
                        Some(&target) => target,
                        None if known.len() >= MAX_SYMBOLS => {
                            return Err(ElfError::TooLarge("its table of relocations"));
                        }
                        None => {
                            let target = self.target(bytes, symbol)?;
                            known.insert(symbol, target);
                            target
                        }
                    };
                    let vaddr = relocation.r_offset.get(LE);
                    let addend = relocation.r_addend.get(LE) as u64;
                    let target = match target {
                        // One number for all blocks of the module: the offset beside it is constant.
                        Target::Own(_) if access == Access::GeneralDynamic => {
                            match self.constant(bytes, vaddr.wrapping_add(8), &mut constants) {
                                Some(offset) => Target::Own(offset.wrapping_sub(addend)),
                                None => Target::Other,
                            }
                        }
                        target => target,
                    };
                    for pointer in self.meant(target, addend) {
                        found.push(Reference {
                            pointer,
                            vaddr,
                            access,
                            is_named: matches!(target, Target::Named(_)),
                        });
                    }
                    Ok(found.len() < MAX_REFERENCES)
                },
            )?;
        }
        Ok(found)
    }

    fn target<B: Bytes + ?Sized>(&self, bytes: &B, index: u32) -> Result<Target, ElfError> {
        if index == 0 {
            return Ok(Target::Own(0));
        }
        let symbols = self
            .dynamic
            .as_ref()
            .and_then(|dynamic| dynamic.symbols.as_ref());
        let Some(symbols) = symbols else {
            return Ok(Target::Other);
        };
        let symbol = symbols.symbol(bytes, index)?;
        for pointer in Pointer::ALL {
            if symbols.is_named(bytes, &symbol, pointer.symbol())? {
                return Ok(Target::Named(pointer));
            }
        }
        let is_local =
            symbol.st_info >> 4 == elf::STB_LOCAL && symbol.st_shndx.get(LE) != elf::SHN_UNDEF;
        Ok(if is_local {
            Target::Own(symbol.st_value.get(LE))
        } else {
            Target::Other
        })
    }

    /// A word of the file's data, while `left` of them may be read.
    fn constant<B: Bytes + ?Sized>(&self, bytes: &B, vaddr: u64, left: &mut usize) -> Option<u64> {
        *left = left.checked_sub(1)?;
        let mut word = [0; 8];
        let offset = file_offset(&self.loads, vaddr)?;
        bytes.read_at(offset, &mut word).ok()?;
        Some(u64::from_le_bytes(word))
    }

    /// The pointers to which a relocation against `target` may lead.
    fn meant(&self, target: Target, addend: u64) -> impl Iterator<Item = Pointer> + use<> {
        let own = Pointer::ALL.map(|pointer| self.tls_offset(pointer));
        Pointer::ALL
            .into_iter()
            .zip(own)
            .filter(move |&(pointer, own)| match target {
                Target::Named(named) => named == pointer && addend == 0,
                Target::Own(value) => own == Some(value.wrapping_add(addend)),
                Target::Other => false,
            })
            .map(|(pointer, _)| pointer)
    }
}
