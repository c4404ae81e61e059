//! A profile in OpenTelemetry's format: the message `ProfilesData` of `opentelemetry.proto.profiles.v1development`.
//!
//! - Each process is a resource: what it published about itself, and `process.pid`, `process.executable.name`,
//!   `process.executable.path` and [`Process::origin`] where it did not say anything else. A process without a
//!   `service.name` gets `unknown_service:` and the executable's name, as OpenTelemetry's SDKs do.
//! - Time on the CPU and off it are two profiles, as a profile has one type of value: `samples/count` with the
//!   period `cpu/nanoseconds`, and `off_cpu/nanoseconds`, whose samples say in `thread.activity` whether the
//!   thread was `blocked` or `preempted`.
//! - Samples refer to trace and span by a link. Where a sample names a trace and no span, the span id is zero.
//! - A mapping whose file has a GNU build id has it as the attribute `process.executable.build_id.gnu`.
//! - Attributes of a sample: `thread.name`, `thread.id`, and the attributes and labels that were published, with
//!   names by [`LabelStyle`]. Parca reads attributes of text and no links, so its style repeats the ids there, and
//!   has name and id of the process and the thread's id as text. Its profile of `off_cpu` has the period
//!   1 `samples/count`, as Parca takes none without a period.

mod dictionary;
mod encode;

pub(crate) use encode::BUILD_ID;
pub use encode::encode;
pub use opentelemetry_proto::tonic::profiles::v1development as proto;

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::label_style::LabelStyle;
#[allow(unused_imports, reason = "for links in the documentation")]
use crate::profile::Process;
use crate::profile::{Filter, Profile};

/// Writes the message, as it is sent to a collector and as OpenTelemetry's tools read it from files.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write(
    profile: &Profile,
    filter: &Filter,
    style: LabelStyle,
    mut out: impl Write,
) -> io::Result<()> {
    out.write_all(&encode(profile, filter, style).encode_to_vec())?;
    out.flush()
}

/// Writes the message compressed with gzip.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_compressed(
    profile: &Profile,
    filter: &Filter,
    style: LabelStyle,
    out: impl Write,
) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, Compression::default());
    write(profile, filter, style, &mut encoder)?;
    encoder.finish()?.flush()
}

#[cfg(test)]
mod tests;
