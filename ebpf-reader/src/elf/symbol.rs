//! The symbols that matter, and what a symbol table says about one of them.

use object::LittleEndian as LE;
use object::elf;
use otel_profiling::abi::{custom_labels, thread_context};

/// The two thread-local pointers under which something is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pointer {
    /// `otel_thread_ctx_v1`.
    ThreadContext,
    /// `custom_labels_current_set`.
    CustomLabels,
}

impl Pointer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ThreadContext, Self::CustomLabels];

    /// The symbol's name.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::ThreadContext => thread_context::SYMBOL,
            Self::CustomLabels => custom_labels::SYMBOL,
        }
    }

    /// The symbol's size in bytes.
    pub const fn size(self) -> u64 {
        match self {
            Self::ThreadContext => thread_context::SYMBOL_SIZE,
            Self::CustomLabels => custom_labels::SYMBOL_SIZE,
        }
    }
}

/// A definition in a symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Type: `STT_TLS` is 6.
    pub kind: u8,
    /// Binding: `STB_GLOBAL` is 1, `STB_WEAK` 2.
    pub binding: u8,
    /// Visibility: `STV_DEFAULT` is 0, `STV_PROTECTED` 3.
    pub visibility: u8,
    /// Size in bytes.
    pub size: u64,
    /// Offset in the thread-local segment for `STT_TLS`, else an address.
    pub value: u64,
    /// Section in which it is defined.
    pub section: u16,
}

impl Symbol {
    pub(super) fn new(symbol: &elf::Sym64<LE>) -> Self {
        Self {
            kind: symbol.st_info & 0xf,
            binding: symbol.st_info >> 4,
            visibility: symbol.st_other & 3,
            size: symbol.st_size.get(LE),
            value: symbol.st_value.get(LE),
            section: symbol.st_shndx.get(LE),
        }
    }

    /// Whether it is a thread-local object.
    pub fn is_tls(&self) -> bool {
        self.kind == elf::STT_TLS
    }
}

/// What a file says about one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its definition in `.dynsym`, as a hash table leads to it.
    pub exported: Option<Symbol>,
    /// Its definition in `.dynsym`, whether or not a hash table leads to it. Looked for only by
    /// [`Elf::read_with_symtab`](super::Elf::read_with_symtab), and if there are section headers.
    pub in_dynsym: Option<Symbol>,
    /// Its definition in `.symtab`. Looked for only if there is no `.dynsym`, or by
    /// [`Elf::read_with_symtab`](super::Elf::read_with_symtab).
    pub in_symtab: Option<Symbol>,
}
