//! Reads the process context of this process as a reader outside would, through `/proc`.
//!
//! The reader's side of the protocol: find the mapping by name, check signature and version, take the
//! timestamp *first and alone*, then size, address and payload, then the timestamp again. A header read in one go would
//! not do: the size lies before the timestamp, and could be older than it.

use core::mem::offset_of;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};

use super::content::ProcessContext;
use super::message;
use crate::abi::process_context::{Header, MAPPING_NAMES, MAX_PAYLOAD_SIZE, SIGNATURE, VERSION};

/// How often a reader starts over when the context changes under its eyes.
const ATTEMPTS: usize = 100;

/// Why a reader would find no process context in this process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBackError {
    /// There is no mapping with the name and the signature.
    #[error("this process has no mapping named OTEL_CTX: publish a process context")]
    NotFound,
    /// Two libraries publish one each; which one a reader takes is chance.
    #[error(
        "this process has {count} mappings named OTEL_CTX: let one library alone publish a process context"
    )]
    Several {
        /// How many there are.
        count: usize,
    },
    /// The context kept changing.
    #[error(
        "the process context changed during each of {} attempts to read it: update it less often",
        ATTEMPTS
    )]
    Changing,
    /// The payload is larger than readers accept.
    #[error("the process context takes {size} bytes and readers refuse more than {limit}")]
    TooLarge {
        /// Bytes that the header names.
        size: usize,
        /// Most bytes that readers accept.
        limit: usize,
    },
    /// The payload is no message that this crate writes.
    #[error("the process context is not one of this crate's: {reason}")]
    Foreign {
        /// What is wrong with it.
        reason: String,
    },
    /// `/proc` or the memory cannot be read.
    #[error("cannot read {what} ({source}): mount /proc, and leave the process dumpable")]
    Io {
        /// What was read.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Reads the published context of this process back through `/proc/self/maps` and `/proc/self/mem`.
///
/// For tests and diagnosis: it shows what a profiler would find.
///
/// # Errors
/// See [`ReadBackError`].
pub fn read_back() -> Result<ProcessContext, ReadBackError> {
    let snapshot = snapshot()?;
    message::decode(&snapshot.payload).map_err(|reason| ReadBackError::Foreign { reason })
}

/// What the protocol yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Address of the mapping.
    pub(super) mapping: u64,
    /// Its name in `/proc/self/maps`.
    pub(super) name: String,
    /// The timestamp of the publication.
    pub(super) published_at: u64,
    /// The message.
    pub(super) payload: Vec<u8>,
}

pub(super) fn snapshot() -> Result<Snapshot, ReadBackError> {
    let (mut memory, mapping, name) = find("self")?;
    for _ in 0..ATTEMPTS {
        let published_at = memory.published_at(mapping)?;
        if published_at != 0 {
            let payload = memory.payload(mapping);
            if memory.published_at(mapping).ok() == Some(published_at) {
                return Ok(Snapshot {
                    mapping,
                    name,
                    published_at,
                    payload: payload?,
                });
            }
        }
        std::thread::yield_now();
    }
    Err(ReadBackError::Changing)
}

/// The memory of a process (a pid, or `self`), and address and name of its one context mapping in it.
pub(super) fn find(process: &str) -> Result<(Memory, u64, String), ReadBackError> {
    let maps = fs::read(format!("/proc/{process}/maps")).map_err(io_error("/proc/self/maps"))?;
    let memory = File::open(format!("/proc/{process}/mem")).map_err(io_error("/proc/self/mem"))?;
    let mut memory = Memory(memory);
    let mut found: Vec<_> = candidates(&String::from_utf8_lossy(&maps))
        .filter(|(mapping, _)| memory.has_header(*mapping).unwrap_or(false))
        .collect();
    match (found.pop(), found.len()) {
        (Some((mapping, name)), 0) => Ok((memory, mapping, name)),
        (None, _) => Err(ReadBackError::NotFound),
        (Some(_), others) => Err(ReadBackError::Several { count: others + 1 }),
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ReadBackError {
    move |source| ReadBackError::Io { what, source }
}

/// Addresses and names of the mappings with the right name.
fn candidates(maps: &str) -> impl Iterator<Item = (u64, String)> {
    maps.lines().filter_map(|line| {
        let name = line.split_whitespace().nth(5)?;
        let known = MAPPING_NAMES.iter().any(|known| name.starts_with(known));
        let (start, _) = line.split_once('-').filter(|_| known)?;
        Some((u64::from_str_radix(start, 16).ok()?, name.to_owned()))
    })
}

/// The memory of a process, read so that a bad address is an error and not the end.
pub(super) struct Memory(File);

impl Memory {
    fn read<const N: usize>(
        &mut self,
        mapping: u64,
        offset: usize,
    ) -> Result<[u8; N], ReadBackError> {
        let mut bytes = [0; N];
        self.0
            .seek(SeekFrom::Start(mapping.saturating_add(offset as u64)))
            .and_then(|_| self.0.read_exact(&mut bytes))
            .map_err(io_error("the header of the process context"))?;
        Ok(bytes)
    }

    fn has_header(&mut self, mapping: u64) -> Result<bool, ReadBackError> {
        let signature = self.read(mapping, offset_of!(Header, signature))?;
        let version = self.read(mapping, offset_of!(Header, version))?;
        Ok(signature == SIGNATURE && u32::from_ne_bytes(version) == VERSION)
    }

    pub(super) fn published_at(&mut self, mapping: u64) -> Result<u64, ReadBackError> {
        self.read(mapping, offset_of!(Header, published_at))
            .map(u64::from_ne_bytes)
    }

    pub(super) fn payload(&mut self, mapping: u64) -> Result<Vec<u8>, ReadBackError> {
        let size = self.read(mapping, offset_of!(Header, payload_size))?;
        let address = self.read(mapping, offset_of!(Header, payload))?;
        let size = u32::from_ne_bytes(size) as usize;
        if size > MAX_PAYLOAD_SIZE {
            return Err(ReadBackError::TooLarge {
                size,
                limit: MAX_PAYLOAD_SIZE,
            });
        }
        let mut payload = vec![0; size];
        self.0
            .seek(SeekFrom::Start(u64::from_ne_bytes(address)))
            .and_then(|_| self.0.read_exact(&mut payload))
            .map_err(io_error("the payload of the process context"))?;
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_found_by_each_of_their_names_and_no_other() {
        let maps = "\
00001000-00002000 r--p 00000000 fd:01 1234                       /usr/bin/OTEL_CTX
00003000-00004000 rw-p 00000000 00:01 77                         /memfd:OTEL_CTX (deleted)
00005000-00006000 rw-p 00000000 00:00 0 
7f0000000000-7f0000001000 rw-p 00000000 00:01 78                 [anon_shmem:OTEL_CTX]
7f0000002000-7f0000003000 rw-p 00000000 00:00 0                  [anon:OTEL_CTX]
7f0000004000-7f0000005000 rw-p 00000000 00:00 0                  [anon:OTHER]
";
        let found: Vec<_> = candidates(maps).map(|(start, _)| start).collect();
        assert_eq!(found, [0x3000, 0x7f00_0000_0000, 0x7f00_0000_2000]);
    }
}
