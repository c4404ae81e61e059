//! The files that a process has mapped executable: its program and shared objects, and where they begin.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::auxv;
use super::maps::{self, Line, Mapping};
use super::memory::Memory;
use crate::elf::{Elf, Kind};
use crate::error::Error;

/// Different files that are looked at in one process.
const MAX_FILES: usize = 2048;
/// Executable mappings of one file that are looked at: one, or one for each time it was loaded.
const MAX_MAPPINGS: u32 = 16;
/// Modules in the dynamic linker's list that are looked at.
const MAX_MODULES: usize = 4096;
/// Entries of the dynamic segment that are looked at.
const MAX_DYNAMIC_ENTRIES: u64 = 512;

/// First and last mappings that are remembered.
const ANCHORS: usize = 4;

const DT_DEBUG: u64 = 21;

/// The executable mappings of one moment.
#[derive(Debug, Default)]
pub(super) struct Executable {
    /// Of files, by rising address.
    pub(super) mappings: Vec<Mapping>,
    /// Changes when any of them does.
    pub(super) fingerprint: u64,
    /// Addresses of the first and the last mappings of any kind: of the program, and of what the kernel gives
    /// to each process. None of them: the process has no memory any more.
    pub(super) anchors: Vec<u64>,
}

impl Executable {
    /// Those of a process.
    pub(super) fn read(pid: u32) -> Result<Self, Error> {
        let mut collected = Collected::default();
        maps::visit(pid, |line| collected.add(line))?;
        Ok(collected.finish())
    }

    /// Whether a process's memory is still that in which they were seen.
    pub(super) fn is_in(&self, memory: &Memory) -> bool {
        self.anchors
            .iter()
            .any(|&address| memory.read(address, &mut [0; 1]).is_ok())
    }

    /// Whether an address lies in one of them.
    pub(super) fn contains(&self, address: u64) -> bool {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.start <= address);
        after
            .checked_sub(1)
            .and_then(|at| self.mappings.get(at))
            .is_some_and(|mapping| address < mapping.end)
    }
}

/// What was seen of a process's mappings.
#[derive(Default)]
struct Collected {
    mappings: Vec<Mapping>,
    of_file: HashMap<((u32, u32), u64), u32>,
    fingerprint: DefaultHasher,
    first: Vec<u64>,
    last: VecDeque<u64>,
}

impl Collected {
    fn add(&mut self, line: Line<'_>) {
        if self.first.len() < ANCHORS {
            self.first.push(line.start);
        } else {
            self.last.push_back(line.start);
            if self.last.len() > ANCHORS {
                self.last.pop_front();
            }
        }
        if !line.executable || !line.is_file() {
            return;
        }
        let file = (line.device, line.inode);
        if self.of_file.len() >= MAX_FILES && !self.of_file.contains_key(&file) {
            return;
        }
        let count = self.of_file.entry(file).or_default();
        if *count < MAX_MAPPINGS {
            *count += 1;
            (file, line.start, line.end, line.offset).hash(&mut self.fingerprint);
            self.mappings.push(line.to_mapping());
        }
    }

    fn finish(mut self) -> Executable {
        self.first.extend(self.last);
        Executable {
            mappings: self.mappings,
            fingerprint: self.fingerprint.finish(),
            anchors: self.first,
        }
    }
}

/// What has to be added to the addresses of a file to get those in the process, from one of its executable
/// mappings.
pub(super) fn base(elf: &Elf, mapping: &Mapping) -> Option<u64> {
    let load = elf.loads.iter().find(|load| {
        // A mapping begins at the start of a page, which the segment's own start need not be.
        let before = load.offset % load.align.max(4096);
        load.executable
            && mapping.offset >= load.offset - before
            && mapping.offset < load.offset.saturating_add(load.filesz)
    })?;
    let vaddr = load
        .vaddr
        .wrapping_add(mapping.offset.wrapping_sub(load.offset));
    Some(mapping.start.wrapping_sub(vaddr))
}

