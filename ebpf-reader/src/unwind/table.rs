//! The search table of one file's unwind entries (`.eh_frame_hdr`), kept in memory; the entries stay in the file.

use object::LittleEndian as LE;
use object::elf;
use object::pod;

use super::rule::{Context, Entry, Rule};
use crate::elf::Bytes;

/// Most program headers that are looked at; linkers write about a dozen.
const MAX_PROGRAM_HEADERS: u16 = 64;

/// Largest table that is read: a program with a million functions has 8 MB.
pub(super) const MAX_TABLE: u64 = 12 << 20;

/// Largest entry that is read; those of very large functions have some thousand bytes.
const MAX_ENTRY: usize = 16 << 10;

/// Encodings of pointers that linkers use in the table.
const PCREL_SDATA4: u8 = 0x1b;
const UDATA4: u8 = 0x03;
const DATAREL_SDATA4: u8 = 0x3b;

/// A loaded piece of the file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

/// One function, by its first instruction, and its entry; both relative to the table's address.
#[derive(Clone, Copy, Debug)]
struct Function {
    start: i32,
    entry: i32,
}

/// What one file says about unwinding.
#[derive(Debug)]
pub(super) struct Table {
    segments: Vec<Segment>,
    /// Address of the table in the file's own address space.
    address: u64,
    /// By rising start, unless the file lies.
    functions: Vec<Function>,
}

impl Table {
    /// Where the table is in a file, and its size in bytes; `None` if it has none that is understood.
    pub(super) fn locate<B: Bytes + ?Sized>(file: &B) -> Option<Location> {
        let header: elf::FileHeader64<LE> = read_pod(file, 0)?;
        if header.e_ident.magic != elf::ELFMAG
            || header.e_ident.class != elf::ELFCLASS64
            || header.e_ident.data != elf::ELFDATA2LSB
            || usize::from(header.e_phentsize.get(LE)) != size_of::<elf::ProgramHeader64<LE>>()
        {
            return None;
        }
        let mut segments = Vec::new();
        let mut table = None;
        let mut at = header.e_phoff.get(LE);
        for _ in 0..header.e_phnum.get(LE).min(MAX_PROGRAM_HEADERS) {
            let segment: elf::ProgramHeader64<LE> = read_pod(file, at)?;
            at = at.checked_add(size_of_val(&segment) as u64)?;
            let found = Segment {
                offset: segment.p_offset.get(LE),
                address: segment.p_vaddr.get(LE),
                size: segment.p_filesz.get(LE),
            };
            match segment.p_type.get(LE) {
                elf::PT_LOAD => segments.push(found),
                elf::PT_GNU_EH_FRAME => table = Some(found),
                _ => {}
            }
        }
        let table = table?;
        let mut start = [0; 12];
        file.read_at(table.offset, &mut start).ok()?;
        let [
            1,
            PCREL_SDATA4,
            UDATA4,
            DATAREL_SDATA4,
            _,
            _,
            _,
            _,
            count @ ..,
        ] = start
        else {
            return None;
        };
        let count = u64::from(u32::from_le_bytes(count));
        let size = count.checked_mul(8)?;
        (count > 0 && size <= MAX_TABLE && size <= table.size.saturating_sub(12)).then_some(
            Location {
                segments,
                table,
                size,
            },
        )
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.functions.len() * size_of::<Function>()
    }

    /// The address in the file's own address space of a byte at an offset.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let from_start = offset.checked_sub(segment.offset)?;
            (from_start < segment.size).then(|| segment.address.checked_add(from_start))?
        })
    }

    fn offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let from_start = address.checked_sub(segment.address)?;
            (from_start < segment.size).then(|| segment.offset.checked_add(from_start))?
        })
    }

    /// The rule for the instruction at `address`. `interpreted` grows by what had to be read for it.
    pub(super) fn rule<B: Bytes + ?Sized>(
        &self,
        file: &B,
        address: u64,
        context: &mut Context,
        interpreted: &mut u64,
    ) -> Option<Rule> {
        let relative = i32::try_from(address.wrapping_sub(self.address).cast_signed()).ok()?;
        let after = self
            .functions
            .partition_point(|function| function.start <= relative);
        let function = self.functions.get(after.checked_sub(1)?)?;
        let entry = self.address.checked_add_signed(i64::from(function.entry))?;
        let (bytes, to_common) = self.entry(file, entry)?;
        let common = entry
            .checked_add(4)?
            .checked_sub(u64::from(to_common))
            // 0 is a common entry itself.
            .filter(|_| to_common != 0)?;
        let (common, is_common) = self.entry(file, common)?;
        if is_common != 0 {
            return None;
        }
        *interpreted += bytes.len() as u64 + common.len() as u64;
        let entry = Entry {
            address: entry,
            bytes: &bytes,
            common: &common,
        };
        entry.rule(address, context)
    }

    /// An entry and its second word: 0, or how far before that word its common entry lies.
    fn entry<B: Bytes + ?Sized>(&self, file: &B, address: u64) -> Option<(Vec<u8>, u32)> {
        let offset = self.offset(address)?;
        let mut start = [0; 8];
        file.read_at(offset, &mut start).ok()?;
        let [a, b, c, d, second @ ..] = start;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        // At least the second word; a length of 0 is the section's end, the largest ones announce 64 bits.
        if !(4..=MAX_ENTRY).contains(&length) {
            return None;
        }
        let mut bytes = vec![0; length + 4];
        file.read_at(offset, &mut bytes).ok()?;
        Some((bytes, u32::from_le_bytes(second)))
    }
}

/// A table that is to be read.
#[derive(Debug)]
pub(super) struct Location {
    segments: Vec<Segment>,
    table: Segment,
    /// In bytes.
    pub(super) size: u64,
}

impl Location {
    /// The part of the file with the table and, mostly behind it, the entries.
    #[cfg(test)]
    pub(super) fn extent(&self) -> std::ops::Range<u64> {
        self.table.offset..self.table.offset + 5 * self.table.size
    }

    /// Reads the table.
    pub(super) fn read<B: Bytes + ?Sized>(self, file: &B) -> Option<Table> {
        let mut bytes = vec![0; usize::try_from(self.size).ok()?];
        file.read_at(self.table.offset.checked_add(12)?, &mut bytes)
            .ok()?;
        let (rows, _) = bytes.as_chunks::<8>();
        let functions = rows
            .iter()
            .map(|&[a, b, c, d, e, f, g, h]| Function {
                start: i32::from_le_bytes([a, b, c, d]),
                entry: i32::from_le_bytes([e, f, g, h]),
            })
            .collect();
        Some(Table {
            segments: self.segments,
            address: self.table.address,
            functions,
        })
    }
}

fn read_pod<T: pod::Pod, B: Bytes + ?Sized>(file: &B, offset: u64) -> Option<T> {
    let mut bytes = vec![0; size_of::<T>()];
    file.read_at(offset, &mut bytes).ok()?;
    pod::from_bytes::<T>(&bytes).ok().map(|(found, _)| *found)
}
