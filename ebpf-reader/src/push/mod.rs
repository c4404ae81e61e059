//! Sends profiles to an OpenTelemetry Collector, and to everything else that speaks OTLP.
//!
//! [`Exporter::push`] never waits: it puts a message into a queue that is bounded in bytes, and one thread sends
//! them one after the other, over gRPC or HTTP. What the receiver cannot take now is sent again later, after pauses
//! that grow, or when it says; what it refuses for good is dropped. A full queue drops its oldest message.
//! Everything that does not arrive is counted ([`Exporter::counters`]).
//!
//! ```no_run
//! use ebpf_reader::push::{Config, Exporter, Protocol};
//! # fn messages() -> Vec<opentelemetry_proto::tonic::profiles::v1development::ProfilesData> { Vec::new() }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What the variables OTEL_EXPORTER_OTLP_... say, and the end point in any case.
//! let config = Config::from_env()?
//!     .protocol(Protocol::Grpc)
//!     .endpoint("http://collector:4317");
//! let exporter = Exporter::start(config)?;
//! for message in messages() {
//!     exporter.push(&message);
//! }
//! let all_arrived = exporter.shutdown(std::time::Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```

mod config;
mod connection;
mod endpoint;
mod exchange;
mod grpc;
mod http;
mod queue;
mod retry;
#[cfg(feature = "tls")]
mod tls;
mod worker;

pub use config::{Compression, Config, ConfigError, Protocol};
pub use worker::{Counters, Exporter};
