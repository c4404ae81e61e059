use std::fs::File;

use object::elf;

use super::*;

const POINTER: Pointer = Pointer::ThreadContext;

/// Asks a file for everything.
fn use_all(bytes: &[u8]) {
    let _ = Elf::read_with_symtab(bytes);
    if let Ok(elf) = Elf::read(bytes) {
        let _ = elf.references(bytes);
        for pointer in Pointer::ALL {
            elf.main_executable_place(pointer);
        }
    }
}

#[test]
fn offsets_below_the_thread_pointer() {
    let offset = |vaddr, memsz, align, symbol| {
        TlsSegment {
            vaddr,
            memsz,
            align,
        }
        .static_offset(Machine::X86_64, symbol)
    };
    // The block ends right below the thread pointer, rounded so that its start is aligned like p_vaddr.
    assert_eq!(offset(0x3000, 0x10, 8, 0), Some(-0x10));
    assert_eq!(offset(0x3000, 0x10, 8, 8), Some(-8));
    assert_eq!(offset(0x3000, 0x11, 16, 0), Some(-0x20));
    assert_eq!(offset(0x3008, 0x18, 16, 0x10), Some(-8));
    assert_eq!(offset(0x3008, 0x10, 16, 0), Some(-0x18));
}

#[test]
fn offsets_above_the_thread_pointer() {
    let offset = |vaddr, align, symbol| {
        let memsz = 0x100;
        TlsSegment {
            vaddr,
            memsz,
            align,
        }
        .static_offset(Machine::Aarch64, symbol)
    };
    assert_eq!(offset(0x3000, 8, 0), Some(16));
    assert_eq!(offset(0x3000, 16, 8), Some(24));
    assert_eq!(offset(0x3000, 64, 0), Some(64));
    assert_eq!(offset(0x3010, 64, 0), Some(16));
}

#[test]
fn a_real_program_is_understood() {
    let elf = Elf::read(&File::open("/proc/self/exe").unwrap()).unwrap();
    let machine = if cfg!(target_arch = "x86_64") {
        Machine::X86_64
    } else {
        Machine::Aarch64
    };
    assert_eq!(elf.machine, machine);
    // std has thread-local variables of its own.
    let tls = elf.tls.unwrap();
    assert!(tls.memsz > 0 && tls.align > 1);
    assert!(elf.loads.iter().any(|load| load.executable));
    let pointer = Pointer::ThreadContext;
    let place = elf.main_executable_place(pointer);
    assert_eq!(place.is_some(), elf.tls_offset(pointer).is_some());
}

#[test]
fn a_symbol_is_found_through_either_hash_table() {
    for gnu in [true, false] {
        let elf = Elf::read(&example(gnu, elf::STT_TLS, 8, 0x10)[..]).unwrap();
        assert_eq!(elf.tls_offset(POINTER), Some(0x10), "gnu: {gnu}");
        assert_eq!(elf.custom_labels, Named::default());
        let place = Place::Static {
            offset: 0x10 - 0x20,
        };
        assert_eq!(elf.main_executable_place(POINTER), Some(place));
    }
}

#[test]
fn a_symbol_of_another_kind_is_not_taken() {
    for gnu in [true, false] {
        for (kind, size, value) in [
            (elf::STT_OBJECT, 8, 0x10),
            (elf::STT_TLS, 4, 0x10),
            (elf::STT_TLS, 8, 0x19),
        ] {
            let elf = Elf::read(&example(gnu, kind, size, value)[..]).unwrap();
            assert_eq!(elf.tls_offset(POINTER), None, "{kind} {size} {value}");
        }
    }
}

#[test]
fn what_is_not_such_a_file_is_refused() {
    for bytes in [&b""[..], b"#!/bin/sh\n", &[0; 64], &[0x7f; 200]] {
        assert!(Elf::read(bytes).is_err());
    }
}

#[test]
fn no_damage_makes_it_panic_or_hang() {
    for gnu in [true, false] {
        let good = example(gnu, elf::STT_TLS, 8, 0x10);
        for position in 0..good.len() {
            let _ = Elf::read(&good[..position]);
            for byte in [0, 1, 7, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[position] = byte;
                use_all(&bad);
                bad[position..]
                    .iter_mut()
                    .take(8)
                    .for_each(|place| *place = byte);
                use_all(&bad);
            }
        }
    }
}

#[test]
fn a_chain_without_an_end_is_given_up() {
    let mut bytes = example(false, elf::STT_TLS, 8, 0x10);
    // Another name, so that the search goes on, in a chain that leads back to itself.
    bytes[NAMES + 1] = b'X';
    bytes[HASH + 16..HASH + 20].copy_from_slice(&1_u32.to_le_bytes());
    assert_eq!(Elf::read(&bytes[..]).unwrap().tls_offset(POINTER), None);
}

