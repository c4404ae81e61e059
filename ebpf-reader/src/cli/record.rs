//! `ebpf-reader record`: from arguments to report, file and exit status.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ebpf_reader::Error;
use ebpf_reader::label_style::LabelStyle;
use ebpf_reader::output::{self, Format, Output};
use ebpf_reader::profile::{By, Profile};
use ebpf_reader::record::{self, Backend, End, Options, Progress, Recording};
use ebpf_reader::report::{self, Coverage, Table};
use ebpf_reader::unwind::Unwinding;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printing::{print, readers_may_leave};
use super::sampling::Sampling;
use super::selection::Selection;
use crate::message::tell;

/// Exit status of a program that was interrupted.
pub(super) const INTERRUPTED: i32 = 130;

/// What to record and how.
#[derive(Args, Debug)]
pub(crate) struct Record {
    #[command(flatten)]
    sampling: Sampling,

    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds)]
    duration: Option<Duration>,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,

    /// What the report's rows are: trace, span, span-name, process, service, or the name of an attribute or label
    #[arg(long, value_name = "NAME", default_value = "trace")]
    by: String,

    /// Rows to list in the report; the others are summed up in one line
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,

    /// Report the stacks whose CPU time has no trace, most expensive first, instead of a table
    #[arg(long)]
    coverage: bool,

    #[command(flatten)]
    selection: Selection,

    /// Also write a profile; "-" writes it to standard output in place of the report
    #[arg(short, long = "output", value_name = "FILE")]
    output: Option<PathBuf>,

    /// How user stacks are found: by frame pointers, from copied stacks by the programs' unwind tables (dwarf), or
    /// whichever is right for a program
    #[arg(long, value_name = "WAY", value_enum, default_value_t)]
    unwind: Unwind,

    /// Format of the profile: pprof, otlp, otlp.gz, svg, folded or json; without it, the file's name tells (.pb.gz,
    /// .otlp, .otlp.gz, .svg, .folded, .json)
    #[arg(long, value_name = "FORMAT", requires = "output")]
    format: Option<Format>,

    /// Write a file for each value of this attribute or label: FILE-VALUE.svg
    #[arg(long, value_name = "NAME", requires = "output")]
    split_by: Option<String>,

    /// How labels are named in pprof and OTLP: otel, parca or pyroscope
    #[arg(long, value_name = "STYLE", default_value = "otel")]
    label_style: LabelStyle,

    /// Sample by stopping the threads with ptrace, which needs no privileges but disturbs the processes
    #[arg(long)]
    ptrace: bool,

    /// Program to start and follow; what it prints goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How user stacks are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Unwind {
    #[default]
    Auto,
    Fp,
    Dwarf,
}

impl From<Unwind> for Unwinding {
    fn from(unwind: Unwind) -> Self {
        match unwind {
            Unwind::Auto => Self::Auto,
            Unwind::Fp => Self::FramePointers,
            Unwind::Dwarf => Self::Dwarf,
        }
    }
}

impl Record {
    /// Records, reports and writes; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        // Before anything is sampled: a recording must not be lost for a mistyped name.
        let destination = self.destination()?;
        let has_symbols = destination
            .as_ref()
            .is_some_and(|destination| destination.format().has_symbols());
        let options = self.options(has_symbols || self.coverage);
        let stop = stop_on_signals()?;

        let bar = progress_bar(self.duration);
        let recording = record::run(&options, &stop, &mut |progress| show(&bar, progress));
        bar.finish_and_clear();
        let recording = recording?;
        note_the_end(&recording);

        // Both are tried, whatever becomes of the other.
        let printed = match destination {
            Some(Destination::StandardOutput(_)) => Ok(()),
            _ => self.print(&recording.profile),
        };
        if let Some(destination) = destination {
            destination.write(&self, &recording.profile)?;
        }
        printed.context("cannot print the report")?;

