//! Functions of the kernel by address: the kernel itself is asked, and where it cannot be, its list is read.
//!
//! `/proc/kallsyms` is made up anew for each reader, a hundred thousand lines of it and more. A program in the kernel
//! can have single addresses printed, which takes some microseconds each (`bpf_snprintf`, Linux 5.13).

use std::fs::File;
use std::io::{self, BufReader};

use super::addresses;
use super::file::Named;
use crate::sys::bpf::{Program, Shared};

/// So many addresses are asked for one by one. With more of them it gains less and less over the list.
const MAX_ASKED: usize = 4096;

/// A name with its module; the kernel's names have up to 511 bytes.
const TEXT: usize = 640;

/// The function at an address, without the offset in it; in brackets behind it the module.
const FORMAT: &[u8; 4] = b"%ps\0";

/// Number of the helper in the kernel's ABI.
const SNPRINTF: u64 = 165;

/// Names of addresses in rising order; `None` if the kernel does not tell.
pub(super) fn names(addresses: &[u64]) -> io::Result<Option<Vec<Vec<Named>>>> {
    if addresses.len() <= MAX_ASKED
        && let Ok(names) = asked(addresses)
    {
        return Ok(Some(names));
    }
    addresses::kernel(BufReader::new(File::open("/proc/kallsyms")?), addresses)
}

/// Names by a program that prints them.
fn asked(addresses: &[u64]) -> io::Result<Vec<Vec<Named>>> {
    let text = Shared::<TEXT>::zeros()?;
    let format = Shared::constant(FORMAT)?;
    let program = Program::load(&instructions(text.number(), format.number()))?;
    let mut names = Vec::with_capacity(addresses.len());
    for &address in addresses {
        program.run(address)?;
        names.push(name_in(&text.read()?));
    }
    Ok(names)
}

/// `bpf_snprintf(text, TEXT, format, &argument, 8)`: each instruction has its operation in the lowest byte, then the
/// registers of destination and source, 16 bits of offset, and 32 of a number.
fn instructions(text: u32, format: u32) -> [u64; 13] {
    const LOAD: u64 = 0x79;
    const STORE: u64 = 0x7b;
    const LOAD_ADDRESS: u64 = 0x18;
    const MOVE: u64 = 0xb7;
    const MOVE_REGISTER: u64 = 0xbf;
    const ADD: u64 = 0x07;
    const CALL: u64 = 0x85;
    const EXIT: u64 = 0x95;
    /// The source of an address that is that of a map's value.
    const MAP_VALUE: u64 = 2;
    /// Where the argument lies, from the frame's end, in 16 and in 32 bits.
    const SLOT_16: u64 = 0xfff8;
    const SLOT_32: u64 = 0xffff_fff8;

    let instruction = |operation: u64, to: u64, from: u64, offset: u64, number: u64| {
        operation | to << 8 | from << 12 | offset << 16 | number << 32
    };
    [
        instruction(LOAD, 1, 1, 0, 0),
        instruction(STORE, 10, 1, SLOT_16, 0),
        instruction(LOAD_ADDRESS, 1, MAP_VALUE, 0, text.into()),
        0,
        instruction(MOVE, 2, 0, 0, TEXT as u64),
        instruction(LOAD_ADDRESS, 3, MAP_VALUE, 0, format.into()),
        0,
        instruction(MOVE_REGISTER, 4, 10, 0, 0),
        instruction(ADD, 4, 0, 0, SLOT_32),
        instruction(MOVE, 5, 0, 0, 8),
        instruction(CALL, 0, 0, 0, SNPRINTF),
        instruction(MOVE, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// The function that was printed; nothing for an address in none, which is printed as a number.
fn name_in(text: &[u8]) -> Vec<Named> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() || text.starts_with(b"0x") {
        return Vec::new();
    }
    vec![Named {
        name: String::from_utf8_lossy(text).into_owned(),
        ..Named::default()
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_what_its_list_names() {
        let list = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let all: Vec<u64> = list
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, rest)| rest.starts_with(['t', 'T']) && !rest.contains('['))
            .filter_map(|(start, _)| u64::from_str_radix(start, 16).ok())
            .filter(|&start| start != 0)
            .collect();
        // Inside a function, and in a sorted order without repetitions.
        let mut some: Vec<u64> = all.iter().step_by(100).map(|&start| start + 1).collect();
        some.sort_unstable();
        some.dedup();
        let Ok(asked) = asked(&some) else {
            eprintln!("skipped: asking the kernel needs CAP_BPF, CAP_PERFMON and Linux 5.13");
            return;
        };
        if some.is_empty() {
            eprintln!("skipped: the kernel hides its addresses");
            return;
        }
        let listed = addresses::kernel(list.as_bytes(), &some).unwrap().unwrap();
        let name = |names: &Vec<Named>| names.first().map(|named| named.name.clone());
        let others = asked.iter().zip(&listed).zip(&some);
        let others: Vec<_> = others
            .filter(|((asked, listed), _)| name(asked) != name(listed))
            .map(|((asked, listed), address)| (address, name(asked), name(listed)))
            .collect();
        // Several names may belong to one address.
        assert!(
            others.len() * 20 <= some.len(),
            "{} of {}: {:x?}",
            others.len(),
            some.len(),
            others.get(..5)
        );
    }

    #[test]
    fn an_address_in_no_function_has_no_name() {
        assert!(name_in(b"0xffffffffffff0000\0\0").is_empty());
        assert!(name_in(b"\0").is_empty());
        assert_eq!(name_in(b"inner [module]\0rest")[0].name, "inner [module]");
        if let Ok(names) = asked(&[0x1000]) {
            assert!(names[0].is_empty(), "{names:?}");
        }
    }
}
