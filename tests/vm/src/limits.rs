//! Little memory may be locked, and CAP_SYS_RESOURCE is missing: as in a service, or a container.

use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::system::uname;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::process::Finished;

/// The first kernel that does not charge maps to RLIMIT_MEMLOCK.
const UNCHARGED_MAPS: (u32, u32) = (5, 11);

/// Since Linux 5.11 it does not matter; before, the error says in one line what to do.
pub(crate) fn ebpf_with_little_locked_memory() -> Result<()> {
    // The set belongs to the thread, and to what it starts.
    let finished = thread::spawn(|| -> Result<Finished> {
        remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE)?;
        let record = "ulimit -l 64; exec ebpf-reader record --json --duration 1 -- vm-writer";
        Finished::run(Command::new("sh").args(["-c", record]))
    });
    let finished = finished.join().map_err(|_| anyhow!("it panicked"))??;
    if kernel()? >= UNCHARGED_MAPS {
        finished.json()?;
        return Ok(());
    }
    let error = finished.error;
    ensure!(
        !finished.status.success() && finished.out.is_empty(),
        "{error}"
    );
    let lines: Vec<_> = error.lines().filter(|line| *line != "ready").collect();
    ensure!(
        lines.len() == 1
            && lines[0].starts_with("error: ")
            && lines[0].contains("CAP_SYS_RESOURCE")
            && lines[0].contains("LimitMEMLOCK"),
        "{error}"
    );
    Ok(())
}

/// Version and patch level of the running kernel.
fn kernel() -> Result<(u32, u32)> {
    let system = uname();
    let release = system.release().to_str()?;
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .with_context(|| format!("release {release}"))
}
