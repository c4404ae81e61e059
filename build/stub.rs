//! Writes a tiny ELF shared object that only mentions symbols: weak, undefined, typed references.
//!
//! A linker that sees a shared object refer to a symbol which the executable defines exports it, that is,
//! puts it into `.dynsym`. LLD does so even when it then drops the shared object because nothing needs it.
//! The references are weak, so that nothing must define them, and typed, since linkers refuse to
//! match an untyped reference with a thread-local definition.

/// `e_machine` of the architectures that have the thread-local block.
pub(crate) const EM_X86_64: u16 = 62;
/// As above.
pub(crate) const EM_AARCH64: u16 = 183;

/// ELF type of a symbol.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `STT_OBJECT`.
    Object = 1,
    /// `STT_TLS`.
    Tls = 6,
}

const HEADER_SIZE: usize = 64;
const SEGMENT_SIZE: usize = 56;
const SECTION_SIZE: usize = 64;
const SYMBOL_SIZE: usize = 24;
const PAGE: u64 = 0x1_0000;
const SECTION_NAMES: &[u8] = b"\0.dynsym\0.dynstr\0.hash\0.dynamic\0.shstrtab\0";

/// The bytes of a 64-bit little-endian shared object named `soname` that refers to `symbols`.
pub(crate) fn shared_object(machine: u16, soname: &str, symbols: &[(&str, Kind)]) -> Vec<u8> {
    let mut dynstr = vec![0];
    let soname_at = add_name(&mut dynstr, soname);

    // st_name, st_info (weak), st_other, st_shndx (undefined), st_value, st_size.
    let mut dynsym = vec![0; SYMBOL_SIZE];
    for &(name, kind) in symbols {
        dynsym.extend((add_name(&mut dynstr, name) as u32).to_le_bytes());
        dynsym.extend([2 << 4 | kind as u8, 0]);
        dynsym.extend([0; 18]);
    }

    // One empty bucket: there is nothing to find. The second word tells how many symbols there are.
    let mut hash = Vec::new();
    words(&mut hash, &[1, symbols.len() as u32 + 1, 0]);
    words(&mut hash, &vec![0; symbols.len() + 1]);
    hash.resize(hash.len().next_multiple_of(8), 0);

    let dynsym_at = HEADER_SIZE + 2 * SEGMENT_SIZE;
    let hash_at = dynsym_at + dynsym.len();
    let dynamic_at = hash_at + hash.len();
    let mut dynamic = Vec::new();
    let dynstr_at = dynamic_at + 7 * 16;
    for (tag, value) in [
        (14, soname_at),    // DT_SONAME
        (4, hash_at),       // DT_HASH
        (5, dynstr_at),     // DT_STRTAB
        (10, dynstr.len()), // DT_STRSZ
        (6, dynsym_at),     // DT_SYMTAB
        (11, SYMBOL_SIZE),  // DT_SYMENT
        (0, 0),             // DT_NULL
    ] {
        longs(&mut dynamic, &[tag, value as u64]);
    }
    let names_at = dynstr_at + dynstr.len();
    let sections_at = (names_at + SECTION_NAMES.len()).next_multiple_of(8);

    let mut elf = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    halves(&mut elf, &[3, machine]); // ET_DYN
    words(&mut elf, &[1]);
    longs(&mut elf, &[0, HEADER_SIZE as u64, sections_at as u64]);
    words(&mut elf, &[0]);
    let [header, segment, section] = [HEADER_SIZE, SEGMENT_SIZE, SECTION_SIZE].map(|n| n as u16);
    halves(&mut elf, &[header, segment, 2, section, 6, 5]);

    // PT_LOAD of everything and PT_DYNAMIC; type and flags, then offset, addresses, sizes, alignment.
    for (kind, flags, at, size, align) in [
        (1, 4, 0, sections_at, PAGE),
        (2, 4, dynamic_at, dynamic.len(), 8),
    ] {
        words(&mut elf, &[kind, flags]);
        let (at, size) = (at as u64, size as u64);
        longs(&mut elf, &[at, at, at, size, size, align]);
    }
    for part in [&dynsym, &hash, &dynamic, &dynstr] {
        elf.extend(part);
    }
    elf.extend(SECTION_NAMES);
    elf.resize(sections_at, 0);

    // Name, type; flags (alloc), address, offset, size; link, info; alignment, entry size.
    elf.extend([0; SECTION_SIZE]);
    for (name, kind, flags, at, size, link, info, align, entry) in [
        (1, 11, 2, dynsym_at, dynsym.len(), 2, 1, 8, SYMBOL_SIZE),
        (9, 3, 2, dynstr_at, dynstr.len(), 0, 0, 1, 0),
        (17, 5, 2, hash_at, hash.len(), 1, 0, 8, 4),
        (23, 6, 2, dynamic_at, dynamic.len(), 2, 0, 8, 16),
        (32, 3, 0, names_at, SECTION_NAMES.len(), 0, 0, 1, 0),
    ] {
        words(&mut elf, &[name, kind]);
        let address = if flags == 0 { 0 } else { at as u64 };
        longs(&mut elf, &[flags, address, at as u64, size as u64]);
        words(&mut elf, &[link, info]);
        longs(&mut elf, &[align, entry as u64]);
    }
    elf
}

/// Appends a terminated name and returns where it starts.
fn add_name(table: &mut Vec<u8>, name: &str) -> usize {
    let at = table.len();
    table.extend(name.as_bytes());
    table.push(0);
    at
}

fn halves(out: &mut Vec<u8>, values: &[u16]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn longs(out: &mut Vec<u8>, values: &[u64]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
