//! A drop-in OpenTelemetry `TracerProvider` that shows eBPF profilers the current trace.
//!
//! Wrap the provider that you have, before you set it:
//!
//! ```
//! use opentelemetry::global;
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//!
//! let provider = SdkTracerProvider::builder().build(); // with your exporter
//! global::set_tracer_provider(otel_profiling_tracer::wrap(provider));
//! ```
//!
//! From then on, whatever span is current on a thread (through the OpenTelemetry API, or through `tracing`
//! spans and tracing-opentelemetry) is published in a thread-local block that Parca Agent, the
//! OpenTelemetry eBPF profiler and `ebpf-reader` read; and a process context tells them the service's name.
//!
//! # Where the resource comes from
//! The SDK does not give a provider's resource away. In this order:
//! 1. [`Builder::resource`];
//! 2. [`ResourceProcessor`], added to the SDK's builder as a span processor, which is told the real one;
//! 3. what the SDK's own detectors find: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`.
//!
//! A missing `service.instance.id` is generated.
//!
//! # Beside the ids
//! [`Builder::capture`] chooses what else profilers see of a span: attributes on a list, its name, the trace's
//! first span in this process, baggage. [`with_label`] publishes labels of the application, which travel with the context.
//! [`Carrier`] takes the context along to a new task or thread. [`counters`] says what was cut or left out.
//!
//! # Cost
//! Spans are the wrapped provider's own; without [`Builder::capture`] nothing is copied of them. A `Context` made of a span allocates at most 256 bytes more, and
//! attaching or detaching one costs two stores more: no allocation, lock, or system call.
//!
//! # Platforms and features
//! As of `otel-profiling`: Linux on x86-64 and aarch64; elsewhere the provider works and nothing is published.
//! The feature `custom-labels` (default) defines the symbols of custom labels v1; turn it off in a program that
//! also links the `custom-labels` crate.

#![forbid(unsafe_code)]

mod builder;
mod error;
mod provider;
mod resource;
mod span;
mod tracer;

pub use builder::{Builder, builder};
pub use error::{TryWrapError, WrapError};
pub use provider::ProfilingTracerProvider;
pub use resource::ResourceProcessor;
pub use span::ProfilingSpan;
pub use tracer::ProfilingTracer;

pub use otel_profiling::{
    Capture, Carrier, ContextLabels, Counters, FutureLabels, Granularity, Settings, SettingsError,
    counters, with_label,
};

use opentelemetry::trace::TracerProvider;

/// Wraps `provider`, and starts to publish the current span of every thread in this process.
///
/// It never fails: if nothing can be published, it logs one warning that says why and what to do (to
/// `tracing` if a subscriber is set already, else to standard error), and the provider works as before.
/// [`Builder::try_wrap`] returns the error instead.
///
/// Wrap before the first span is started: contexts that exist already are not published.
pub fn wrap<P: TracerProvider>(provider: P) -> ProfilingTracerProvider<P> {
    builder().wrap(provider)
}
