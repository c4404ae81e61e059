//! Files that lie, and what is done for them.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::rule::Context;
use super::table::Table;
use super::*;
use crate::elf::Bytes;
use crate::process::Maps;
use crate::sample::Registers;

/// A small generator of numbers, the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// The C library of this process, and the offsets of its code; `None` if it is linked statically.
fn library() -> Option<(Vec<u8>, Range<u64>)> {
    let maps = Maps::read(std::process::id()).unwrap();
    let mapping = maps
        .iter()
        .find(|mapping| mapping.executable && mapping.name.contains("libc.so"))?;
    let mut bytes = Vec::new();
    File::open(mapping.path())
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let code = mapping.offset..mapping.offset + (mapping.end - mapping.start);
    Some((bytes, code))
}

/// Looks up `count` places of the code; how many rules were found.
fn look_up(file: &[u8], code: &Range<u64>, count: usize, numbers: &mut Numbers) -> usize {
    let Some(table) = Table::locate(file).and_then(|location| location.read(file)) else {
        return 0;
    };
    let mut context = Context::new_in();
    let mut interpreted = 0;
    let places = (0..count).map(|_| code.start + numbers.next() % (code.end - code.start));
    let found = places
        .filter_map(|place| table.address(place))
        .filter_map(|address| table.rule(file, address, &mut context, &mut interpreted));
    found.count()
}

#[test]
fn the_rules_of_a_library_are_found() {
    let Some((file, code)) = library() else {
        return;
    };
    let found = look_up(&file, &code, 2000, &mut Numbers(1));
    assert!(found > 1900, "{found} of 2000");
}

#[test]
fn damaged_tables_end_in_no_rule_and_in_time() {
    let Some((file, code)) = library() else {
        return;
    };
    let tables = Table::locate(&file[..]).unwrap().extent();
    let tables = usize::try_from(tables.start).unwrap()
        ..usize::try_from(tables.end).unwrap().min(file.len());
    let mut numbers = Numbers(2);
    let begin = Instant::now();
    let mut found = 0;
    for round in 0..200 {
        let mut damaged = file.clone();
        // From a few bytes to nearly all of them, in the headers, the search table and the entries.
        for _ in 0..(1_usize << (round % 18)) {
            let at = match numbers.below(8) {
                0 => numbers.below(0x400),
                _ => tables.start + numbers.below(tables.len()),
            };
            damaged[at] = numbers.next() as u8;
        }
        damaged.truncate(match numbers.below(4) {
            0 => numbers.below(file.len()),
            _ => file.len(),
        });
        found += look_up(&damaged, &code, 500, &mut numbers);
    }
    // Light damage leaves most of it as it was.
    assert!(found > 1000, "{found}");
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn any_registers_and_any_stack_come_to_an_end() {
    let pid = std::process::id();
    let mut modules = Modules::default();
    let mut space = AddressSpace::default();
    space.refresh(pid, &mut modules);
    let pieces: Vec<_> = space.iter().cloned().collect();
    let mut numbers = Numbers(3);
    let mut unwinder = Unwinder::default();
    let mut frames = Vec::new();
    for round in 0..2000_u64 {
        let mut code = || {
            let mapping = &pieces[numbers.below(pieces.len())].mapping;
            mapping.start + numbers.next() % (mapping.end - mapping.start)
        };
        // Every word may be taken for a return address, or for a frame pointer into the stack.
        let start = 0x7fff_0000_0000 + 8 * (round % 2);
        let mut bytes = Vec::new();
        for word in 0..2048_u64 {
            let word = match (round + word) % 3 {
                0 => start + 8 * (code() % 2048),
                _ => code(),
            };
            bytes.extend(word.to_ne_bytes());
        }
        let instruction = code();
        let copy = StackCopy {
            registers: Registers {
                instruction,
                stack: start,
                frame: start + 8 * (code() % 2048),
                link: code(),
            },
            bytes,
        };
        frames.clear();
        unwinder.unwind(&copy, &space, &modules, &mut frames);
        assert!((1..=512).contains(&frames.len()));
        assert_eq!(frames[0], instruction);
        frames.clear();
        Unwinder::follow_frame_pointers(&copy, &space, &mut frames);
        assert!((1..=512).contains(&frames.len()));
    }
    let wild = StackCopy {
        registers: Registers {
            instruction: u64::MAX,
            stack: u64::MAX - 3,
            frame: !7,
            link: u64::MAX,
        },
        bytes: vec![0xff; 64],
    };
    frames.clear();
    let outcome = unwinder.unwind(&wild, &space, &modules, &mut frames);
    assert_eq!((outcome, &frames[..]), (Outcome::Unknown, &[u64::MAX][..]));
}

/// A file that ends while it is looked into.
struct Shrinking<'a>(&'a [u8], std::cell::Cell<usize>);

impl Bytes for Shrinking<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let left = self.1.get();
        self.1.set(left.saturating_sub(1));
        let whole = if left > 0 { self.0 } else { &[] };
        whole.read_at(offset, buffer)
    }
}

#[test]
fn a_file_that_is_truncated_meanwhile_has_no_rules() {
    let Some((file, code)) = library() else {
        return;
    };
    for reads in 0..40 {
        let shrinking = Shrinking(&file, reads.into());
        let Some(table) = Table::locate(&shrinking).and_then(|found| found.read(&shrinking)) else {
            continue;
        };
        let mut context = Context::new_in();
        let address = table.address(code.start + 0x1000).unwrap();
        table.rule(&shrinking, address, &mut context, &mut 0);
        shrinking.1.set(0);
        assert_eq!(table.rule(&shrinking, address, &mut context, &mut 0), None);
    }
}
