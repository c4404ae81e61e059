//! Reads profiles from files: pprof, of whatever tool wrote it, and OpenTelemetry's `ProfilesData`.
//!
//! A file may be anything. It is read up to a size, nothing in it is believed without a look, and an index that
//! leads nowhere means nothing.

mod builder;
mod otlp;
mod pprof;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::Error;
use crate::profile::Profile;

/// Largest contents that are read, decompressed.
pub const MAX_SIZE: u64 = 128 << 20;

/// Reads a profile. A file whose name ends in `.otlp` or `.otlp.gz` is taken for OpenTelemetry's format, every other
/// one for pprof; whether it is compressed shows in its first bytes.
///
/// Times off the CPU lose their number on the way, which neither format has: those of one stack count as one.
///
/// # Errors
/// If the file cannot be read, is larger than [`MAX_SIZE`], or is no profile of CPU time.
pub fn read(path: &Path) -> Result<Profile, Error> {
    let failed = |error| Error::io(format!("read {}", path.display()), error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    bounded(file, &mut bytes).map_err(failed)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let compressed = std::mem::take(&mut bytes);
        bounded(MultiGzDecoder::new(&compressed[..]), &mut bytes).map_err(failed)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let decode = match name.ends_with(".otlp") || name.ends_with(".otlp.gz") {
        true => otlp::decode,
        false => pprof::decode,
    };
    decode(&bytes).map_err(|why| failed(io::Error::new(io::ErrorKind::InvalidData, why)))
}

fn bounded(from: impl Read, to: &mut Vec<u8>) -> io::Result<()> {
    from.take(MAX_SIZE + 1).read_to_end(to)?;
    if u64::try_from(to.len()).is_ok_and(|size| size <= MAX_SIZE) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::FileTooLarge,
        "it is larger than 128 MiB",
    ))
}

/// Nanoseconds in a unit of time, by the names that pprof's writers use.
fn nanoseconds(unit: &str) -> Option<u64> {
    match unit {
        "nanoseconds" | "ns" => Some(1),
        "microseconds" | "us" => Some(1_000),
        "milliseconds" | "ms" => Some(1_000_000),
        "seconds" | "s" => Some(1_000_000_000),
        _ => None,
    }
}

/// A value as a number of things; negative ones, as in a difference of profiles, are none.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
