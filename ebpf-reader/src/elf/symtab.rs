//! Symbol lookup in `.symtab`: the only table of a static executable at a fixed address, gone once it is
//! stripped. There is no hash table, so names and symbols are read from one end to the other.

use object::LittleEndian as LE;
use object::elf;

use super::bytes::{Bytes, find_names, for_each, read_pod, read_table};
use super::headers::SectionTable;
use super::{ElfError, Symbol};

/// Where `.symtab` and its names lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symtab {
    symbols: u64,
    count: u64,
    names: u64,
    names_size: u64,
}

impl Symtab {
    /// Finds the table of type `SHT_SYMTAB` or `SHT_DYNSYM` by the section headers; `None` if it was stripped.
    pub(super) fn read<B: Bytes + ?Sized>(
        bytes: &B,
        table: SectionTable,
        kind: u32,
    ) -> Result<Option<Self>, ElfError> {
        if table.offset == 0 {
            return Ok(None);
        }
        if usize::from(table.entry_size) != size_of::<elf::SectionHeader64<LE>>() {
            return Err(ElfError::Malformed("section headers of an unknown size"));
        }
        let count = match table.count {
            // More than fit in 16 bits: the first section's size says how many.
            0 => read_pod::<_, elf::SectionHeader64<LE>>(bytes, table.offset)?
                .sh_size
                .get(LE),
            count => u64::from(count),
        };
        let sections: Vec<elf::SectionHeader64<LE>> =
            read_table(bytes, table.offset, count, "its table of sections")?;
        let Some(symbols) = sections
            .iter()
            .find(|section| section.sh_type.get(LE) == kind)
        else {
            return Ok(None);
        };
        let names = sections
            .get(symbols.sh_link.get(LE) as usize)
            .ok_or(ElfError::Malformed("the symbol table has no names"))?;
        Ok(Some(Self {
            symbols: symbols.sh_offset.get(LE),
            count: symbols.sh_size.get(LE) / size_of::<elf::Sym64<LE>>() as u64,
            names: names.sh_offset.get(LE),
            names_size: names.sh_size.get(LE),
        }))
    }

    /// The definitions of `names`, global ones before local ones.
    pub(super) fn find<B: Bytes + ?Sized, const N: usize>(
        &self,
        bytes: &B,
        names: [&str; N],
    ) -> Result<[Option<Symbol>; N], ElfError> {
        let mut found = [None; N];
        let positions = find_names(bytes, self.names, self.names_size, names)?;
        if positions.iter().all(Vec::is_empty) {
            return Ok(found);
        }
        for_each(
            bytes,
            self.symbols,
            self.count,
            "its table of symbols",
            |_, symbol: &elf::Sym64<LE>| {
                let name = symbol.st_name.get(LE);
                if symbol.st_shndx.get(LE) != elf::SHN_UNDEF {
                    for (positions, found) in positions.iter().zip(&mut found) {
                        let symbol = Symbol::new(symbol);
                        if positions.contains(&name)
                            && found.is_none_or(|found: Symbol| found.binding == elf::STB_LOCAL)
                        {
                            *found = Some(symbol);
                        }
                    }
                }
                Ok(true)
            },
        )?;
        Ok(found)
    }
}
