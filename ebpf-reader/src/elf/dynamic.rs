//! The dynamic segment: what it says about the file, and symbol lookup in `.dynsym` the way a dynamic
//! linker does it, by a hash table. Section headers are not needed, so a file without them is read just
//! as well.

use object::LittleEndian as LE;
use object::elf;

use super::bytes::{Bytes, at, read_pod, read_string, read_table};
use super::headers::{Headers, file_offset};
use super::{ElfError, Symbol};

/// Entries of the dynamic segment that are looked at.
const MAX_DYNAMIC_ENTRIES: u64 = 4096;
/// Symbols that are compared with one name before a chain is given up as a cycle or a trap.
const MAX_CHAIN: usize = 4096;
/// Longest name of a shared object that is read.
const MAX_SONAME: usize = 4096;

/// What the dynamic segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dynamic {
    /// Address of the dynamic segment in the file's own address space.
    pub vaddr: u64,
    /// Whether there is a DT_GNU_HASH table.
    pub has_gnu_hash: bool,
    /// Whether there is a DT_HASH table.
    pub has_hash: bool,
    /// Whether there is room for the dynamic linker to leave its list of modules (DT_DEBUG), which
    /// linkers give to executables alone.
    pub has_debug: bool,
    /// The name under which others link it (DT_SONAME).
    pub soname: Option<String>,
    pub(super) symbols: Option<Symbols>,
    /// Tables of relocations as file offset and size: DT_RELA, DT_JMPREL.
    pub(super) relocations: [Option<(u64, u64)>; 2],
    /// The same as addresses.
    pub(super) relocation_ranges: [Option<(u64, u64)>; 2],
}

/// Where the tables of the dynamic symbols lie, as file offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbols {
    symbols: u64,
    names: u64,
    gnu_hash: Option<u64>,
    hash: Option<u64>,
}

impl Dynamic {
    /// Reads the segment; `None` if the file has none.
    pub(super) fn read<B: Bytes + ?Sized>(
        bytes: &B,
        headers: &Headers,
    ) -> Result<Option<Self>, ElfError> {
        let Some((vaddr, offset, filesz)) = headers.dynamic else {
            return Ok(None);
        };
        let count = (filesz / size_of::<elf::Dyn64<LE>>() as u64).min(MAX_DYNAMIC_ENTRIES);
        let entries: Vec<elf::Dyn64<LE>> = read_table(bytes, offset, count, "the dynamic segment")?;
        let value = |tag: u32| {
            entries
                .iter()
                .map(|entry| (entry.d_tag.get(LE), entry.d_val.get(LE)))
                .take_while(|&(tag, _)| tag != u64::from(elf::DT_NULL))
                .find(|&(found, _)| found == u64::from(tag))
                .map(|(_, value)| value)
        };
        let find = |tag| file_offset(&headers.loads, value(tag)?);
        let table = |start, size| Some((value(start)?, value(size)?));
        let symbols = match (find(elf::DT_SYMTAB), find(elf::DT_STRTAB)) {
            (Some(symbols), Some(names)) => Some(Symbols {
                symbols,
                names,
                gnu_hash: find(elf::DT_GNU_HASH),
                hash: find(elf::DT_HASH),
            }),
            _ => None,
        };
        let soname = value(elf::DT_SONAME).zip(symbols.as_ref()).and_then(
            |(name, Symbols { names, .. })| {
                read_string(bytes, names.checked_add(name)?, MAX_SONAME)
            },
        );
        let relocation_ranges = [
            table(elf::DT_RELA, elf::DT_RELASZ),
            table(elf::DT_JMPREL, elf::DT_PLTRELSZ),
        ];
        Ok(Some(Self {
            vaddr,
            has_gnu_hash: value(elf::DT_GNU_HASH).is_some(),
            has_hash: value(elf::DT_HASH).is_some(),
            has_debug: value(elf::DT_DEBUG).is_some(),
            soname,
            symbols,
            relocations: relocation_ranges.map(|range| {
                range.and_then(|(start, size)| Some((file_offset(&headers.loads, start)?, size)))
            }),
            relocation_ranges,
        }))
    }

    #[cfg(test)]
    pub(crate) fn first_relocations(&self) -> Option<(u64, u64)> {
        self.relocation_ranges.into_iter().flatten().next()
    }

    /// Whether an address of the file's own address space lies in its tables of relocations.
    pub(crate) fn is_in_relocations(&self, address: u64) -> bool {
        self.relocation_ranges
            .iter()
            .flatten()
            .any(|&(start, size)| address.wrapping_sub(start) < size)
    }
}

