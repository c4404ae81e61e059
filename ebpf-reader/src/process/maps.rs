//! The mappings of a process: `/proc/PID/maps`.

use std::fs::File;
use std::io::Read;

use super::unreadable;
use crate::error::Error;

/// Bytes of `/proc/PID/maps` that are read: about 160,000 mappings, more than the kernel allows by
/// default.
const MAX_SIZE: u64 = 16 << 20;

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        let mut text = Vec::new();
        File::open(format!("/proc/{pid}/maps"))
            .and_then(|file| file.take(MAX_SIZE).read_to_end(&mut text))
            .map_err(|error| unreadable(pid, "read the mappings", "CAP_SYS_PTRACE", error))?;
        Ok(Self::parse(&text))
    }

    /// Understands the text of `/proc/PID/maps`; lines of another form are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mappings = text
            .split(|&byte| byte == b'\n')
            .filter_map(parse_line)
            .collect();
        Self { mappings }
    }

    /// All mappings.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter()
    }
}

/// `start-end perms offset major:minor inode      name`
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?;
    let mapping = Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode: inode.parse().ok()?,
        name: fields
            .next()
            .unwrap_or("")
            .trim_start_matches(' ')
            .to_owned(),
    };
    (mapping.start < mapping.end).then_some(mapping)
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
