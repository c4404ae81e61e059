//! Symbol lookup in `.dynsym`, the way a dynamic linker does it: by the dynamic segment and a hash
//! table. Section headers are not needed, so a file without them is read just as well.

use object::LittleEndian as LE;
use object::elf;
use object::pod;

use super::{Bytes, ElfError, read_pod};

/// Entries of the dynamic segment that are looked at.
const MAX_DYNAMIC_ENTRIES: u64 = 4096;
/// Symbols that are compared with one name before a chain is given up as a cycle or a trap.
const MAX_CHAIN: usize = 4096;

/// Where the tables of the dynamic symbols lie, as file offsets.
#[derive(Debug)]
pub(super) struct Symbols {
    symbols: u64,
    names: u64,
    gnu_hash: Option<u64>,
    hash: Option<u64>,
}

impl Symbols {
    /// Finds the tables; `None` if the file has no dynamic symbols.
    pub(super) fn read<B: Bytes + ?Sized>(
        bytes: &B,
        headers: &[elf::ProgramHeader64<LE>],
    ) -> Result<Option<Self>, ElfError> {
        let Some(segment) = headers
            .iter()
            .find(|header| header.p_type.get(LE) == elf::PT_DYNAMIC)
        else {
            return Ok(None);
        };
        let size = size_of::<elf::Dyn64<LE>>() as u64;
        let count = (segment.p_filesz.get(LE) / size).min(MAX_DYNAMIC_ENTRIES);
        let mut table = vec![0; usize::try_from(count * size).unwrap_or(0)];
        bytes.read_at(segment.p_offset.get(LE), &mut table)?;
        let entries: &[elf::Dyn64<LE>] = pod::slice_from_all_bytes(&table)
            .map_err(|()| ElfError::Malformed("the dynamic segment is cut short"))?;

        let find = |tag: u32| {
            let entry = entries
                .iter()
                .take_while(|entry| entry.d_tag.get(LE) != u64::from(elf::DT_NULL))
                .find(|entry| entry.d_tag.get(LE) == u64::from(tag))?;
            file_offset(headers, entry.d_val.get(LE))
        };
        let (Some(symbols), Some(names)) = (find(elf::DT_SYMTAB), find(elf::DT_STRTAB)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            symbols,
            names,
            gnu_hash: find(elf::DT_GNU_HASH),
            hash: find(elf::DT_HASH),
        }))
    }

    /// Offset in the thread-local segment of `name`, if it is a defined STT_TLS symbol of `size` bytes
    /// that lies within `memsz`.
    pub(super) fn tls_symbol<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        name: &str,
        size: u64,
        memsz: u64,
    ) -> Result<Option<u64>, ElfError> {
        let symbol = match (self.gnu_hash, self.hash) {
            (Some(table), _) => self.find_gnu(bytes, table, name)?,
            (None, Some(table)) => self.find_sysv(bytes, table, name)?,
            (None, None) => None,
        };
        Ok(symbol.and_then(|symbol| {
            let value = symbol.st_value.get(LE);
            let fits = value.checked_add(size).is_some_and(|end| end <= memsz);
            let is_tls = symbol.st_info & 0xf == elf::STT_TLS;
            (is_tls && symbol.st_size.get(LE) == size && fits).then_some(value)
        }))
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
                && let Some(symbol) = self.symbol_if_named(bytes, index, name)?
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
            if let Some(symbol) = self.symbol_if_named(bytes, index, name)? {
                return Ok(Some(symbol));
            }
            index = read_word(bytes, chains, index)?;
        }
        Ok(None)
    }

    fn symbol_if_named<B: Bytes + ?Sized>(
        &self,
        bytes: &B,
        index: u32,
        name: &str,
    ) -> Result<Option<elf::Sym64<LE>>, ElfError> {
        let offset = at(
            self.symbols,
            0,
            u64::from(index),
            size_of::<elf::Sym64<LE>>() as u64,
        )?;
        let symbol: elf::Sym64<LE> = read_pod(bytes, offset)?;
        if symbol.st_shndx.get(LE) == elf::SHN_UNDEF {
            return Ok(None);
        }
        let mut found = vec![0; name.len() + 1];
        let position = at(self.names, u64::from(symbol.st_name.get(LE)), 0, 0)?;
        // A name that does not fit the file is another name.
        if bytes.read_at(position, &mut found).is_err() {
            return Ok(None);
        }
        let matches = found.split_last() == Some((&0, name.as_bytes()));
        Ok(matches.then_some(symbol))
    }
}

/// The file offset of an address, by the PT_LOAD segments.
fn file_offset(headers: &[elf::ProgramHeader64<LE>], address: u64) -> Option<u64> {
    headers
        .iter()
        .filter(|header| header.p_type.get(LE) == elf::PT_LOAD)
        .find_map(|header| {
            let within = address.checked_sub(header.p_vaddr.get(LE))?;
            (within < header.p_filesz.get(LE))
                .then(|| header.p_offset.get(LE).checked_add(within))?
        })
}

/// `base + skip + count * size`, or an error if that is not a file offset.
fn at(base: u64, skip: u64, count: u64, size: u64) -> Result<u64, ElfError> {
    count
        .checked_mul(size)
        .and_then(|length| base.checked_add(skip)?.checked_add(length))
        .ok_or(ElfError::Malformed("a table lies outside the file"))
}

fn read_word<B: Bytes + ?Sized>(bytes: &B, table: u64, index: u32) -> Result<u32, ElfError> {
    let mut word = [0; 4];
    bytes.read_at(at(table, 0, u64::from(index), 4)?, &mut word)?;
    Ok(u32::from_le_bytes(word))
}
