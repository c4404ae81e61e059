//! The published layouts, declared once: what a profiler reads, byte for byte.
//!
//! | module | layout | specification |
//! |---|---|---|
//! | [`thread_context`] | the record behind the TLS symbol `otel_thread_ctx_v1` | OpenTelemetry OTEP 4947 |
//! | [`custom_labels`] | the label set behind the TLS symbol `custom_labels_current_set` | custom-labels ABI v1 |
//! | [`process_context`] | the mapping named `OTEL_CTX` | OpenTelemetry OTEP 4719 |
//!
//! Every size, alignment and offset is asserted at compile time. Both sides use these types: the
//! writers of this crate, and readers such as `ebpf-reader`, which depend on it with default features
//! off. All values are native-endian.

pub mod custom_labels;
pub mod process_context;
pub mod thread_context;
