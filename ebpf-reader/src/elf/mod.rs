//! The ELF file of a program: where its thread-local symbols lie.
//!
//! A symbol's file position says nothing about a thread; what a reader needs is its offset from the
//! thread pointer, which [`Elf::locations`] computes for the main executable of a process. Files
//! are read piece by piece through [`Bytes`], never mapped: a program that truncates its own file
//! must not hurt the reader. Nothing in a file is trusted, every loop has a bound.

mod dynamic;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::LittleEndian as LE;
use object::elf;
use object::pod;
use otel_profiling::abi::{custom_labels, thread_context};

use crate::sample::{Libc, Locations, Place, Places};

/// Most program headers that are looked at; linkers write about a dozen.
const MAX_PROGRAM_HEADERS: u16 = 512;

/// Something whose bytes can be read at an offset.
pub trait Bytes {
    /// Fills `buffer` with the bytes at `offset`, or fails.
    ///
    /// # Errors
    /// If there are not that many bytes, or they cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Bytes for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Bytes for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Why a file could not be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file ends early or cannot be read.
    #[error("cannot be read")]
    Read(#[from] io::Error),
    /// It is something else than a 64-bit little-endian ELF file for x86-64 or aarch64.
    #[error("not a 64-bit little-endian ELF file for x86-64 or aarch64")]
    NotSupported,
    /// Its headers contradict themselves.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Instruction set of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Machine {
    /// x86-64: thread-local storage lies below the thread pointer.
    X86_64,
    /// aarch64: thread-local storage lies above the thread pointer.
    Aarch64,
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

/// What a file says about its thread-local symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Instruction set.
    pub machine: Machine,
    /// The thread-local segment, if it has one.
    pub tls: Option<TlsSegment>,
    /// Offset of `otel_thread_ctx_v1` in the thread-local segment, if `.dynsym` exports it properly.
    pub thread_context: Option<u64>,
    /// Offset of `custom_labels_current_set` in the thread-local segment, likewise.
    pub custom_labels: Option<u64>,
}

impl Elf {
    /// Reads what is needed of a file.
    ///
    /// # Errors
    /// If the file cannot be read or is malformed.
    pub fn read<B: Bytes + ?Sized>(bytes: &B) -> Result<Self, ElfError> {
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
        let headers = program_headers(bytes, &header)?;
        let tls = tls_segment(&headers)?;
        let mut found = Self {
            machine,
            tls,
            thread_context: None,
            custom_labels: None,
        };
        if let Some(tls) = tls {
            let symbols = dynamic::Symbols::read(bytes, &headers)?;
            let offset = |name, size| match &symbols {
                Some(symbols) => symbols.tls_symbol(bytes, name, size, tls.memsz),
                None => Ok(None),
            };
            found.thread_context = offset(thread_context::SYMBOL, thread_context::SYMBOL_SIZE)?;
            found.custom_labels = offset(custom_labels::SYMBOL, custom_labels::SYMBOL_SIZE)?;
        }
        Ok(found)
    }

    /// Offsets from the thread pointer of a process whose main executable this is.
    pub fn locations(&self) -> Locations {
        let from_thread_pointer = |symbol: Option<u64>| {
            let offset = self.tls?.static_offset(self.machine, symbol?)?;
            Some(Place::Static { offset })
        };
        Locations {
            libc: Libc::default(),
            thread_context: from_thread_pointer(self.thread_context)
                .map_or(Places::NONE, Places::from),
            custom_labels: from_thread_pointer(self.custom_labels)
                .map_or(Places::NONE, Places::from),
        }
    }
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

fn program_headers<B: Bytes + ?Sized>(
    bytes: &B,
    header: &elf::FileHeader64<LE>,
) -> Result<Vec<elf::ProgramHeader64<LE>>, ElfError> {
    let size = size_of::<elf::ProgramHeader64<LE>>();
    let count = header.e_phnum.get(LE);
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(header.e_phentsize.get(LE)) != size {
        return Err(ElfError::Malformed("program headers of an unknown size"));
    }
    if count > MAX_PROGRAM_HEADERS {
        return Err(ElfError::Malformed("too many program headers"));
    }
    let mut table = vec![0; size * usize::from(count)];
    bytes.read_at(header.e_phoff.get(LE), &mut table)?;
    pod::slice_from_all_bytes(&table)
        .map(<[_]>::to_vec)
        .map_err(|()| ElfError::Malformed("program headers of an unknown size"))
}

fn tls_segment(headers: &[elf::ProgramHeader64<LE>]) -> Result<Option<TlsSegment>, ElfError> {
    let Some(header) = headers
        .iter()
        .find(|header| header.p_type.get(LE) == elf::PT_TLS)
    else {
        return Ok(None);
    };
    // 0 and 1 both mean that alignment does not matter.
    let align = header.p_align.get(LE).max(1);
    if !align.is_power_of_two() {
        return Err(ElfError::Malformed(
            "the alignment of PT_TLS is not a power of two",
        ));
    }
    Ok(Some(TlsSegment {
        vaddr: header.p_vaddr.get(LE),
        memsz: header.p_memsz.get(LE),
        align,
    }))
}

fn read_pod<B: Bytes + ?Sized, T: pod::Pod>(bytes: &B, offset: u64) -> Result<T, ElfError> {
    let mut buffer = vec![0; size_of::<T>()];
    bytes.read_at(offset, &mut buffer)?;
    pod::from_bytes::<T>(&buffer)
        .map(|(value, _)| *value)
        .map_err(|()| ElfError::Malformed("a structure is cut short"))
}

#[cfg(test)]
mod tests;
