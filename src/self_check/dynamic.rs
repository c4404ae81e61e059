//! A module's dynamic symbols and relocations, read from memory the way profilers read them: through
//! `PT_DYNAMIC` and the hash tables, never through section headers.

use super::SelfCheckError;
use super::memory::Memory;
use super::module::Module;

const DT_NULL: u64 = 0;
const DT_PLTRELSZ: u64 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_JMPREL: u64 = 23;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

#[cfg(target_arch = "aarch64")]
const R_TLSDESC: u64 = 1031;
#[cfg(not(target_arch = "aarch64"))]
const R_TLSDESC: u64 = 36;

const SYMBOL_SIZE: u64 = 24;
const RELOCATION_SIZE: usize = 24;

// Far above what linkers write: they bound the work on a table that lies.
const MAX_ENTRIES: u64 = 1 << 12;
const MAX_CHAIN: u32 = 1 << 16;
const MAX_RELOCATION_BYTES: u64 = 1 << 26;

/// An entry of `.dynsym` that is defined in its module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// Position in the table, by which relocations refer to it.
    pub(super) index: u32,
    pub(super) info: u8,
    pub(super) other: u8,
    pub(super) value: u64,
    pub(super) size: u64,
}

/// The tables that a module's dynamic section names, as addresses in memory; 0 if missing.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    symbols: u64,
    names: u64,
    hash: u64,
    gnu_hash: u64,
    relocations: [(u64, u64); 2],
}

impl Dynamic {
    /// `None` for a module without a dynamic section.
    pub(super) fn read(memory: &Memory, module: &Module) -> Result<Option<Self>, SelfCheckError> {
        let Some(segment) = module.dynamic() else {
            return Ok(None);
        };
        let start = module.bias.wrapping_add(segment.address);
        // glibc relocates the addresses in place, musl does not.
        let absolute = |value: u64| {
            if value < module.bias {
                value.wrapping_add(module.bias)
            } else {
                value
            }
        };
        let mut dynamic = Self::default();
        for entry in 0..(segment.size / 16).min(MAX_ENTRIES) {
            let at = start.wrapping_add(entry * 16);
            let value = memory.u64(at.wrapping_add(8))?;
            match memory.u64(at)? {
                DT_NULL => break,
                DT_SYMTAB => dynamic.symbols = absolute(value),
                DT_STRTAB => dynamic.names = absolute(value),
                DT_HASH => dynamic.hash = absolute(value),
                DT_GNU_HASH => dynamic.gnu_hash = absolute(value),
                DT_RELA => dynamic.relocations[0].0 = absolute(value),
                DT_RELASZ => dynamic.relocations[0].1 = value,
                DT_JMPREL => dynamic.relocations[1].0 = absolute(value),
                DT_PLTRELSZ => dynamic.relocations[1].1 = value,
                _ => {}
            }
        }
        Ok(Some(dynamic))
    }

    /// The definition of `name`, by the hash table that the module has.
    pub(super) fn definition(
        &self,
        memory: &Memory,
        name: &str,
    ) -> Result<Option<Symbol>, SelfCheckError> {
        if self.symbols == 0 || self.names == 0 {
            Ok(None)
        } else if self.gnu_hash != 0 {
            self.find_by_gnu_hash(memory, name)
        } else if self.hash != 0 {
            self.find_by_hash(memory, name)
        } else {
            Ok(None)
        }
    }

    fn find_by_gnu_hash(
        &self,
        memory: &Memory,
        name: &str,
    ) -> Result<Option<Symbol>, SelfCheckError> {
        let hash = gnu_hash(name);
        let header = |word: u64| memory.u32(self.gnu_hash.wrapping_add(word * 4));
        let (bucket_count, first, bloom_words) = (header(0)?, header(1)?, header(2)?);
        if bucket_count == 0 {
            return Ok(None);
        }
        let buckets = self.gnu_hash.wrapping_add(16 + u64::from(bloom_words) * 8);
        let chains = buckets.wrapping_add(u64::from(bucket_count) * 4);
        let start = memory.u32(buckets.wrapping_add(u64::from(hash % bucket_count) * 4))?;
        if start < first {
            return Ok(None);
        }
        for index in start..start.saturating_add(MAX_CHAIN) {
            let entry = memory.u32(chains.wrapping_add(u64::from(index - first) * 4))?;
            if entry | 1 == hash | 1
                && let Some(symbol) = self.symbol(memory, index, name)?
            {
                return Ok(Some(symbol));
            }
            if entry & 1 == 1 {
                break;
            }
        }
        Ok(None)
    }

