//! `ebpf-reader check`: judges a file, a process or a command by the rules of the published layouts.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ebpf_reader::check::{self, Options, Reader, Report, Table, Target};

use super::Status;
use crate::message::tell;

/// Exit status if a rule failed.
const FAILED: u8 = 1;
/// Exit status if the target could not be checked.
const NOT_CHECKED: u8 = 2;

/// What to check and how.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Process id, or path of an ELF file
    #[arg(required_unless_present = "command", conflicts_with = "command")]
    target: Option<OsString>,

    /// Also show what this reader would see, by its own rules
    #[arg(long = "for", value_name = "READER")]
    reader: Option<ForReader>,

    /// Observe a process for this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::seconds)]
    duration: Duration,

    /// Wait at most this many seconds until the command publishes something
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = super::seconds)]
    wait: Duration,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,

    /// Program to start, check and end; what it prints goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A reader that is in use.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ForReader {
    /// Parca Agent
    Parca,
    /// The OpenTelemetry eBPF profiler
    Otel,
    /// Datadog's profilers
    Datadog,
}

impl Check {
    /// Checks and prints; the exit status says whether all rules that apply pass.
    pub(crate) fn run(self) -> Result<()> {
        let result = check::run(&self.target(), &self.options());
        let printed = result
            .map_err(anyhow::Error::from)
            .and_then(|report| self.print(&report).map(|()| report.passed()));
        match printed {
            Ok(true) => Ok(()),
            Ok(false) => Err(Status(FAILED).into()),
            Err(error) => {
                tell("error", format!("{error:#}").replace(['\n', '\r'], " "));
                Err(Status(NOT_CHECKED).into())
            }
        }
    }

    /// A number is a process id; `./7` is a file.
    fn target(&self) -> Target {
        match &self.target {
            Some(target) => match target.to_str().and_then(|text| text.parse().ok()) {
                Some(pid) => Target::Pid(pid),
                None => Target::File(target.into()),
            },
            None => Target::Command(self.command.clone()),
        }
    }

    fn options(&self) -> Options {
        let options = Options::new().duration(self.duration).wait(self.wait);
        match self.reader {
            Some(ForReader::Parca) => options.reader(Reader::Parca),
            Some(ForReader::Otel) => options.reader(Reader::Otel),
            Some(ForReader::Datadog) => options.reader(Reader::Datadog),
            None => options,
        }
    }

    fn print(&self, report: &Report) -> Result<()> {
        let mut out = io::stdout().lock();
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let printed = if self.json {
            writeln!(out, "{}", report.json())
        } else {
            writeln!(out, "{}", Table::new(report).colours(colours))
        };
        match printed.and_then(|()| out.flush()) {
            // Who reads the report has seen enough of it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot print the report"),
        }
    }
}
