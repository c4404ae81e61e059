//! The machine code that reaches the slots, as linkers leave it.

use crate::elf::{CUSTOM_LABELS, Linked, THREAD_CONTEXT};
use crate::package::{Build, Linker, Package, Profile};
use crate::{EXECUTABLE, EXPORT, check_exported};

/// The canonical access sequence: load the descriptor's address, call it, add the thread pointer.
const ADD_THREAD_POINTER: [u8; 9] = [0x64, 0x48, 0x03, 0x04, 0x25, 0, 0, 0, 0];

/// In a shared object the sequence stays, and points to the descriptors that the relocations name.
pub(crate) fn check_canonical_access(linked: &Linked) {
    let mut called: Vec<u64> = accesses(linked, [0x48, 0x8d, 0x05], [0xff, 0x10])
        .map(|(end, offset)| end.wrapping_add_signed(offset.into()))
        .collect();
    let mut relocated = [THREAD_CONTEXT, CUSTOM_LABELS]
        .map(|name| linked.tls_descriptors(name))
        .concat();
    called.sort_unstable();
    relocated.sort_unstable();
    called.retain(|descriptor| relocated.contains(descriptor));
    assert_eq!(called, relocated);
}

/// In an executable linkers relax the sequence: to the slot's offset, or to a load of it, which GNU ld
/// does for exported symbols.
#[test]
fn access_in_an_executable_is_relaxed() {
    let package = Package::new("linking-relaxed", EXECUTABLE).with_build_script(EXPORT);
    for linker in [Linker::Default, Linker::Gnu, Linker::Mold] {
        if !linker.is_installed() {
            continue;
        }
        for profile in [Profile::Debug, Profile::FatLto] {
            let build = Build {
                linker,
                profile,
                ..Build::default()
            };
            let Some(linked) = check_exported(&package, &build) else {
                continue;
            };
            let constants: Vec<i32> = accesses(&linked, [0x48, 0xc7, 0xc0], [0x66, 0x90])
                .map(|(_, offset)| offset)
                .collect();
            let loads: Vec<u64> = accesses(&linked, [0x48, 0x8b, 0x05], [0x66, 0x90])
                .map(|(end, offset)| end.wrapping_add_signed(offset.into()))
                .collect();
            for name in [THREAD_CONTEXT, CUSTOM_LABELS] {
                let value = linked.exported(name).expect("checked above").value;
                let is_constant = constants.contains(&linked.static_offset(value));
                let is_load = linked
                    .tls_relocations(name, object::elf::R_X86_64_TPOFF64)
                    .iter()
                    .any(|at| loads.contains(at));
                assert!(
                    is_constant || (is_load && linker == Linker::Gnu),
                    "{}, {profile:?}: {name}",
                    linker.name()
                );
                assert_eq!(linked.tls_descriptors(name), []);
            }
        }
    }
}

/// Each place where `first` and 4 bytes, `second` and the thread pointer follow each other: the address
/// after the 4 bytes, and their value.
fn accesses(linked: &Linked, first: [u8; 3], second: [u8; 2]) -> impl Iterator<Item = (u64, i32)> {
    let tail = [&second[..], &ADD_THREAD_POINTER].concat();
    linked.code().into_iter().flat_map(move |(address, code)| {
        let tail = tail.clone();
        let found: Vec<_> = code
            .windows(7 + tail.len())
            .enumerate()
            .filter(|(_, window)| window.starts_with(&first) && window.ends_with(&tail))
            .map(|(at, window)| {
                let value = [window[3], window[4], window[5], window[6]];
                (address + at as u64 + 7, i32::from_le_bytes(value))
            })
            .collect();
        found
    })
}
