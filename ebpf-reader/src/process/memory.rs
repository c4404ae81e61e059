//! The memory of another process: `/proc/PID/mem`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::unreadable;
use crate::error::Error;

/// Reads memory of one process. Once open it stays with that process, even if its id is used again.
#[derive(Debug)]
pub struct Memory {
    file: File,
}

impl Memory {
    /// Opens the memory of `pid`.
    ///
    /// # Errors
    /// If the process is gone or may not be read.
    pub fn open(pid: u32) -> Result<Self, Error> {
        match File::open(format!("/proc/{pid}/mem")) {
            Ok(file) => Ok(Self { file }),
            Err(error) => Err(unreadable(pid, "read the memory", "CAP_SYS_PTRACE", error)),
        }
    }

    /// Whether the memory is still there: it is gone when the process has ended or executed another program.
    pub fn is_there(&self) -> bool {
        // The end of the file without an error. An address where nothing is mapped is an error.
        !matches!(self.file.read_at(&mut [0], 0), Ok(0))
    }

    /// Fills `buffer` with the bytes at `address`.
    ///
    /// # Errors
    /// If a part of them is not mapped.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, address)
    }

    /// `N` words at an address; `None` if a part of them is not mapped.
    pub(super) fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let mut words = [[0; 8]; N];
        self.read(address, words.as_flattened_mut()).ok()?;
        Some(words.map(u64::from_ne_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let memory = Memory::open(std::process::id()).unwrap();
        let word = std::hint::black_box(0x0123_4567_89ab_cdef_u64);
        let mut buffer = [0; 8];
        memory.read(&raw const word as u64, &mut buffer).unwrap();
        assert_eq!(u64::from_ne_bytes(buffer), word);
        assert!(memory.read(0, &mut buffer).is_err());
        assert!(memory.read(u64::MAX, &mut buffer).is_err());
    }
}
