//! The parts of the demo: a service, load for it, and the comparison of what a profiler sees of it from
//! outside with what it measured itself.
//!
//! `cargo run --release -p demo` runs it. The end-to-end test uses the same parts.

#![forbid(unsafe_code)]

pub mod comparison;
pub mod ground_truth;
pub mod load;
pub mod process;
pub mod service;
pub mod work;
