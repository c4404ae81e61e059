//! One recording, and what it used.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::kernel;

/// Pause between two looks at what is used so far: what is used after the last one is left out.
const LOOK: Duration = Duration::from_millis(50);
/// Ticks of CPU times in `/proc`, in nanoseconds: 100 a second on every kernel.
const TICK_NS: u64 = 10_000_000;

/// What a recording used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) samples: u64,
    pub(crate) lost: u64,
    /// Time of the programs in the kernel.
    pub(crate) kernel_ns: u64,
    /// CPU time of the reader and of its children.
    pub(crate) user_ns: u64,
    /// Most memory that the reader had, in bytes.
    pub(crate) resident: u64,
}

/// Runs `ebpf-reader record --json` to its end.
pub(crate) fn run(mut command: Command) -> anyhow::Result<Used> {
    let before = children_ns()?;
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("it has no output")?;
    // Meanwhile: a report may be longer than a pipe holds.
    let report = thread::spawn(move || {
        let mut report = String::new();
        output.read_to_string(&mut report).map(|_| report)
    });
    let mut used = Used::default();
    while child.try_wait()?.is_none() {
        // It may end at any time.
        if let Ok(time) = kernel::run_time(child.id()) {
            used.kernel_ns = used.kernel_ns.max(time);
        }
        used.resident = used.resident.max(peak(child.id()).unwrap_or(0));
        thread::sleep(LOOK);
    }
    ensure!(child.wait()?.success(), "it failed");
    used.user_ns = children_ns()?.saturating_sub(before);
    let report = report.join().ok().context("its report was not read")??;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let number = |name: &str| {
        report[name]
            .as_u64()
            .context("its report is not understood")
    };
    used.samples = number("samples")?;
    used.lost = number("lost")?;
    Ok(used)
}

/// CPU time of the children that have ended, and of theirs.
fn children_ns() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name may hold anything. Behind it comes the state, field 3.
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat is odd")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |number: usize| -> anyhow::Result<u64> {
        Ok(fields
            .get(number - 3)
            .context("a field is missing")?
            .parse()?)
    };
    Ok((ticks(16)? + ticks(17)?) * TICK_NS)
}

fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
