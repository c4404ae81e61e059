//! `ebpf-reader record -o FILE.folded`: the stacks reach from the thread's start to the function that is at work.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{Writer, json};
use crate::sampling::EBPF;

/// A program with frame pointers, which the kernel follows.
pub(crate) fn ebpf_frame_pointer_stacks() -> Result<()> {
    let stacks = stacks(&mut Command::new("vm-writer"))?;
    let whole = |stack: &&str| {
        stack.starts_with("vm-writer")
            && stack.contains(";vm_writer::publish;")
            && stack.ends_with(";vm_writer::work")
    };
    let at_work = stacks.lines().filter_map(frames).filter(whole).count();
    ensure!(at_work > 0, "{stacks}");
    Ok(())
}

/// A program without: one function of it, called by the C library's start of a thread.
pub(crate) fn ebpf_unwound_stacks() -> Result<()> {
    let stacks = stacks(Command::new("vm-program").args(["open", "/lib/vm-block.so"]))?;
    let whole = |stack: &&str| {
        stack
            .strip_prefix("vm-program;")
            .and_then(|stack| stack.split_once(";thread"))
            .is_some_and(|(callers, _)| !callers.is_empty())
    };
    let at_work = stacks.lines().filter_map(frames).filter(whole).count();
    ensure!(at_work > 0, "{stacks}");
    Ok(())
}

/// Folded stacks of a program.
fn stacks(program: &mut Command) -> Result<String> {
    const FILE: &str = "/tmp/stacks.folded";
    let writer = Writer::start(program)?;
    json(&[EBPF, &["-o", FILE, "--pid", &writer.pid()]].concat())?;
    fs::read_to_string(FILE).context(FILE)
}

/// A line without the number of its samples.
fn frames(line: &str) -> Option<&str> {
    line.rsplit_once(' ').map(|(frames, _)| frames)
}
