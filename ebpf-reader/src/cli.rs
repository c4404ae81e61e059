//! The arguments of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ebpf_reader::record::{Backend, DEFAULT_FREQUENCY_HZ, Options};

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
    pub(crate) action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Sample processes and report their CPU time by trace
    ///
    /// Follows the processes with their threads and children until the duration is over, Ctrl-C, or all of them have
    /// ended. Prints CPU time by trace; the programs have to publish their trace contexts, as they do with
    /// otel-profiling. Needs CAP_BPF and CAP_PERFMON (and CAP_SYS_PTRACE for other users' processes), or --ptrace.
    Record(Record),
}

/// What to record and how.
#[derive(Args, Debug)]
pub(crate) struct Record {
    /// Process to follow; may be given more than once
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,

    /// Samples per second and CPU
    #[arg(long = "freq", value_name = "HZ", default_value_t = DEFAULT_FREQUENCY_HZ)]
    frequency_hz: u64,

    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,

    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Report CPU time by the values of this attribute or label instead of by trace
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// Rows to list in the table; the others are summed up in one line
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) rows: usize,

    /// Also write a profile: pprof (.pb.gz), flame graph (.svg), folded stacks (.folded) or the report (.json)
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Sample by stopping the threads with ptrace, which needs no privileges but disturbs the processes
    #[arg(long)]
    ptrace: bool,

    /// Program to start and follow; what it prints goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Record {
    /// The options of the recording.
    pub(crate) fn options(&self, symbols: bool) -> Options {
        let mut options = Options::new()
            .command(self.command.iter().cloned())
            .frequency_hz(self.frequency_hz)
            .backend(if self.ptrace {
                Backend::Ptrace
            } else {
                Backend::Ebpf
            })
            .symbols(symbols);
        options.pids.clone_from(&self.pids);
        options.duration = self.duration;
        options
    }
}

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

    #[test]
    fn arguments_become_options() {
        let line = "ebpf-reader record -p 7 -p 8,9 --freq 997 --duration 1.5 --ptrace -- ls -l";
        let Action::Record(arguments) = Cli::try_parse_from(line.split(' ')).unwrap().action;
        let options = arguments.options(true);
        assert_eq!(options.pids, [7, 8, 9]);
        assert_eq!(options.command, ["ls", "-l"]);
        assert_eq!(options.frequency_hz, 997);
        assert_eq!(options.duration, Some(Duration::from_millis(1500)));
        assert_eq!(options.backend, Backend::Ptrace);
    }

    #[test]
    fn durations() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "x", "0", "-1", "NaN", "inf", "1e30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