        if let End::Failed(error) = recording.end {
            return Err(error.into());
        }
        if !recording.found_symbols && !self.sampling.needs_no_symbols() {
            bail!(Error::NoSymbols {
                program: "the command".to_owned(),
            });
        }
        Ok(())
    }

    fn destination(&self) -> Result<Option<Destination>> {
        let Some(path) = &self.output else {
            return Ok(None);
        };
        let format = match self.format {
            Some(format) => format,
            None if path.as_os_str() == "-" => bail!("-o - needs --format"),
            None => Format::of(path)?,
        };
        if path.as_os_str() == "-" {
            if self.split_by.is_some() {
                bail!("--split-by writes files: name one with -o");
            }
            return Ok(Some(Destination::StandardOutput(format)));
        }
        let output = Output::create_as(path, format)?;
        Ok(Some(match &self.split_by {
            // Its folder can be written to; how the files are called is not known yet.
            Some(name) => Destination::Files(name.clone(), path.clone(), format),
            None => Destination::File(Box::new(output), path.clone()),
        }))
    }

    fn print(&self, profile: &Profile) -> io::Result<()> {
        let filter = self.selection.filter();
        let report = if self.coverage {
            let coverage = Coverage::new(&profile.select(&filter)).stacks(self.rows);
            match self.json {
                true => coverage.json(),
                false => coverage.to_string(),
            }
        } else if self.json {
            report::json(profile, &filter)
        } else {
            let profile = profile.select(&filter);
            Table::by(&profile, By::parse(&self.by))
                .rows(self.rows)
                .to_string()
        };
        print(&report)
    }

    /// The options of the recording.
    fn options(&self, symbols: bool) -> Options {
        let mut options = self
            .sampling
            .options()
            .command(self.command.iter().cloned())
            .backend(if self.ptrace {
                Backend::Ptrace
            } else {
                Backend::Ebpf
            })
            .unwinding(self.unwind.into())
            .symbols(symbols);
        options.duration = self.duration;
        options
    }
}

/// Where the profile goes.
#[derive(Debug)]
enum Destination {
    StandardOutput(Format),
    File(Box<Output>, PathBuf),
    /// One for each value of an attribute.
    Files(String, PathBuf, Format),
}

impl Destination {
    fn format(&self) -> Format {
        match self {
            Self::StandardOutput(format) | Self::Files(_, _, format) => *format,
            Self::File(output, _) => output.format(),
        }
    }

    fn write(self, record: &Record, profile: &Profile) -> Result<()> {
        let filter = record.selection.filter();
        let style = record.label_style;
        match self {
            Self::StandardOutput(format) => {
                let out = io::stdout().lock();
                readers_may_leave(format.write(profile, &filter, style, out))
                    .context("cannot write to standard output")?;
            }
            Self::File(output, path) => {
                output.filter(filter).label_style(style).write(profile)?;
                tell("note", format_args!("wrote {}", path.display()));
            }
            Self::Files(name, path, format) => {
                let profile = profile.select(&filter);
                let groups = profile.by_label(&name);
                if groups.is_empty() {
                    bail!("no sample has {}: no file was written", name);
                }
                let values: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
                for (file, value) in output::split(&path, format, &values).iter().zip(values) {
                    Output::create_as(file, format)?
                        .filter(record.selection.filter().attribute(&name, value))
                        .label_style(style)
                        .write(&profile)?;
                    tell("note", format_args!("wrote {}", file.display()));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        // Who asks twice does not want to wait for the result.
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

fn note_the_end(recording: &Recording) {
    if matches!(recording.end, End::TargetsExited) {
        tell("note", "all processes have ended");
    }
    if let Some(status) = recording.command_status.filter(|status| !status.success()) {
        tell("note", format_args!("the command ended with {status}"));
    }
}

/// A bar of the duration, or a count without an end; nothing where standard error is no terminal.
fn progress_bar(duration: Option<Duration>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (length, template) = match duration {
        Some(duration) => (
            Some(milliseconds(duration)),
            "{elapsed_precise} {bar:30} {msg}",
        ),
        None => (None, "{elapsed_precise} {spinner} {msg} (Ctrl-C ends)"),
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Started => bar.reset(),
        Progress::Sampling {
            elapsed,
            samples,
            with_context,
            processes,
        } => {
            bar.set_position(milliseconds(elapsed));
            bar.set_message(format!(
                "{samples} samples, {with_context} with context, {processes} processes"
            ));
        }
        Progress::Symbolizing => bar.set_message("looking up functions"),
        Progress::Warning(warning) => {
            let line = warning.one_line();
            bar.suspend(|| tell("warning", line));
        }
        _ => {}
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        record: Record,
    }

    #[test]
    fn arguments_become_options() {
        let line = "ebpf-reader record -p 7 -p 8,9 --freq 997 --duration 1.5 --unwind dwarf --ptrace -- ls -l";
        let arguments = Parsed::try_parse_from(line.split(' ').skip(1))
            .unwrap()
            .record;
        let options = arguments.options(true);
        assert_eq!(options.pids, [7, 8, 9]);
        assert_eq!(options.command, ["ls", "-l"]);
        assert_eq!(options.frequency_hz, 997);
        assert_eq!(options.duration, Some(Duration::from_millis(1500)));
        assert_eq!(options.backend, Backend::Ptrace);
        assert_eq!(options.unwinding, Unwinding::Dwarf);
    }

    #[test]
    fn durations() {
        let seconds = crate::cli::seconds;
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "x", "0", "-1", "NaN", "inf", "1e30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