/// A file of which only some pieces are written, as large as can be.
struct Sparse(Vec<(u64, Vec<u8>)>);

impl Bytes for Sparse {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        for (start, piece) in &self.0 {
            for (at, byte) in (*start..).zip(piece) {
                let within = at
                    .checked_sub(offset)
                    .and_then(|at| buffer.get_mut(at as usize));
                if let Some(place) = within {
                    *place = *byte;
                }
            }
        }
        Ok(())
    }
}

fn set(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where the tables of [`static_example`] begin.
const SECTIONS: usize = 0x1000;
const SYMTAB: usize = 0x2000;
const STRTAB: usize = 0x3000;

/// A static executable at a fixed address with `otel_thread_ctx_v1` in `.symtab`.
fn static_example() -> Vec<u8> {
    let mut file = example(true, elf::STT_TLS, 8, 0x10);
    file.resize(0x4000, 0);
    // ET_EXEC, and no PT_DYNAMIC.
    set(&mut file, 16, &[2, 0]);
    set(&mut file, 64 + 2 * 56, &elf::PT_NOTE.to_le_bytes());
    set(&mut file, 40, &(SECTIONS as u64).to_le_bytes());
    set(&mut file, 58, &[64, 0, 3, 0]);
    let mut section = |index: usize, kind: u32, offset: usize, size: u64, link: u32| {
        let at = SECTIONS + index * 64;
        set(&mut file, at + 4, &kind.to_le_bytes());
        set(&mut file, at + 24, &(offset as u64).to_le_bytes());
        set(&mut file, at + 32, &size.to_le_bytes());
        set(&mut file, at + 40, &link.to_le_bytes());
    };
    section(1, elf::SHT_SYMTAB, SYMTAB, 4 * 24, 2);
    section(2, elf::SHT_STRTAB, STRTAB, 64, 0);
    set(&mut file, STRTAB, b"\0my_otel_thread_ctx_v1\0");
    let mut symbol = |index: usize, name: u32, info: u8, section: u8, value: u64| {
        let at = SYMTAB + index * 24;
        set(&mut file, at, &name.to_le_bytes());
        set(&mut file, at + 4, &[info, 0, section, 0]);
        set(&mut file, at + 8, &value.to_le_bytes());
        set(&mut file, at + 16, &8_u64.to_le_bytes());
    };
    // A longer name, a local symbol of the same name, the one that counts.
    symbol(1, 1, elf::STB_GLOBAL << 4 | elf::STT_TLS, 7, 0);
    symbol(2, 4, elf::STT_TLS, 7, 8);
    symbol(3, 4, elf::STB_GLOBAL << 4 | elf::STT_TLS, 7, 0x18);
    file
}

#[test]
fn a_static_executable_is_read_through_its_symbol_table() {
    let file = static_example();
    let read = Elf::read(&file[..]).unwrap();
    assert_eq!(read.kind, Kind::Fixed);
    assert!(!read.is_stripped && !read.is_nameless());
    assert_eq!(read.tls_offset(POINTER), Some(0x18));
    assert_eq!(read.thread_context.exported, None);
    let symbol = read.thread_context.in_symtab.unwrap();
    assert_eq!((symbol.binding, symbol.size), (elf::STB_GLOBAL, 8));

    let mut stripped = file.clone();
    set(&mut stripped, 40, &[0; 8]);
    let read = Elf::read(&stripped[..]).unwrap();
    assert!(read.is_stripped && read.is_nameless());
    assert_eq!(read.tls_offset(POINTER), None);

    for position in (0..64)
        .chain(SECTIONS..SECTIONS + 192)
        .chain(SYMTAB..SYMTAB + 96)
    {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = file.clone();
            bad[position] = byte;
            use_all(&bad);
        }
    }
}

#[test]
fn a_dynamic_file_is_found_by_its_dynamic_symbols_alone() {
    let mut file = example(true, elf::STT_TLS, 8, 0x10);
    // Section headers that lead nowhere.
    set(&mut file, 40, &u64::MAX.to_le_bytes());
    set(&mut file, 58, &[64, 0, 3, 0]);
    let read = Elf::read(&file[..]).unwrap();
    assert!(read.is_stripped && !read.is_nameless());
    assert_eq!(read.tls_offset(POINTER), Some(0x10));
    assert!(Elf::read_with_symtab(&file[..]).is_err());
}

