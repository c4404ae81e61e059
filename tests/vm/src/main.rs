//! The tests that run in the virtual machine: `ebpf-reader`, as users call it, on programs that publish.
//!
//! `vm-tests PREFIX [FILTER…]` prints a line for each test, named `PREFIX::name`, and runs those whose names contain one
//! of the filters. The last line tells how many there were: without it, the machine has not come that far. Emulated
//! machines are slow and irregular, so that the tests are about what is read, not about how often.
#![forbid(unsafe_code)]

mod limits;
mod looking;
mod process;
mod sampling;
mod stacks;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

type Test = (&'static str, fn() -> Result<()>);

const TESTS: &[Test] = &[
    ("ebpf_thread_context", sampling::ebpf_thread_context),
    ("ebpf_custom_labels", sampling::ebpf_custom_labels),
    ("ebpf_shared_object", sampling::ebpf_shared_object),
    ("ebpf_dynamic_tls", sampling::ebpf_dynamic_tls),
    ("ebpf_main_thread", sampling::ebpf_main_thread),
    (
        "ebpf_command_in_namespace",
        sampling::ebpf_command_in_namespace,
    ),
    ("ebpf_whole_machine", sampling::ebpf_whole_machine),
    ("ebpf_off_cpu", sampling::ebpf_off_cpu),
    (
        "ebpf_frame_pointer_stacks",
        stacks::ebpf_frame_pointer_stacks,
    ),
    ("ebpf_unwound_stacks", stacks::ebpf_unwound_stacks),
    (
        "ebpf_with_little_locked_memory",
        limits::ebpf_with_little_locked_memory,
    ),
    ("process_context", sampling::process_context),
    ("ptrace_thread_context", sampling::ptrace_thread_context),
    ("ptrace_custom_labels", sampling::ptrace_custom_labels),
    ("ptrace_dynamic_tls", sampling::ptrace_dynamic_tls),
    ("threads", looking::threads),
    ("check", looking::check),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((prefix, filters)) = arguments.split_first() else {
        eprintln!("usage: vm-tests PREFIX [FILTER...]");
        return ExitCode::FAILURE;
    };
    let chosen = TESTS.iter().filter(|(name, _)| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter))
    });
    let (mut run, mut failed) = (0, 0);
    for (name, test) in chosen {
        say(&format!("running {prefix}::{name}"));
        let start = Instant::now();
        let result = test();
        let seconds = start.elapsed().as_secs_f64();
        run += 1;
        match result {
            Ok(()) => say(&format!("test {prefix}::{name} ... ok ({seconds:.1} s)")),
            Err(error) => {
                failed += 1;
                say(&format!("test {prefix}::{name} ... FAILED\n{error:?}"));
            }
        }
    }
    say(&format!("done: {run} tests, {failed} failed"));
    ExitCode::from(u8::from(failed > 0))
}

/// One write for a line, which the kernel's messages then do not cut in two.
fn say(text: &str) {
    let line = format!("{text}\n");
    // A console that is gone leaves nobody to tell.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
