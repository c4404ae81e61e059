//! One recording: follows processes, takes samples until it is told to stop, and makes a profile of them.

mod cgroup;
pub(crate) mod command;
mod looks;
mod session;
mod targets;
mod windows;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use otel_profiling::{DEFAULT_SPAN_LABEL, DEFAULT_TRACE_LABEL};

pub use windows::Windows;

use crate::error::Error;
use crate::profile::Profile;
use crate::sample::Sampler;
use crate::sampler::{EbpfSampler, PtraceSampler, ebpf};
use crate::unwind::Unwinding;

/// Samples a second and thread unless told otherwise: not a divisor of the usual timers.
pub const DEFAULT_FREQUENCY_HZ: u64 = 99;

/// How samples are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// In the kernel; needs privileges.
    #[default]
    Ebpf,
    /// From outside, by stopping the threads; needs only the right to trace the processes.
    Ptrace,
}

/// What to record and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Processes to follow, with the children that they have and will have.
    pub pids: Vec<u32>,
    /// Sample every process of the machine but this one, kernel threads too. By eBPF only.
    pub everything: bool,
    /// Also follow the processes of a control group and of the groups inside it, present and future: the path of
    /// its folder, or its name under /sys/fs/cgroup. A process that leaves it is still followed.
    pub cgroup: Option<PathBuf>,
    /// Also count how long threads did not run, and whether they waited or only lacked a CPU. By eBPF only.
    ///
    /// A wait that had begun before the recording is not counted; one that lasts longer than the recording
    /// counts up to its end. Time in which a task of an async runtime waits (`.await`) belongs to no thread.
    pub off_cpu: bool,
    /// A program to start and follow, with its arguments. What it prints goes to standard error.
    pub command: Vec<OsString>,
    /// The program has no terminal: it reads nothing, and what it would print to a terminal is dropped.
    pub detached: bool,
    /// Samples a second of a thread that uses its CPU all the time.
    pub frequency_hz: u64,
    /// When to stop; `None`: when asked to, or when all processes have ended.
    pub duration: Option<Duration>,
    /// How samples are taken.
    pub backend: Backend,
    /// How user stacks are found.
    pub unwinding: Unwinding,
    /// Whether to look up the names of functions, which takes a while for large programs.
    pub symbols: bool,
    /// Custom label that holds the trace id, for processes without a thread context.
    pub trace_label: String,
    /// Custom label that holds the span id.
    pub span_label: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pids: Vec::new(),
            everything: false,
            cgroup: None,
            off_cpu: false,
            command: Vec::new(),
            detached: false,
            frequency_hz: DEFAULT_FREQUENCY_HZ,
            duration: None,
            backend: Backend::default(),
            unwinding: Unwinding::default(),
            symbols: true,
            trace_label: DEFAULT_TRACE_LABEL.to_owned(),
            span_label: DEFAULT_SPAN_LABEL.to_owned(),
        }
    }
}

impl Options {
    /// Nothing to record yet, at [`DEFAULT_FREQUENCY_HZ`] by eBPF.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows one more process.
    #[must_use]
    pub fn pid(mut self, pid: u32) -> Self {
        self.pids.push(pid);
        self
    }

    /// Samples every process of the machine.
    #[must_use]
    pub fn everything(mut self, everything: bool) -> Self {
        self.everything = everything;
        self
    }

    /// Follows the processes of a control group.
    #[must_use]
    pub fn cgroup(mut self, cgroup: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(cgroup.into());
        self
    }

    /// Whether to count how long threads did not run.
    #[must_use]
    pub fn off_cpu(mut self, off_cpu: bool) -> Self {
        self.off_cpu = off_cpu;
        self
    }

    /// Starts a program and follows it.
    #[must_use]
    pub fn command<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, command: I) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Samples a second of a thread that uses its CPU all the time.
    #[must_use]
    pub fn frequency_hz(mut self, frequency_hz: u64) -> Self {
        self.frequency_hz = frequency_hz;
        self
    }

    /// Stops after this time.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// How samples are taken.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// How user stacks are found.
    #[must_use]
    pub fn unwinding(mut self, unwinding: Unwinding) -> Self {
        self.unwinding = unwinding;
        self
    }

    /// Whether to look up the names of functions.
    #[must_use]
    pub fn symbols(mut self, symbols: bool) -> Self {
        self.symbols = symbols;
        self
    }
}

/// What a recording tells while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress {
    /// Samples are being taken from now on.
    Started,
    /// Some time has passed.
    Sampling {
        /// Since the start.
        elapsed: Duration,
        /// Samples taken so far.
        samples: u64,
        /// Those of them with a trace id.
        with_context: u64,
        /// Processes that are followed.
        processes: usize,
    },
    /// Sampling is over; the names of functions are being looked up.
    Symbolizing,
    /// Something is missing in the result, or will be.
    Warning(Error),
}

/// Why a recording ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The time was over.
    Duration,
    /// It was asked to stop.
    Stopped,
    /// All processes had ended.
    TargetsExited,
    /// Sampling broke down; what was taken until then is there.
    Failed(Error),
}

/// A finished recording.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recording {
    /// What was found.
    pub profile: Profile,
    /// Why it ended.
    pub end: End,
    /// Whether any process exported symbols under which contexts are published.
    pub found_symbols: bool,
    /// How the command that was started ended, if there was one and it can be known.
    pub command_status: Option<ExitStatus>,
}

/// Records until the duration is over, `stop` becomes true, or all processes have ended.
///
/// # Errors
/// If nothing could be recorded: there is nothing to record, a process does not exist, may not be read or
/// exports no symbols, the command cannot be started, or the sampler cannot. What goes wrong later is in
/// [`Recording::end`].
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Recording, Error> {
    start(options, None, stop, on_progress)
}

/// Records like [`run`], and passes what was counted to `windows` piece by piece; the profile of the result is empty.
///
/// # Errors
/// As [`run`].
pub fn run_in_windows(
    options: &Options,
    windows: &mut dyn Windows,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Recording, Error> {
    start(options, Some(windows), stop, on_progress)
}

fn start<'a>(
    options: &Options,
    windows: Option<&'a mut dyn Windows>,
    stop: &AtomicBool,
    on_progress: &'a mut dyn FnMut(Progress),
) -> Result<Recording, Error> {
    let named = !options.pids.is_empty() || !options.command.is_empty();
    if !named && !options.everything && options.cgroup.is_none() {
        return Err(Error::NothingToRecord);
    }
    let targets = if options.everything {
        targets::all()
    } else {
        targets::find(&options.pids, on_progress)?
    };
    let sampler: Box<dyn Sampler> = match options.backend {
        Backend::Ebpf => Box::new(EbpfSampler::new(
            &ebpf::Options::new(options.frequency_hz)
                .everything(options.everything)
                .off_cpu(options.off_cpu)
                .kernel_stacks(true),
        )?),
        Backend::Ptrace => {
            only_by_ebpf(options.everything, "sampling the whole machine")?;
            only_by_ebpf(options.off_cpu, "counting time off the CPU")?;
            Box::new(PtraceSampler::new(options.frequency_hz)?)
        }
    };
    session::run(options, sampler, targets, windows, stop, on_progress)
}

/// Refuses what cannot be done by stopping threads.
fn only_by_ebpf(asked: bool, what: &str) -> Result<(), Error> {
    if !asked {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("{what} with ptrace"),
        why: "only the kernel sees it; leave out --ptrace".to_owned(),
    })
}

#[cfg(test)]
mod tests;
