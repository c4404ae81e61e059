//! The command line: what can be done, and one file for each of it, with its arguments and its steps.

mod record;
mod threads;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The arguments, as clap reads them.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "Profiles other processes by the traces that they work on",
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Sample processes and report their CPU time by trace
    ///
    /// Follows the processes with their threads and children until the duration is over, Ctrl-C, or all of them have
    /// ended. Prints CPU time by trace; the programs have to publish their trace contexts, as they do with
    /// otel-profiling. Needs CAP_BPF and CAP_PERFMON (and CAP_SYS_PTRACE for other users' processes), or --ptrace.
    Record(record::Record),

    /// Show what every thread of a process publishes right now, without eBPF
    ///
    /// Prints for each thread its trace and span id, attributes and custom labels. A running thread is stopped with
    /// ptrace for a moment; a sleeping one is read without waking it up. Where that is not possible (musl) it is
    /// stopped if its system call goes on afterwards, and otherwise marked as not read. Needs the same user or
    /// CAP_SYS_PTRACE.
    Threads(threads::Threads),
}

impl Cli {
    /// Does it; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Record(record) => record.run(),
            Action::Threads(threads) => threads.run(),
        }
    }
}

/// A time that is more than nothing.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("must be more than 0 and not endless".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_declaration() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
