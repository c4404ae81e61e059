//! The ELF file of a program or shared object: where its thread-local symbols lie, and what leads to them.
//!
//! A symbol's file position says nothing about a thread; what a reader needs is its offset from the
//! thread pointer, which [`Elf::main_executable_place`] computes for a main executable, or the places that
//! the dynamic linker fills in ([`Elf::references`]). Files are read piece by piece through [`Bytes`], never
//! mapped: a program that truncates its own file must not hurt the reader. Nothing in a file is
//! trusted, every loop has a bound: at most some hundred megabytes are read of the largest file, and
//! some hundred kilobytes of an ordinary one.

mod build_id;
mod bytes;
mod dynamic;
mod headers;
mod references;
mod symbol;
mod symtab;

use std::io;

use object::elf;
use otel_profiling::abi::custom_labels;

pub use build_id::BuildId;
pub use bytes::Bytes;
pub use dynamic::Dynamic;
use headers::Headers;
pub use headers::{Kind, Load, TlsSegment};
pub use references::{Access, Reference};
pub use symbol::{Named, Pointer, Symbol};
use symtab::Symtab;

use crate::sample::Place;

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
    /// A part of it is larger than what is read of it.
    #[error("{0} is too large")]
    TooLarge(&'static str),
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

impl Machine {
    /// The one that this program runs on, if files for it are understood.
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }
}

/// What a file says about itself and its thread-local symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elf {
    /// Instruction set.
    pub machine: Machine,
    /// Fixed or position-independent.
    pub kind: Kind,
    /// Address of the first instruction in the file's own address space.
    pub entry: u64,
    /// The PT_LOAD segments.
    pub loads: Vec<Load>,
    /// The thread-local segment, if it has one.
    pub tls: Option<TlsSegment>,
    /// Path of the dynamic loader that the kernel starts with it, if it names one.
    pub interpreter: Option<String>,
    /// The dynamic segment; without it nothing can be in `.dynsym`.
    pub dynamic: Option<Dynamic>,
    /// Whether there is no `.symtab`, or none that can be found.
    pub is_stripped: bool,
    /// What it says about `otel_thread_ctx_v1`.
    pub thread_context: Named,
    /// What it says about `custom_labels_current_set`.
    pub custom_labels: Named,
    /// What it says about `custom_labels_abi_version`.
    pub custom_labels_version: Named,
}

impl Elf {
    /// Reads what is needed of a file to find the symbols: `.dynsym`, or `.symtab` if there is no dynamic
    /// segment at all.
    ///
    /// # Errors
    /// If the file cannot be read, is malformed or too large.
    pub fn read<B: Bytes + ?Sized>(bytes: &B) -> Result<Self, ElfError> {
        Self::read_parts(bytes, false)
    }

    /// The same and `.symtab` in any case: for telling why a symbol is not exported.
    ///
    /// # Errors
    /// If the file cannot be read, is malformed or too large.
    pub fn read_with_symtab<B: Bytes + ?Sized>(bytes: &B) -> Result<Self, ElfError> {
        Self::read_parts(bytes, true)
    }

    fn read_parts<B: Bytes + ?Sized>(bytes: &B, always_symtab: bool) -> Result<Self, ElfError> {
        let headers = Headers::read(bytes)?;
        let dynamic = Dynamic::read(bytes, &headers)?;
        let names = Pointer::ALL.map(Pointer::symbol);
        let names = [names[0], names[1], custom_labels::VERSION_SYMBOL];
        let mut named = [Named::default(); 3];
        if let Some(symbols) = dynamic
            .as_ref()
            .and_then(|dynamic| dynamic.symbols.as_ref())
        {
            for (name, named) in names.iter().zip(&mut named) {
                named.exported = symbols.find(bytes, name)?;
            }
        }
        let needs_symtab = dynamic.is_none() || always_symtab;
        // Of a file that can do without it, damaged section headers do not matter.
        let symtab = match Symtab::read(bytes, headers.sections, elf::SHT_SYMTAB) {
            Err(_) if !needs_symtab => None,
            symtab => symtab?,
        };
        if let Some(symtab) = symtab.filter(|_| needs_symtab) {
            for (found, named) in symtab.find(bytes, names)?.into_iter().zip(&mut named) {
                named.in_symtab = found;
            }
        }
        if always_symtab
            && let Some(dynsym) = Symtab::read(bytes, headers.sections, elf::SHT_DYNSYM)?
        {
            for (found, named) in dynsym.find(bytes, names)?.into_iter().zip(&mut named) {
                named.in_dynsym = found;
            }
        }
        let [thread_context, custom_labels, custom_labels_version] = named;
        Ok(Self {
            machine: headers.machine,
            kind: headers.kind,
            entry: headers.entry,
            loads: headers.loads,
            tls: headers.tls,
            interpreter: headers.interpreter,
            dynamic,
            is_stripped: symtab.is_none(),
            thread_context,
            custom_labels,
            custom_labels_version,
        })
    }

    /// What it says about one of the pointers.
    pub fn named(&self, pointer: Pointer) -> Named {
        match pointer {
            Pointer::ThreadContext => self.thread_context,
            Pointer::CustomLabels => self.custom_labels,
        }
    }

    /// Offset of a pointer in the thread-local segment, if the file defines it where readers look, as a
    /// thread-local object of the right size.
    pub fn tls_offset(&self, pointer: Pointer) -> Option<u64> {
        let tls = self.tls?;
        let named = self.named(pointer);
        let symbol = match self.dynamic {
            Some(_) => named.exported?,
            // The only table that a static executable at a fixed address can have.
            None => named.in_symtab?,
        };
        let end = symbol.value.checked_add(pointer.size())?;
        (symbol.is_tls() && symbol.size == pointer.size() && end <= tls.memsz)
            .then_some(symbol.value)
    }

    /// Whether it defines one of the pointers where readers look.
    pub fn defines_any(&self) -> bool {
        Pointer::ALL
            .into_iter()
            .any(|pointer| self.tls_offset(pointer).is_some())
    }

    /// Whether it is a static executable at a fixed address without `.symtab`: what it defines has no name
    /// any more.
    pub fn is_nameless(&self) -> bool {
        self.kind == Kind::Fixed && self.dynamic.is_none() && self.is_stripped
    }

    /// Where the threads of a process whose main executable this is keep a pointer that the file defines.
    pub fn main_executable_place(&self, pointer: Pointer) -> Option<Place> {
        let symbol = self.tls_offset(pointer)?;
        let offset = self.tls?.static_offset(self.machine, symbol)?;
        Some(Place::Static { offset })
    }
}

#[cfg(test)]
mod tests;
