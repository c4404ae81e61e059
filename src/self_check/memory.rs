//! This process's memory as an outside reader gets at it: through `/proc/self/mem`, where a wrong
//! address is an error and not a crash.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::SelfCheckError;

/// What errors say could not be read.
const WHAT: &str = "/proc/self/mem";

#[derive(Debug)]
pub(super) struct Memory(File);

impl Memory {
    pub(super) fn open() -> Result<Self, SelfCheckError> {
        let file =
            File::open(WHAT).map_err(|source| SelfCheckError::Unreadable { what: WHAT, source })?;
        Ok(Self(file))
    }

    pub(super) fn read<const N: usize>(&self, address: u64) -> Result<[u8; N], SelfCheckError> {
        let mut bytes = [0; N];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_vec(&self, address: u64, len: usize) -> Result<Vec<u8>, SelfCheckError> {
        let mut bytes = vec![0; len];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&self, address: u64) -> Result<u32, SelfCheckError> {
        self.read(address).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&self, address: u64) -> Result<u64, SelfCheckError> {
        self.read(address).map(u64::from_ne_bytes)
    }

    /// Whether the terminated string at `address` is `expected`.
    pub(super) fn is_name(&self, address: u64, expected: &str) -> bool {
        match self.read_vec(address, expected.len() + 1) {
            Ok(found) => found.split_last() == Some((&0, expected.as_bytes())),
            // The last bytes before an unmapped page: too short to be the name.
            Err(_) => false,
        }
    }

    fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<(), SelfCheckError> {
        self.0
            .read_exact_at(bytes, address)
            .map_err(|source| SelfCheckError::Unreadable { what: WHAT, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_refuses_what_is_not() {
        let memory = Memory::open().expect("/proc is mounted");
        let value = 0x0123_4567_89ab_cdef_u64;
        assert_eq!(memory.u64(&raw const value as u64).expect("mapped"), value);
        assert!(memory.u64(0).is_err());
        assert!(memory.u64(u64::MAX).is_err());
        assert!(memory.u64(u64::MAX - 3).is_err());
    }

    #[test]
    fn names_end_where_they_should() {
        let memory = Memory::open().expect("/proc is mounted");
        let at = c"otel_thread_ctx_v1".as_ptr() as u64;
        assert!(memory.is_name(at, "otel_thread_ctx_v1"));
        assert!(!memory.is_name(at, "otel_thread_ctx_v"));
        assert!(!memory.is_name(at, "otel_thread_ctx_v2"));
        assert!(!memory.is_name(8, "otel_thread_ctx_v1"));
    }
}
