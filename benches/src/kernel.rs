//! The kernel's statistics of its eBPF programs.

use std::fs;
use std::io;

use anyhow::Context as _;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Has the kernel count what its programs cost, until it is dropped.
#[derive(Debug)]
pub(crate) struct Statistics {
    before: String,
}

impl Statistics {
    pub(crate) fn count() -> anyhow::Result<Self> {
        let before = fs::read_to_string(SWITCH).context("cannot read bpf_stats_enabled")?;
        fs::write(SWITCH, "1")
            .context("cannot turn on the statistics of eBPF programs: run it as root")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // Nothing could be done about it.
        let _ = fs::write(SWITCH, &self.before);
    }
}

/// How long the programs have run that a process holds, in nanoseconds.
pub(crate) fn run_time(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // Closed since.
        let Ok(info) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        // A link to a program tells the program's number only.
        let time = info
            .lines()
            .find_map(|line| line.strip_prefix("run_time_ns:"));
        sum += time
            .and_then(|time| time.trim().parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(sum)
}
