//! The mappings of a process: `/proc/PID/maps`.

use std::fs::File;
use std::io::Read;

use super::unreadable;
use crate::error::Error;

/// Bytes of `/proc/PID/maps` that are read: about 160,000 mappings, more than the kernel allows by
/// default.
const MAX_SIZE: u64 = 16 << 20;

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
}

impl Maps {
    /// Reads the mappings of `pid`.
    ///
    /// # Errors
    /// If the process is gone or may not be read.
    pub fn read(pid: u32) -> Result<Self, Error> {
        Ok(Self::parse(&read_text(pid)?))
    }

    /// Understands the text of `/proc/PID/maps`; lines of another form are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mappings = lines(text).map(|line| line.to_mapping()).collect();
        Self { mappings }
    }

    /// All mappings.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter()
    }
}

/// The text of `/proc/PID/maps`.
pub(super) fn read_text(pid: u32) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/maps"))
        .and_then(|file| file.take(MAX_SIZE).read_to_end(&mut text))
        .map_err(|error| unreadable(pid, "read the mappings", "CAP_SYS_PTRACE", error))?;
    Ok(text)
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

/// The lines that have the form of a mapping.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line)
}

/// `start-end perms offset major:minor inode      name`
fn parse_line(line: &[u8]) -> Option<Line<'_>> {
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
