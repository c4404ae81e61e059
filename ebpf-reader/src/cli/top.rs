//! `ebpf-reader top`: from arguments to a live view on the terminal.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use ebpf_reader::profile::By;
use ebpf_reader::record::Backend;
use ebpf_reader::top::{self, Options};

use super::record::{INTERRUPTED, Unwind};
use super::sampling::Sampling;
use crate::message::tell;

/// How long the view, and a command that was started, may take to end.
const PATIENCE: Duration = Duration::from_secs(8);

/// What to show and how.
#[derive(Args, Debug)]
pub(crate) struct Top {
    #[command(flatten)]
    sampling: Sampling,

    /// What rows are: trace, span, span-name, process, service, or the name of an attribute or label
    #[arg(long, value_name = "NAME", default_value = "trace")]
    by: String,

    /// Seconds that are shown
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    window: u32,

    /// How user stacks are found: by frame pointers, from copied stacks by the programs' unwind tables (dwarf), or
    /// whichever is right for a program
    #[arg(long, value_name = "WAY", value_enum, default_value_t)]
    unwind: Unwind,

    /// Sample by stopping the threads with ptrace, which needs no privileges but disturbs the processes
    #[arg(long)]
    ptrace: bool,

    /// Program to start and follow; it reads nothing, and what it prints is dropped, unless standard error is redirected
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Top {
    /// Shows the view until it is quit; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        if !io::stdout().is_terminal() {
            bail!(
                "standard output is not a terminal: use `ebpf-reader record`, which prints a report"
            );
        }
        let stop = stop_on_signals()?;
        top::run(&self.options(), &stop, &mut |warning| {
            tell("warning", warning.one_line());
        })?;
        Ok(())
    }

    fn options(&self) -> Options {
        let mut recording = self
            .sampling
            .options()
            .command(self.command.iter().cloned())
            .unwinding(self.unwind.into());
        if self.ptrace {
            recording = recording.backend(Backend::Ptrace);
        }
        let mut options = Options::new(recording);
        options.window = Duration::from_secs(self.window.into());
        options.by = By::parse(&self.by);
        // As no-color.org has it.
        options.colors = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        options
    }
}

/// Ends the program where the view does not.
fn give_up() -> ! {
    top::restore();
    std::process::exit(INTERRUPTED);
}

/// Ctrl-C is a key while the view is shown; these are the signals of others.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            give_up();
        }
        // A terminal that is gone is read for ever: the view never gets to see that it should end.
        thread::spawn(|| {
            thread::sleep(PATIENCE);
            give_up();
        });
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