#[test]
fn tables_of_gigabytes_are_given_up() {
    let mut file = static_example();
    for (at, what) in [
        (SECTIONS + 64 + 32, "its table of symbols"),
        (SECTIONS + 128 + 32, "its table of names"),
    ] {
        let good = file[at..at + 8].to_vec();
        set(&mut file, at, &(4_u64 << 30).to_le_bytes());
        let error = Elf::read(&Sparse(vec![(0, file.clone())])).unwrap_err();
        assert_eq!(error.to_string(), format!("{what} is too large"));
        set(&mut file, at, &good);
    }
    // More sections than fit in 16 bits.
    set(&mut file, 60, &[0, 0]);
    set(&mut file, SECTIONS + 32, &u64::MAX.to_le_bytes());
    let error = Elf::read(&Sparse(vec![(0, file)])).unwrap_err();
    assert_eq!(error.to_string(), "its table of sections is too large");

    // Relocations against more different symbols than are looked at.
    let count = 1_u64 << 15;
    let relocations = (1..=count).flat_map(|symbol| {
        let info = symbol << 32 | u64::from(elf::R_X86_64_TLSDESC);
        [0x1800_u64.to_le_bytes(), info.to_le_bytes(), [0; 8]].concat()
    });
    let (mut file, table) = with_relocations(&[]);
    set(&mut file, table.1, &(count * 24).to_le_bytes());
    file.truncate(table.0 as usize);
    file.extend(relocations);
    let read = Elf::read(&file[..]).unwrap();
    let error = read.references(&file[..]).unwrap_err();
    assert_eq!(error.to_string(), "its table of relocations is too large");
    let size = 64_u64 << 20;
    set(&mut file, table.1, &(size + 24).to_le_bytes());
    let read = Elf::read(&file[..]).unwrap();
    let error = read.references(&file[..]).unwrap_err();
    assert_eq!(error.to_string(), "its table of relocations is too large");
}

/// Relocations as (type, symbol, addend) of slots at 0x1400, 0x1410, …; the offset of their table, and where
/// its size is written.
fn with_relocations(relocations: &[(u32, u64, u64)]) -> (Vec<u8>, (u64, usize)) {
    const TABLE: usize = 0x800;
    let mut file = example(true, elf::STT_TLS, 8, 0x10);
    file.resize(0x2000, 0);
    // The first segment is as large as the file.
    set(&mut file, 64 + 32, &0x2000_u64.to_le_bytes());
    set(&mut file, 64 + 2 * 56 + 8, &0x400_u64.to_le_bytes());
    set(&mut file, 64 + 2 * 56 + 32, &(6 * 16_u64).to_le_bytes());
    let entries = file[DYNAMIC..DYNAMIC + 3 * 16].to_vec();
    set(&mut file, 0x400, &entries);
    let size = relocations.len() as u64 * 24;
    for (index, (tag, value)) in [
        (elf::DT_RELA, 0x1000 + TABLE as u64),
        (elf::DT_RELASZ, size),
    ]
    .into_iter()
    .enumerate()
    {
        let at = 0x400 + (3 + index) * 16;
        set(&mut file, at, &u64::from(tag).to_le_bytes());
        set(&mut file, at + 8, &value.to_le_bytes());
    }
    for (index, &(kind, symbol, addend)) in relocations.iter().enumerate() {
        let at = TABLE + index * 24;
        set(&mut file, at, &(0x1400 + index as u64 * 16).to_le_bytes());
        set(
            &mut file,
            at + 8,
            &(symbol << 32 | u64::from(kind)).to_le_bytes(),
        );
        set(&mut file, at + 16, &addend.to_le_bytes());
    }
    (file, (TABLE as u64, 0x400 + 4 * 16 + 8))
}