/// The same for the program that the kernel started, which tells it where the program begins.
pub(super) fn base_of_program(pid: u32, elf: &Elf) -> Option<u64> {
    if elf.kind == Kind::Fixed {
        return Some(0);
    }
    Some(auxv::entry(pid)?.wrapping_sub(elf.entry))
}

/// The positions of modules in the dynamic linker's list, by their bases. The list lies where the linker
/// says in the program's dynamic segment; without it the map is empty.
pub(super) fn load_order(memory: &Memory, program: &Elf, base: u64) -> HashMap<u64, usize> {
    let mut order = HashMap::new();
    let _ = follow_list(memory, program, base, &mut order);
    order
}

fn follow_list(
    memory: &Memory,
    program: &Elf,
    base: u64,
    order: &mut HashMap<u64, usize>,
) -> Option<()> {
    let dynamic = program.dynamic.as_ref()?;
    let start = base.wrapping_add(dynamic.vaddr);
    let entry = |index: u64| memory.words::<2>(start.wrapping_add(index * 16));
    let [_, debug] = (0..MAX_DYNAMIC_ENTRIES)
        .map_while(entry)
        .take_while(|&[tag, _]| tag != 0)
        .find(|&[tag, _]| tag == DT_DEBUG)?;
    // struct r_debug: version, first module.
    let [_, mut module] = memory.words(debug)?;
    for position in 0..MAX_MODULES {
        if module == 0 {
            break;
        }
        // struct link_map: base, name, dynamic segment, next module.
        let [base, _, _, next] = memory.words(module)?;
        order.entry(base).or_insert(position);
        module = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn this_test_and_its_libraries_are_found_where_they_are() {
        let pid = std::process::id();
        let executable = Executable::read(pid).unwrap();
        let here = this_test_and_its_libraries_are_found_where_they_are as fn() as usize as u64;
        assert!(executable.contains(here));
        assert!(!executable.contains(&raw const here as u64));
        let elf = Elf::read(&File::open("/proc/self/exe").unwrap()).unwrap();
        let program = base_of_program(pid, &elf).unwrap();
        let mapping = executable
            .mappings
            .iter()
            .find(|mapping| mapping.start <= here && here < mapping.end)
            .unwrap();
        assert_eq!(base(&elf, mapping), Some(program));

        let memory = Memory::open(pid).unwrap();
        let order = load_order(&memory, &elf, program);
        if elf.interpreter.is_some() {
            assert_eq!(order.get(&program), Some(&0));
            assert!(order.len() > 1, "the C library is a module too");
        }
    }

    #[test]
    fn what_is_looked_at_is_bounded() {
        let parse = |text: &str| {
            let mut collected = Collected::default();
            let lines = text.lines().map(str::as_bytes);
            lines
                .filter_map(maps::parse_line)
                .for_each(|line| collected.add(line));
            collected.finish()
        };
        let mut text = String::new();
        for n in 0..100_000_u64 {
            let start = 0x1000_0000 + n * 0x2000;
            let inode = if n < 50_000 { 7 } else { n };
            text += &format!(
                "{start:x}-{:x} r-xp 0 08:01 {inode} /f\n{:x}-{:x} rw-p 0 08:01 {inode} /f\n",
                start + 0x1000,
                start + 0x1000,
                start + 0x2000,
            );
        }
        let executable = parse(&text);
        assert_eq!(
            executable.mappings.len(),
            MAX_MAPPINGS as usize + MAX_FILES - 1
        );
        let again = parse(&text);
        assert_eq!(executable.fingerprint, again.fingerprint);
        let other = parse(&text.replace("10000000-", "10000001-"));
        assert_ne!(executable.fingerprint, other.fingerprint);
        assert_eq!(executable.anchors.len(), 2 * ANCHORS);
    }
}