    fn find_by_hash(&self, memory: &Memory, name: &str) -> Result<Option<Symbol>, SelfCheckError> {
        let word = |index: u64| memory.u32(self.hash.wrapping_add(index.wrapping_mul(4)));
        let (bucket_count, chain_count) = (word(0)?, word(1)?);
        if bucket_count == 0 {
            return Ok(None);
        }
        let mut index = word(2 + u64::from(sysv_hash(name) % bucket_count))?;
        for _ in 0..chain_count.min(MAX_CHAIN) {
            if index == 0 {
                break;
            }
            if let Some(symbol) = self.symbol(memory, index, name)? {
                return Ok(Some(symbol));
            }
            index = word(2 + u64::from(bucket_count) + u64::from(index))?;
        }
        Ok(None)
    }

    /// The symbol at `index`, if it is called `name` and defined here.
    fn symbol(
        &self,
        memory: &Memory,
        index: u32,
        name: &str,
    ) -> Result<Option<Symbol>, SelfCheckError> {
        let at = self.symbols.wrapping_add(u64::from(index) * SYMBOL_SIZE);
        let name_at = self.names.wrapping_add(memory.u32(at)?.into());
        let [info, other, section @ ..] = memory.read::<4>(at.wrapping_add(4))?;
        if u16::from_ne_bytes(section) == 0 || !memory.is_name(name_at, name) {
            return Ok(None);
        }
        Ok(Some(Symbol {
            index,
            info,
            other,
            value: memory.u64(at.wrapping_add(8))?,
            size: memory.u64(at.wrapping_add(16))?,
        }))
    }

    /// The address in the file of the TLS descriptor that a relocation against `symbol` fills in.
    pub(super) fn tls_descriptor(
        &self,
        memory: &Memory,
        symbol: Symbol,
    ) -> Result<Option<u64>, SelfCheckError> {
        let info = u64::from(symbol.index) << 32 | R_TLSDESC;
        for (at, size) in self.relocations {
            if at == 0 || size > MAX_RELOCATION_BYTES {
                continue;
            }
            let table = memory.read_vec(at, usize::try_from(size).unwrap_or(0))?;
            let found = table
                .as_chunks::<RELOCATION_SIZE>()
                .0
                .iter()
                .find(|entry| entry[8..16] == info.to_ne_bytes());
            if let Some([a, b, c, d, e, f, g, h, ..]) = found {
                return Ok(Some(u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h])));
            }
        }
        Ok(None)
    }
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| {
        hash.wrapping_mul(33).wrapping_add(byte.into())
    })
}

fn sysv_hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_check::module;

    #[test]
    fn hashes_are_those_of_the_specifications() {
        assert_eq!(gnu_hash(""), 0x1505);
        assert_eq!(gnu_hash("printf"), 0x156b_2bb8);
        assert_eq!(sysv_hash(""), 0);
        assert_eq!(sysv_hash("printf"), 0x0779_05a6);
    }

    #[test]
    fn the_c_library_defines_printf_and_not_its_opposite() {
        let memory = Memory::open().expect("/proc is mounted");
        let mut printf = 0;
        for module in module::loaded() {
            let Some(dynamic) = Dynamic::read(&memory, &module).expect("readable") else {
                continue;
            };
            let find = |name| dynamic.definition(&memory, name).expect("readable");
            printf += usize::from(find("printf").is_some());
            assert!(find("unprintf").is_none());
        }
        // Sanitizers define it a second time.
        assert!(printf >= 1 || cfg!(target_feature = "crt-static"));
    }
}