#[test]
fn relocations_are_found_by_name_and_by_value() {
    let relocations = [
        (elf::R_X86_64_TLSDESC, 1, 0),
        (elf::R_X86_64_DTPMOD64, 1, 0),
        (elf::R_X86_64_TPOFF64, 1, 0),
        // Against the file's own segment, with the symbol's offset.
        (elf::R_X86_64_TLSDESC, 0, 0x10),
        (elf::R_X86_64_TPOFF64, 0, 0x10),
        (elf::R_X86_64_DTPMOD64, 0, 0),
        // Something else: another offset, another addend, another type, a constant of another variable.
        (elf::R_X86_64_TLSDESC, 0, 0x18),
        (elf::R_X86_64_TLSDESC, 1, 8),
        (elf::R_X86_64_64, 1, 0),
        (elf::R_X86_64_DTPOFF64, 1, 0),
        (elf::R_X86_64_DTPMOD64, 0, 0),
    ];
    let (mut file, _) = with_relocations(&relocations);
    // The constants beside the module numbers.
    set(&mut file, 0x450 + 8, &0x10_u64.to_le_bytes());
    set(&mut file, 0x4a0 + 8, &0x18_u64.to_le_bytes());
    let read = Elf::read(&file[..]).unwrap();
    let found = read.references(&file[..]).unwrap();
    assert!(found.iter().all(|found| found.pointer == POINTER));
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.vaddr, found.access))
        .collect();
    assert_eq!(
        found,
        [
            (0x1400, Access::Descriptor),
            (0x1410, Access::GeneralDynamic),
            (0x1420, Access::InitialExec),
            (0x1430, Access::Descriptor),
            (0x1440, Access::InitialExec),
            (0x1450, Access::GeneralDynamic),
        ]
    );
    for position in (0x400..0x460).chain(0x800..0x900) {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = file.clone();
            bad[position] = byte;
            use_all(&bad);
        }
    }
}

#[test]
fn relocations_of_aarch64() {
    let relocations = [
        (elf::R_AARCH64_TLSDESC, 1, 0),
        (elf::R_AARCH64_TLS_DTPMOD, 1, 0),
        (elf::R_AARCH64_TLS_TPREL, 0, 0x10),
        (elf::R_X86_64_TLSDESC, 1, 0),
    ];
    let (mut file, _) = with_relocations(&relocations);
    set(&mut file, 18, &elf::EM_AARCH64.to_le_bytes());
    let read = Elf::read(&file[..]).unwrap();
    let found = read.references(&file[..]).unwrap();
    let found: Vec<_> = found.iter().map(|found| found.access).collect();
    assert_eq!(
        found,
        [
            Access::Descriptor,
            Access::GeneralDynamic,
            Access::InitialExec
        ]
    );
}

const DYNAMIC: usize = 64 + 3 * 56;
const SYMBOLS: usize = DYNAMIC + 4 * 16;
const NAMES: usize = SYMBOLS + 2 * 24;
const HASH: usize = NAMES + 24;

/// A file with one dynamic symbol, `otel_thread_ctx_v1`, in a segment of 0x20 bytes.
fn example(gnu: bool, kind: u8, size: u64, value: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let words = |file: &mut Vec<u8>, words: &[u64]| {
        words
            .iter()
            .for_each(|word| file.extend(word.to_le_bytes()));
    };
    let halves = |file: &mut Vec<u8>, words: &[u32]| {
        words
            .iter()
            .for_each(|word| file.extend(word.to_le_bytes()));
    };

    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([3, 0]);
    file.extend(elf::EM_X86_64.to_le_bytes());
    halves(&mut file, &[1]);
    words(&mut file, &[0, 64, 0]);
    halves(&mut file, &[0]);
    file.extend([64, 0, 56, 0, 3, 0, 0, 0, 0, 0, 0, 0]);

    let end = (HASH + 64) as u64;
    let mut segment = |kind: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64, align: u64| {
        halves(&mut file, &[kind, 4]);
        words(&mut file, &[offset, vaddr, vaddr, filesz, memsz, align]);
    };
    segment(elf::PT_LOAD, 0, 0x1000, end, end, 0x1000);
    segment(elf::PT_TLS, end, 0x3000, 0, 0x20, 8);
    segment(
        elf::PT_DYNAMIC,
        DYNAMIC as u64,
        0x1000 + DYNAMIC as u64,
        64,
        64,
        8,
    );

    let hash_tag = if gnu { elf::DT_GNU_HASH } else { elf::DT_HASH };
    for (tag, offset) in [
        (elf::DT_SYMTAB, SYMBOLS),
        (elf::DT_STRTAB, NAMES),
        (hash_tag, HASH),
    ] {
        words(&mut file, &[u64::from(tag), 0x1000 + offset as u64]);
    }
    words(&mut file, &[0, 0, 0, 0, 0]);

    halves(&mut file, &[1]);
    file.extend([elf::STB_GLOBAL << 4 | kind, 0, 7, 0]);
    words(&mut file, &[value, size]);

    let mut names = [0; 24];
    names[1..19].copy_from_slice(b"otel_thread_ctx_v1");
    file.extend(names);

    if gnu {
        halves(&mut file, &[1, 1, 1, 6]);
        words(&mut file, &[u64::MAX]);
        halves(&mut file, &[1, elf::gnu_hash(b"otel_thread_ctx_v1") | 1]);
    } else {
        halves(&mut file, &[1, 2, 1, 0, 0]);
    }
    file.resize(HASH + 64, 0);
    file
}
