//! The file header and the segments.

use object::LittleEndian as LE;
use object::elf;

use super::bytes::{Bytes, read_pod, read_string, read_table};
use super::{ElfError, Machine};

/// Most program headers that are looked at; linkers write about a dozen.
const MAX_PROGRAM_HEADERS: u16 = 512;
/// Longest path of a loader.
const MAX_PATH: usize = 4096;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An executable at a fixed address (`ET_EXEC`).
    Fixed,
    /// A position-independent executable or a shared object (`ET_DYN`).
    PositionIndependent,
    /// Something else: an object file, a core dump.
    Other,
}

/// A PT_LOAD segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Address in the file's own address space.
    pub vaddr: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Alignment.
    pub align: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// The PT_TLS segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSegment {
    /// Address in the file's own address space.
    pub vaddr: u64,
    /// Size in memory.
    pub memsz: u64,
    /// Alignment, a power of two.
    pub align: u64,
}

impl TlsSegment {
    /// Offset from the thread pointer of a symbol at `symbol` in the main executable's segment, which is
    /// the first one in the static block: right below the thread pointer on x86-64, after the 16
    /// bytes of the thread control block on aarch64.
    pub fn static_offset(&self, machine: Machine, symbol: u64) -> Option<i64> {
        let mask = self.align.checked_sub(1)?;
        let offset = match machine {
            Machine::X86_64 => {
                // As far below as the size demands, plus what keeps the address congruent to p_vaddr.
                let padding = self.vaddr.wrapping_neg().wrapping_sub(self.memsz) & mask;
                i128::from(symbol) - i128::from(self.memsz) - i128::from(padding)
            }
            Machine::Aarch64 => {
                // The first address after the control block that is congruent to p_vaddr.
                let block = 16_u64.checked_add(self.vaddr.wrapping_sub(16) & mask)?;
                i128::from(symbol) + i128::from(block)
            }
        };
        i64::try_from(offset).ok()
    }
}

/// Where the section headers lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionTable {
    pub(super) offset: u64,
    pub(super) count: u16,
    pub(super) entry_size: u16,
}

/// What the file header and the program headers say.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) machine: Machine,
    pub(super) kind: Kind,
    pub(super) entry: u64,
    pub(super) loads: Vec<Load>,
    pub(super) tls: Option<TlsSegment>,
    pub(super) interpreter: Option<String>,
    /// PT_DYNAMIC: address, offset in the file, size in the file.
    pub(super) dynamic: Option<(u64, u64, u64)>,
    /// Each PT_NOTE: offset in the file, size in the file.
    pub(super) notes: Vec<(u64, u64)>,
    pub(super) sections: SectionTable,
}

impl Headers {
    pub(super) fn read<B: Bytes + ?Sized>(bytes: &B) -> Result<Self, ElfError> {
        let header: elf::FileHeader64<LE> = read_pod(bytes, 0)?;
        let ident = header.e_ident;
        if ident.magic != elf::ELFMAG
            || ident.class != elf::ELFCLASS64
            || ident.data != elf::ELFDATA2LSB
        {
            return Err(ElfError::NotSupported);
        }
        let machine = match header.e_machine.get(LE) {
            elf::EM_X86_64 => Machine::X86_64,
            elf::EM_AARCH64 => Machine::Aarch64,
            _ => return Err(ElfError::NotSupported),
        };
        let kind = match header.e_type.get(LE) {
            elf::ET_EXEC => Kind::Fixed,
            elf::ET_DYN => Kind::PositionIndependent,
            _ => Kind::Other,
        };
        let segments = program_headers(bytes, &header)?;
        let of_type = |kind: u32| {
            segments
                .iter()
                .filter(move |segment| segment.p_type.get(LE) == kind)
        };
        let loads = of_type(elf::PT_LOAD).map(|segment| Load {
            vaddr: segment.p_vaddr.get(LE),
            offset: segment.p_offset.get(LE),
            filesz: segment.p_filesz.get(LE),
            align: segment.p_align.get(LE),
            executable: segment.p_flags.get(LE) & elf::PF_X != 0,
        });
        let interpreter = of_type(elf::PT_INTERP)
            .next()
            .and_then(|segment| read_string(bytes, segment.p_offset.get(LE), MAX_PATH));
        let dynamic = of_type(elf::PT_DYNAMIC).next().map(|segment| {
            (
                segment.p_vaddr.get(LE),
                segment.p_offset.get(LE),
                segment.p_filesz.get(LE),
            )
        });
        let notes = of_type(elf::PT_NOTE)
            .map(|segment| (segment.p_offset.get(LE), segment.p_filesz.get(LE)));
        Ok(Self {
            machine,
            kind,
            entry: header.e_entry.get(LE),
            loads: loads.collect(),
            tls: of_type(elf::PT_TLS).next().map(tls_segment).transpose()?,
            interpreter,
            dynamic,
            notes: notes.collect(),
            sections: SectionTable {
                offset: header.e_shoff.get(LE),
                count: header.e_shnum.get(LE),
                entry_size: header.e_shentsize.get(LE),
            },
        })
    }
}

/// The file offset of an address, by the PT_LOAD segments.
pub(super) fn file_offset(loads: &[Load], address: u64) -> Option<u64> {
    loads.iter().find_map(|load| {
        let within = address.checked_sub(load.vaddr)?;
        (within < load.filesz).then(|| load.offset.checked_add(within))?
    })
}

fn program_headers<B: Bytes + ?Sized>(
    bytes: &B,
    header: &elf::FileHeader64<LE>,
) -> Result<Vec<elf::ProgramHeader64<LE>>, ElfError> {
    let count = header.e_phnum.get(LE);
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(header.e_phentsize.get(LE)) != size_of::<elf::ProgramHeader64<LE>>() {
        return Err(ElfError::Malformed("program headers of an unknown size"));
    }
    if count > MAX_PROGRAM_HEADERS {
        return Err(ElfError::Malformed("too many program headers"));
    }
    let offset = header.e_phoff.get(LE);
    read_table(bytes, offset, u64::from(count), "its table of segments")
}

fn tls_segment(header: &elf::ProgramHeader64<LE>) -> Result<TlsSegment, ElfError> {
    // 0 and 1 both mean that alignment does not matter.
    let align = header.p_align.get(LE).max(1);
    if !align.is_power_of_two() {
        return Err(ElfError::Malformed(
            "the alignment of PT_TLS is not a power of two",
        ));
    }
    Ok(TlsSegment {
        vaddr: header.p_vaddr.get(LE),
        memsz: header.p_memsz.get(LE),
        align,
    })
}
