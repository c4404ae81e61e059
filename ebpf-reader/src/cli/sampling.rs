//! Whom to sample and how often, as arguments.

use std::path::PathBuf;

use clap::Args;
use ebpf_reader::record::{DEFAULT_FREQUENCY_HZ, Options};

/// Whom to sample and how often.
#[derive(Args, Clone, Debug)]
pub(super) struct Sampling {
    /// Process to follow, with its children; may be given more than once
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,

    /// Sample every process of the machine
    #[arg(short, long, conflicts_with = "ptrace")]
    all: bool,

    /// Follow the processes of a control group: its path, or its name under /sys/fs/cgroup
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Also count the time in which threads wait or lack a CPU; time in .await belongs to no thread
    #[arg(long, conflicts_with = "ptrace")]
    off_cpu: bool,

    /// Samples per second and CPU
    #[arg(long = "freq", short = 'F', value_name = "HZ", default_value_t = DEFAULT_FREQUENCY_HZ)]
    frequency_hz: u64,
}

impl Sampling {
    /// Whether processes count that publish nothing: nobody has named them.
    pub(super) fn needs_no_symbols(&self) -> bool {
        self.all || self.cgroup.is_some()
    }

    /// What is asked for.
    pub(super) fn options(&self) -> Options {
        let mut options = Options::new()
            .frequency_hz(self.frequency_hz)
            .everything(self.all)
            .off_cpu(self.off_cpu);
        options.pids.clone_from(&self.pids);
        options.cgroup.clone_from(&self.cgroup);
        options
    }
}
