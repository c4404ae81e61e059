//! `ebpf-reader record`: from arguments to report, file and exit status.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ebpf_reader::Error;
use ebpf_reader::output::Output;
use ebpf_reader::profile::{By, Filter};
use ebpf_reader::record::{self, Backend, DEFAULT_FREQUENCY_HZ, End, Options, Progress, Recording};
use ebpf_reader::report::{self, Table};
use ebpf_reader::unwind::Unwinding;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::message::tell;

/// Exit status of a program that was interrupted.
const INTERRUPTED: i32 = 130;

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
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds)]
    duration: Option<Duration>,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,

    /// Report CPU time by the values of this attribute or label instead of by trace
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Rows to list in the table; the others are summed up in one line
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,

    /// Also write a profile: pprof (.pb.gz), flame graph (.svg), folded stacks (.folded) or the report (.json)
    #[arg(short, long = "output", value_name = "FILE")]
    output: Option<PathBuf>,

    /// How user stacks are found: by frame pointers, from copied stacks by the programs' unwind tables (dwarf), or
    /// whichever is right for a program
    #[arg(long, value_name = "WAY", value_enum, default_value_t)]
    unwind: Unwind,

    /// Sample by stopping the threads with ptrace, which needs no privileges but disturbs the processes
    #[arg(long)]
    ptrace: bool,

    /// Program to start and follow; what it prints goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How user stacks are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Unwind {
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
        let output = self.output.as_deref().map(Output::create).transpose()?;
        let options = self.options(
            output
                .as_ref()
                .is_some_and(|output| output.format().has_symbols()),
        );
        let stop = stop_on_signals()?;

        let bar = progress_bar(self.duration);
        let recording = record::run(&options, &stop, &mut |progress| show(&bar, progress));
        bar.finish_and_clear();
        let recording = recording?;
        note_the_end(&recording);

        // Both are tried, whatever becomes of the other.
        let printed = self.print(&recording);
        if let (Some(output), Some(path)) = (output, &self.output) {
            output.write(&recording.profile)?;
            tell("note", format_args!("wrote {}", path.display()));
        }
        printed.context("cannot print the report")?;

        if let End::Failed(error) = recording.end {
            return Err(error.into());
        }
        if !recording.found_symbols {
            bail!(Error::NoSymbols {
                program: "the command".to_owned(),
            });
        }
        Ok(())
    }

    fn print(&self, recording: &Recording) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let printed = if self.json {
            writeln!(out, "{}", report::json(&recording.profile, &Filter::all()))
        } else {
            let by = By::parse(self.by.as_deref().unwrap_or("trace"));
            let table = Table::by(&recording.profile, by);
            writeln!(out, "{}", table.rows(self.rows))
        };
        match printed.and_then(|()| out.flush()) {
            // Who reads the report has seen enough of it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// The options of the recording.
    fn options(&self, symbols: bool) -> Options {
        let mut options = Options::new()
            .command(self.command.iter().cloned())
            .frequency_hz(self.frequency_hz)
            .backend(if self.ptrace {
                Backend::Ptrace
            } else {
                Backend::Ebpf
            })
            .unwinding(self.unwind.into())
            .symbols(symbols);
        options.pids.clone_from(&self.pids);
        options.duration = self.duration;
        options
    }
}

fn stop_on_signals() -> Result<Arc<AtomicBool>> {
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
