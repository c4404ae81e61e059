//! What a linked file holds, as a profiler sees it.

use std::path::Path;

use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{
    Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, RelocationFlags, RelocationTarget,
    SymbolFlags, elf,
};

pub(crate) const THREAD_CONTEXT: &str = "otel_thread_ctx_v1";
pub(crate) const CUSTOM_LABELS: &str = "custom_labels_current_set";
pub(crate) const CUSTOM_LABELS_VERSION: &str = "custom_labels_abi_version";

/// A linked file's content.
pub(crate) struct Linked(Vec<u8>);

/// A symbol: type, binding, visibility, size and value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) kind: u8,
    pub(crate) binding: u8,
    pub(crate) visibility: u8,
    pub(crate) size: u64,
    pub(crate) value: u64,
}

impl Linked {
    pub(crate) fn read(path: &Path) -> Self {
        Self(std::fs::read(path).expect("the linked file"))
    }

    fn file(&self) -> ElfFile64<'_> {
        ElfFile64::parse(self.0.as_slice()).expect("a 64-bit ELF file")
    }

    /// The `.comment` section, in which compilers and linkers leave their names.
    pub(crate) fn comment(&self) -> String {
        let file = self.file();
        let section = file.section_by_name(".comment");
        let data = section.map(|section| section.data().expect("within the file"));
        String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
    }

    /// The definition of `name` in `.dynsym`.
    pub(crate) fn exported(&self, name: &str) -> Option<Definition> {
        let file = self.file();
        let symbol = file
            .dynamic_symbols()
            .find(|symbol| symbol.name() == Ok(name) && !symbol.is_undefined())?;
        let SymbolFlags::Elf { st_info, st_other } = symbol.flags() else {
            unreachable!("an ELF file has ELF symbols");
        };
        Some(Definition {
            kind: st_info & 0xf,
            binding: st_info >> 4,
            visibility: st_other & 3,
            size: symbol.size(),
            value: symbol.address(),
        })
    }

    /// Fails unless all three symbols are exported as the specifications want them.
    pub(crate) fn assert_exports_all(&self) {
        for (name, kind, size) in [
            (THREAD_CONTEXT, elf::STT_TLS, 8),
            (CUSTOM_LABELS, elf::STT_TLS, 8),
            (CUSTOM_LABELS_VERSION, elf::STT_OBJECT, 4),
        ] {
            let found = self
                .exported(name)
                .unwrap_or_else(|| panic!("{name} is not in .dynsym"));
            let wanted = Definition {
                kind,
                binding: elf::STB_GLOBAL,
                visibility: elf::STV_DEFAULT,
                size,
                value: found.value,
            };
            assert_eq!(found, wanted, "{name}");
        }
    }

    /// The names of the shared objects that must be loaded with it.
    pub(crate) fn needed(&self) -> Vec<String> {
        let file = self.file();
        let endian = file.endian();
        let sections = file.elf_section_table();
        let Some((entries, strings)) = sections
            .dynamic(endian, self.0.as_slice())
            .expect("well-formed")
        else {
            return Vec::new();
        };
        let strings = sections
            .strings(endian, self.0.as_slice(), strings)
            .expect("well-formed");
        entries
            .iter()
            .filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED))
            .map(|entry| {
                let name = entry.string(endian, strings).expect("within the table");
                String::from_utf8_lossy(name).into_owned()
            })
            .collect()
    }

    /// Whether the file is relocatable as a whole, and whether it asks for a dynamic loader.
    pub(crate) fn is_pie_and_dynamic(&self) -> (bool, bool) {
        let file = self.file();
        let endian = file.endian();
        let is_pie = file.elf_header().e_type(endian) == elf::ET_DYN;
        let is_dynamic = file
            .elf_program_headers()
            .iter()
            .any(|segment| segment.p_type(endian) == elf::PT_INTERP);
        (is_pie, is_dynamic)
    }

    /// The offset of the executable's thread-local `value` from the thread pointer.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn static_offset(&self, value: u64) -> i32 {
        let file = self.file();
        let endian = file.endian();
        let tls = file
            .elf_program_headers()
            .iter()
            .find(|segment| segment.p_type(endian) == elf::PT_TLS)
            .expect("a TLS segment");
        let end = tls.p_vaddr(endian) + tls.p_memsz(endian);
        let size = tls.p_memsz(endian) + (end.wrapping_neg() & (tls.p_align(endian) - 1));
        i32::try_from(value.cast_signed() - size.cast_signed()).expect("a small block")
    }

    /// Where the TLSDESC relocations against `name` put the descriptor.
    pub(crate) fn tls_descriptors(&self, name: &str) -> Vec<u64> {
        let kind = match self.file().elf_header().e_machine.get(self.file().endian()) {
            elf::EM_AARCH64 => elf::R_AARCH64_TLSDESC,
            _ => elf::R_X86_64_TLSDESC,
        };
        self.tls_relocations(name, kind)
    }

    /// Where the dynamic relocations of type `kind` against `name` apply.
    pub(crate) fn tls_relocations(&self, name: &str, kind: u32) -> Vec<u64> {
        let file = self.file();
        let (Some(relocations), Some(symbols)) =
            (file.dynamic_relocations(), file.dynamic_symbol_table())
        else {
            return Vec::new();
        };
        relocations
            .filter(|(_, relocation)| {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    return false;
                };
                relocation.flags() == RelocationFlags::Elf { r_type: kind }
                    && symbols
                        .symbol_by_index(index)
                        .is_ok_and(|symbol| symbol.name() == Ok(name))
            })
            .map(|(at, _)| at)
            .collect()
    }

    /// Address and bytes of each executable section.
    pub(crate) fn code(&self) -> Vec<(u64, Vec<u8>)> {
        self.file()
            .sections()
            .filter(|section| section.kind() == object::SectionKind::Text)
            .map(|section| {
                let data = section.data().expect("within the file");
                (section.address(), data.to_vec())
            })
            .collect()
    }
}
