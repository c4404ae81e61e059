//! The command line: what can be done, and one file for each of it, with its arguments and its steps.

mod record;

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
}

impl Cli {
    /// Does it; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Record(record) => record.run(),
        }
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
