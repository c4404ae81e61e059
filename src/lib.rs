//! Publishes the current OpenTelemetry trace context where eBPF profilers find it.
//!
//! A profiler such as Parca Agent or the OpenTelemetry eBPF profiler samples every process of a host, but
//! cannot see which request a Rust service was working on. This crate keeps the current trace id and
//! span id in a thread-local block with a published layout ([`abi`]), which profilers find through two
//! ELF symbols and read at each sample. The service does nothing at a sample, and a context switch
//! between requests costs two stores.
//!
//! Most services use `otel-profiling-tracer`, whose `wrap(provider)` does all of this in one call. By hand:
//!
#![cfg_attr(all(feature = "otel", feature = "process-context"), doc = "```no_run")]
#![cfg_attr(
    not(all(feature = "otel", feature = "process-context")),
    doc = "```ignore"
)]
//! use otel_profiling::process_context::{self, ProcessContext};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     otel_profiling::install()?; // from here on the current span of every thread is published
//!     process_context::publish(&ProcessContext::new().resource("service.name", "checkout"))?;
//!     // … set the tracer provider, start the service
//!     Ok(())
//! }
//! ```
//!
//! # Cost
//! Building a record: one allocation of at most 256 bytes for each span context that a `Context` is made
//! of. Attach and detach: two stores each, no allocation, lock or system call.
//!
//! # Synchronization
//! A record never changes while it is published; publishing swaps pointers. A reader looks at a thread
//! only while that thread is stopped, so no reader sees half a record. The two layouts are swapped one
//! after the other: a sample between the two stores may see the one of before with the one of after,
//! each of them whole.
//!
//! # Limits
//! - Contexts made before [`install`] are not published, so install first thing in `main`.
//! - Contexts of another version of the `opentelemetry` crate in the same program are not seen:
//!   `cargo tree -d -i opentelemetry` lists them.
//! - A program whose linker was not told to export the symbols is invisible to profilers. With rust-lld, the
//!   default on x86-64 Linux, nothing needs to be done; otherwise see [`mod@build`]. [`self_check()`] tells.
//!
//! # Platforms
//! Linux on x86-64 and aarch64, glibc and musl. On every other target the crate compiles, and publishes
//! nothing.
//!
//! # Features
//! | feature | default | what |
//! |---|---|---|
//! | `otel` | yes | the context observer for the `opentelemetry` crate |
//! | `custom-labels` | yes | the symbols of custom labels v1; turn it off in a program that also links the `custom-labels` crate, which defines the same ones |
//! | `process-context` | yes | the process context, OTEP 4719 |
//!
//! Without features the crate depends on little more than libc: the layouts, the block, and
//! [`Record::publish_while`].

pub mod abi;
mod block;
pub mod build;
mod counters;
mod keys;
#[cfg(feature = "otel")]
pub mod observer;
#[cfg(feature = "process-context")]
pub mod process_context;
pub mod published;
mod record;
pub mod self_check;
mod settings;
mod thread;
#[cfg(feature = "otel")]
#[doc(hidden)]
pub mod warning;

pub use counters::{Counters, counters};
pub use keys::{AttributeKey, AttributeKeyError, LOCAL_ROOT_SPAN_ID};
#[cfg(feature = "otel")]
pub use observer::{
    Capture, Carrier, ContextLabels, FutureLabels, Granularity, InstallError, Installed, Observer,
    install, with_label,
};
pub use record::{Record, SpanIds};
pub use self_check::self_check;
pub use settings::{DEFAULT_SPAN_LABEL, DEFAULT_TRACE_LABEL, Settings, SettingsError};
#[cfg(feature = "otel")]
pub use thread::first_span_entered;
pub use thread::publish_scope;
