//! Whether the process context can be found and read from outside: by the name of its mapping.

use std::fs;
use std::mem::offset_of;

use super::memory::Memory;
use super::{ProcessContext, SelfCheckError};
use crate::abi::process_context::{Header, MAPPING_NAMES, MAX_PAYLOAD_SIZE, SIGNATURE, VERSION};

/// How often to look again when the context is being changed.
const ATTEMPTS: usize = 100;

pub(super) fn check() -> Result<ProcessContext, SelfCheckError> {
    let what = "/proc/self/maps";
    let maps = fs::read(what).map_err(|source| SelfCheckError::Unreadable { what, source })?;
    let maps = String::from_utf8_lossy(&maps);
    let found: Vec<_> = candidates(&maps).collect();
    match found.as_slice() {
        [] => Err(SelfCheckError::NoProcessContext),
        [(address, name)] => read(&Memory::open()?, *address, name),
        several => Err(SelfCheckError::SeveralProcessContexts {
            count: several.len(),
        }),
    }
}

/// Start and name of each mapping that is called like a process context.
fn candidates(maps: &str) -> impl Iterator<Item = (u64, &str)> {
    maps.lines().filter_map(|line| {
        let start = line.split_once('-')?.0;
        let mut name = line;
        for _column in 0..5 {
            name = name.trim_start().split_once(' ')?.1;
        }
        let name = name.trim_start();
        MAPPING_NAMES
            .iter()
            .any(|prefix| name.starts_with(prefix))
            .then_some((u64::from_str_radix(start, 16).ok()?, name))
    })
}

/// Reads header and payload as a profiler does: again, if they changed meanwhile.
fn read(memory: &Memory, address: u64, name: &str) -> Result<ProcessContext, SelfCheckError> {
    let invalid = |reason| SelfCheckError::InvalidProcessContext { address, reason };
    let at = |offset: usize| address.wrapping_add(offset as u64);
    let published_at = || memory.u64(at(offset_of!(Header, published_at)));
    for _ in 0..ATTEMPTS {
        let before = published_at()?;
        let signature = memory.read(at(offset_of!(Header, signature)))?;
        let version = memory.u32(at(offset_of!(Header, version)))?;
        let payload_size = memory.u32(at(offset_of!(Header, payload_size)))? as usize;
        let payload = memory.u64(at(offset_of!(Header, payload)))?;
        if before != 0 && signature != SIGNATURE {
            return Err(invalid("its signature is wrong"));
        }
        if before != 0 && version != VERSION {
            return Err(invalid("its version is not the one of the specification"));
        }
        // A payload that is replaced meanwhile may be too large or gone: only what stayed counts.
        let content =
            (payload_size <= MAX_PAYLOAD_SIZE).then(|| memory.read_vec(payload, payload_size));
        if before == 0 || before != published_at()? {
            std::thread::yield_now();
            continue;
        }
        return match content {
            None => Err(invalid(
                "its payload is larger than 64 KiB; publish fewer attributes",
            )),
            Some(Err(_)) => Err(invalid("its payload cannot be read")),
            Some(Ok(content)) if content.is_empty() => Err(invalid("its payload is empty")),
            Some(Ok(_)) => Ok(ProcessContext {
                mapping: name.to_owned(),
                address,
                published_at: before,
                payload_size,
            }),
        };
    }
    Err(invalid("it is marked as being changed all the time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> (Header, Box<[u8]>) {
        let payload: Box<[u8]> = Box::new([1; 16]);
        let header = Header {
            signature: SIGNATURE,
            version: VERSION,
            payload_size: 16,
            published_at: 7,
            payload: payload.as_ptr() as u64,
        };
        (header, payload)
    }

    fn read_back(header: &Header) -> Result<ProcessContext, SelfCheckError> {
        let memory = Memory::open().expect("/proc is mounted");
        read(
            &memory,
            std::ptr::from_ref(header) as u64,
            "/memfd:OTEL_CTX",
        )
    }

    fn reason(header: &Header) -> &'static str {
        match read_back(header) {
            Err(SelfCheckError::InvalidProcessContext { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mappings_are_found_by_the_start_of_their_name() {
        let maps = "\
55d0c8000000-55d0c8001000 r--p 00000000 fe:01 131 /srv/a /memfd:OTEL_CTX
7f0000000000-7f0000001000 rw-p 00000000 00:01 42                         /memfd:OTEL_CTX (deleted)
7f0000002000-7f0000003000 rw-p 00000000 00:00 0                          [anon:OTEL_CTX]
7f0000004000-7f0000005000 rw-s 00000000 00:00 0                          [anon_shmem:OTEL_CTX]
7f0000006000-7f0000007000 rw-p 00000000 00:00 0                          [anon:OTEL]
7f0000008000-7f0000009000 rw-p 00000000 00:00 0
\u{fffd} /memfd:OTEL_CTX

";
        assert_eq!(
            candidates(maps).collect::<Vec<_>>(),
            [
                (0x7f00_0000_0000, "/memfd:OTEL_CTX (deleted)"),
                (0x7f00_0000_2000, "[anon:OTEL_CTX]"),
                (0x7f00_0000_4000, "[anon_shmem:OTEL_CTX]"),
            ]
        );
    }

    #[test]
    fn a_whole_context_is_accepted() {
        let (header, _payload) = header();
        let found = read_back(&header).expect("valid");
        assert_eq!((found.published_at, found.payload_size), (7, 16));
    }

    #[test]
    fn what_readers_refuse_is_refused() {
        let (valid, _payload) = header();
        let bad = Header {
            signature: *b"otel_ctx",
            ..valid
        };
        assert!(reason(&bad).contains("signature"));
        assert!(
            reason(&Header {
                version: 3,
                ..valid
            })
            .contains("version")
        );
        assert!(
            reason(&Header {
                published_at: 0,
                ..valid
            })
            .contains("being changed")
        );
        assert!(
            reason(&Header {
                payload: 8,
                ..valid
            })
            .contains("cannot be read")
        );
        assert!(
            reason(&Header {
                payload_size: 0,
                ..valid
            })
            .contains("empty")
        );
        let large = Header {
            payload_size: MAX_PAYLOAD_SIZE as u32 + 1,
            ..valid
        };
        assert!(reason(&large).contains("64 KiB"));
        assert!(read(&Memory::open().expect("/proc is mounted"), 16, "").is_err());
    }
}
