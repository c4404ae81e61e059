//! The command line: what can be done, and one file for each of it, with its arguments and its steps.

mod check;
mod diff;
mod printing;
mod record;
mod sampling;
mod selection;
#[cfg(feature = "serve")]
mod serve;
mod threads;
#[cfg(feature = "top")]
mod top;

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

    /// Check whether a program publishes what profilers look for
    ///
    /// Judges a running process, an ELF file, or a command by each rule of the published layouts, and says what to do
    /// about each that is broken. The threads of a process are looked at while they stand still; it needs to be of
    /// the same user, or CAP_SYS_PTRACE. Exit status: 0 if all rules that apply pass, 1 if one is broken, 2 if the
    /// target cannot be checked.
    Check(check::Check),

    /// Show what every thread of a process publishes right now, without eBPF
    ///
    /// Prints for each thread its trace and span id, attributes and custom labels. A running thread is stopped with
    /// ptrace for a moment; a sleeping one is read without waking it up. Where that is not possible (musl) it is
    /// stopped if its system call goes on afterwards, and otherwise marked as not read. Needs the same user or
    /// CAP_SYS_PTRACE.
    Threads(threads::Threads),

    /// Profile all the time: a web page, pprof, Prometheus metrics, and pushing by OTLP
    ///
    /// Keeps the last minutes of samples in bounded memory. http://127.0.0.1:7171 shows CPU time by trace, route or any
    /// other attribute, and flame graphs of each; /trace/ID is the page of one trace, to be linked from elsewhere;
    /// /debug/pprof/profile?seconds=N answers `go tool pprof` and Parca; /metrics tells Prometheus how serving fares.
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    /// Compare two profiles, or two values of an attribute in one
    ///
    /// Lists the functions whose share of the CPU time has changed most. Shares are compared, so the recordings may
    /// differ in length and load. Reads pprof files, of other profilers too, and OpenTelemetry's.
    Diff(diff::Compare),

    /// Watch CPU time by trace, route or another attribute, live on the terminal
    ///
    /// Shows the last seconds, every second. Enter shows the flame graph of a row, w saves it as SVG and pprof, b goes
    /// on to the next attribute; ? lists all keys. Needs what record needs.
    #[cfg(feature = "top")]
    Top(top::Top),
}

impl Cli {
    /// Does it; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        match self.action {
            Action::Record(record) => record.run(),
            Action::Check(check) => check.run(),
            Action::Threads(threads) => threads.run(),
            #[cfg(feature = "serve")]
            Action::Serve(serve) => serve.run(),
            Action::Diff(compare) => compare.run(),
            #[cfg(feature = "top")]
            Action::Top(top) => top.run(),
        }
    }
}

/// Ends the program with this exit status; everything has been said already.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("exit status {0}")]
pub(crate) struct Status(pub(crate) u8);

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
