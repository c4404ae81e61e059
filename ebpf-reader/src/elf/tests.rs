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