impl Symbols {
    /// The definition of `name`.
    pub(super) fn find<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        name: &str,
    ) -> Result<Option<Symbol>, ElfError> {
        let symbol = match (self.gnu_hash, self.hash) {
            (Some(table), _) => self.find_gnu(bytes, table, name)?,
            (None, Some(table)) => self.find_sysv(bytes, table, name)?,
            (None, None) => None,
        };
        Ok(symbol.as_ref().map(Symbol::new))
    }

    /// DT_GNU_HASH: header, Bloom filter (skipped), buckets, then one hash per symbol whose lowest bit
    /// ends a chain.
    fn find_gnu<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        table: u64,
        name: &str,
    ) -> Result<Option<elf::Sym64<LE>>, ElfError> {
        let header: elf::GnuHashHeader<LE> = read_pod(bytes, table)?;
        let bucket_count = header.bucket_count.get(LE);
        let base = header.symbol_base.get(LE);
        if bucket_count == 0 {
            return Ok(None);
        }
        let hash = elf::gnu_hash(name.as_bytes());
        let buckets = at(
            table,
            size_of_val(&header) as u64,
            u64::from(header.bloom_count.get(LE)),
            8,
        )?;
        let chains = at(buckets, 0, u64::from(bucket_count), 4)?;

        let mut index = read_word(bytes, buckets, hash % bucket_count)?;
        if index < base {
            return Ok(None);
        }
        for _ in 0..MAX_CHAIN {
            let word = read_word(bytes, chains, index - base)?;
            if word | 1 == hash | 1
                && let Some(symbol) = self.defined_as(bytes, index, name)?
            {
                return Ok(Some(symbol));
            }
            let Some(next) = index.checked_add(1) else {
                break;
            };
            if word & 1 == 1 {
                break;
            }
            index = next;
        }
        Ok(None)
    }

    /// DT_HASH: bucket count, chain count, buckets, chains of symbol indices that end with 0.
    fn find_sysv<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        table: u64,
        name: &str,
    ) -> Result<Option<elf::Sym64<LE>>, ElfError> {
        let header: elf::HashHeader<LE> = read_pod(bytes, table)?;
        let bucket_count = header.bucket_count.get(LE);
        if bucket_count == 0 {
            return Ok(None);
        }
        let buckets = at(table, size_of_val(&header) as u64, 0, 0)?;
        let chains = at(buckets, 0, u64::from(bucket_count), 4)?;

        let mut index = read_word(bytes, buckets, elf::hash(name.as_bytes()) % bucket_count)?;
        for _ in 0..MAX_CHAIN {
            if index == 0 {
                break;
            }
            if let Some(symbol) = self.defined_as(bytes, index, name)? {
                return Ok(Some(symbol));
            }
            index = read_word(bytes, chains, index)?;
        }
        Ok(None)
    }

    fn defined_as<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        index: u32,
        name: &str,
    ) -> Result<Option<elf::Sym64<LE>>, ElfError> {
        let symbol = self.symbol(bytes, index)?;
        let is_defined = symbol.st_shndx.get(LE) != elf::SHN_UNDEF;
        Ok((is_defined && self.is_named(bytes, &symbol, name)?).then_some(symbol))
    }

    /// The entry at `index`.
    pub(super) fn symbol<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        index: u32,
    ) -> Result<elf::Sym64<LE>, ElfError> {
        let size = size_of::<elf::Sym64<LE>>() as u64;
        read_pod(bytes, at(self.symbols, 0, u64::from(index), size)?)
    }

    /// Whether `symbol` is called `name`.
    pub(super) fn is_named<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        symbol: &elf::Sym64<LE>,
        name: &str,
    ) -> Result<bool, ElfError> {
        let mut found = vec![0; name.len() + 1];
        let position = at(self.names, u64::from(symbol.st_name.get(LE)), 0, 0)?;
        // A name that does not fit the file is another name.
        Ok(bytes.read_at(position, &mut found).is_ok()
            && found.split_last() == Some((&0, name.as_bytes())))
    }
}

fn read_word<B: Bytes + ?Sized>(bytes: &B, table: u64, index: u32) -> Result<u32, ElfError> {
    let mut word = [0; 4];
    bytes.read_at(at(table, 0, u64::from(index), 4)?, &mut word)?;
    Ok(u32::from_le_bytes(word))
}
