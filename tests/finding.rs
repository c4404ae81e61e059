//! Whether readers find what is published in every kind of process: each writer is built, started, and read
//! with both samplers through the public interface of `ebpf-reader`.
//!
//! A writer has two threads that publish, and one that does not (`finding/writers/`). Every sample of a
//! publishing thread has to bring that thread's ids, attribute and label, and none of the other thread
//! anything.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "finding/changing.rs"]
mod changing;
#[path = "finding/compile.rs"]
mod compile;
#[path = "finding/executables.rs"]
mod executables;
#[path = "linking/package.rs"]
#[allow(dead_code, reason = "made for other tests, too")]
mod package;
#[path = "finding/reader.rs"]
mod reader;
#[path = "finding/rust.rs"]
mod rust;
#[path = "finding/shared_objects.rs"]
mod shared_objects;
#[path = "finding/writer.rs"]
mod writer;

use std::io::Write as _;

/// Prints past the test harness, which hides what tests that pass print.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
