//! The mappings of a process: `/proc/PID/maps`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use super::unreadable;
use crate::error::Error;

/// Bytes of `/proc/PID/maps` that are looked at: more than 600,000 mappings, of which the kernel allows
/// 65,530 by default.
const MAX_SIZE: u64 = 64 << 20;

/// Mappings that are kept at once, each with its name: programs have some hundred.
const MAX_KEPT: usize = 1 << 17;

/// Bytes of names that are kept at once.
const MAX_NAMES: usize = 16 << 20;

/// Longest line that is looked at: a path of 4,096 bytes, each of them escaped.
const MAX_LINE: usize = 20 << 10;

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// Device of the file, as the kernel prints it.
    pub device: (u32, u32),
    /// Inode of the file, 0 if there is none.
    pub inode: u64,
    /// Path of the file, or a name in brackets, or nothing.
    pub name: String,
}

impl Mapping {
    /// Whether a file is mapped, rather than memory of the process's own or of the kernel.
    pub fn is_file(&self) -> bool {
        self.inode != 0 && self.name.starts_with('/')
    }

    /// The file's path without the kernel's note that it was deleted.
    pub fn path(&self) -> &str {
        self.name.strip_suffix(" (deleted)").unwrap_or(&self.name)
    }
}

/// The mappings of a process at one moment, by rising address.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    mappings: Vec<Mapping>,
    complete: bool,
}

impl Maps {
    /// Reads the mappings of `pid`.
    ///
    /// # Errors
    /// If the process is gone or may not be read.
    pub fn read(pid: u32) -> Result<Self, Error> {
        Self::read_some(pid, |_| true)
    }

    /// Reads those mappings of `pid` that are `wanted`. The others cost no memory, however many they are.
    ///
    /// # Errors
    /// If the process is gone or may not be read.
    pub fn read_some(pid: u32, wanted: impl FnMut(&Mapping) -> bool) -> Result<Self, Error> {
        let unreadable = |error| unreadable(pid, "read the mappings", "CAP_SYS_PTRACE", error);
        let file = File::open(format!("/proc/{pid}/maps")).map_err(unreadable)?;
        Self::from_lines(BufReader::with_capacity(MAX_LINE, file), wanted).map_err(unreadable)
    }

    /// Understands the text of `/proc/PID/maps`; lines of another form are left out.
    pub fn parse(text: &[u8]) -> Self {
        // Memory can be read without errors.
        Self::from_lines(text, |_| true).unwrap_or_default()
    }

    fn from_lines(
        lines: impl BufRead,
        mut wanted: impl FnMut(&Mapping) -> bool,
    ) -> io::Result<Self> {
        let mut maps = Self::default();
        let mut names = 0_usize;
        let read_all = each_line(lines.take(MAX_SIZE), |line| {
            let mapping = parse_line(line).map(Line::to_mapping);
            let Some(mapping) = mapping.filter(|mapping| wanted(mapping)) else {
                return ControlFlow::Continue(());
            };
            names = names.saturating_add(mapping.name.len());
            if maps.mappings.len() == MAX_KEPT || names > MAX_NAMES {
                return ControlFlow::Break(());
            }
            maps.mappings.push(mapping);
            ControlFlow::Continue(())
        })?;
        maps.complete = read_all;
        Ok(maps)
    }

    /// Whether these are all: a process with very many mappings is not read to the end.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// All mappings.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter()
    }
}

/// Calls `visit` for each line, with one of them in memory; those that are too long are left out. Whether the
/// end was reached.
fn each_line(
    mut lines: io::Take<impl BufRead>,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<bool> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let size = (&mut lines)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?;
        if size == 0 {
            return Ok(lines.limit() > 0);
        }
        if line.pop_if(|&mut last| last == b'\n').is_none() && size == MAX_LINE {
            skip_line(&mut lines)?;
            continue;
        }
        if visit(&line).is_break() {
            return Ok(false);
        }
    }
}

/// Skips what is left of a line.
fn skip_line(lines: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = lines.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let skipped = end.map_or(buffer.len(), |end| end + 1);
        lines.consume(skipped);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Calls `visit` with each mapping of `pid`; none of them costs memory.
pub(super) fn visit(pid: u32, mut visit: impl FnMut(Line<'_>)) -> Result<(), Error> {
    let unreadable = |error| unreadable(pid, "read the mappings", "CAP_SYS_PTRACE", error);
    let file = File::open(format!("/proc/{pid}/maps")).map_err(unreadable)?;
    let lines = BufReader::with_capacity(MAX_LINE, file).take(MAX_SIZE);
    each_line(lines, |line| {
        parse_line(line).into_iter().for_each(&mut visit);
        ControlFlow::Continue(())
    })
    .map_err(unreadable)?;
    Ok(())
}

/// One line, of which only the numbers have been understood: of 100,000 lines few matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) executable: bool,
    pub(super) offset: u64,
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    name: &'a [u8],
}

impl Line<'_> {
    /// Whether a file is mapped.
    pub(super) fn is_file(&self) -> bool {
        self.inode != 0 && self.name.starts_with(b"/")
    }

    pub(super) fn to_mapping(self) -> Mapping {
        Mapping {
            start: self.start,
            end: self.end,
            executable: self.executable,
            offset: self.offset,
            device: self.device,
            inode: self.inode,
            name: String::from_utf8_lossy(self.name).into_owned(),
        }
    }
}

/// `start-end perms offset major:minor inode      name`
pub(super) fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let (start, end) = split_once(fields.next()?, b'-')?;
    let permissions = fields.next()?;
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = split_once(fields.next()?, b':')?;
    let inode = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let name = fields.next().unwrap_or_default();
    let padding = name.iter().take_while(|&&byte| byte == b' ').count();
    let line = Line {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        executable: permissions.get(2) == Some(&b'x'),
        offset,
        device: (
            hexadecimal(major)?.try_into().ok()?,
            hexadecimal(minor)?.try_into().ok()?,
        ),
        inode,
        name: name.get(padding..)?,
    };
    (line.start < line.end).then_some(line)
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let text = b"55d0c0a00000-55d0c0a2a000 r-xp 0001f000 fe:01 1234                       /opt/my app (deleted)\n\
            7ffd1000-7ffd2000 rw-p 00000000 00:00 0 \n\
            7f0000000000-7f0000001000 rw-p 00000000 00:01 2051  /memfd:OTEL_CTX (deleted)\n\
            garbage\n2-1 r-xp 0 0:0 0\n";
        let maps = Maps::parse(text);
        let all: Vec<_> = maps.iter().collect();
        assert_eq!(all.len(), 3);
        assert_eq!(
            *all[0],
            Mapping {
                start: 0x55d0_c0a0_0000,
                end: 0x55d0_c0a2_a000,
                executable: true,
                offset: 0x1f000,
                device: (0xfe, 1),
                inode: 1234,
                name: "/opt/my app (deleted)".to_owned(),
            }
        );
        assert_eq!(all[0].path(), "/opt/my app");
        assert!(all[0].is_file() && !all[1].is_file());
        assert_eq!(all[1].name, "");
        assert_eq!(all[2].name, "/memfd:OTEL_CTX (deleted)");
    }

    #[test]
    fn only_what_is_wanted_is_kept_and_long_lines_are_left_out() {
        let mut text = String::new();
        for start in 1..=3 {
            text += &format!("{start}000-{start}800 r-xp 0 0:0 0 /{start}\n");
        }
        let long = format!("4000-4800 r-xp 0 0:0 0 /{}\n", "x".repeat(MAX_LINE));
        let text = text + &long + "5000-5800 rw-p 0 0:0 0";
        let maps = Maps::parse(text.as_bytes());
        let starts: Vec<_> = maps.iter().map(|mapping| mapping.start).collect();
        assert_eq!(starts, [0x1000, 0x2000, 0x3000, 0x5000]);
        assert!(maps.is_complete());
        let some = Maps::from_lines(text.as_bytes(), |mapping| mapping.start == 0x2000).unwrap();
        assert_eq!(some.iter().count(), 1);
    }

    #[test]
    fn very_many_mappings_are_not_read_to_the_end() {
        let text = "1000-2000 r-xp 0 0:0 0\n".repeat(MAX_KEPT + 1);
        let maps = Maps::parse(text.as_bytes());
        assert_eq!(maps.iter().count(), MAX_KEPT);
        assert!(!maps.is_complete());
        let none = Maps::from_lines(text.as_bytes(), |_| false).unwrap();
        assert!(none.is_complete());
        let name = "x".repeat(4096);
        let text = format!("1000-2000 r-xp 0 0:0 0 {name}\n").repeat(MAX_NAMES / 4096 + 2);
        let maps = Maps::parse(text.as_bytes());
        assert_eq!(maps.iter().count(), MAX_NAMES / 4096);
        assert!(!maps.is_complete());
    }

    #[test]
    fn this_test_is_in_its_own_mappings() {
        let here = this_test_is_in_its_own_mappings as fn() as usize as u64;
        let maps = Maps::read(std::process::id()).unwrap();
        let found = maps
            .iter()
            .find(|mapping| (mapping.start..mapping.end).contains(&here))
            .unwrap();
        assert!(found.executable && found.is_file());
        let program = std::env::current_exe().unwrap();
        assert_eq!(found.path(), program.to_str().unwrap());
    }
}
