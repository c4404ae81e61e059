//! `ebpf-reader record`: from arguments to report, file and exit status.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ebpf_reader::Error;
use ebpf_reader::output::Output;
use ebpf_reader::record::{self, End, Progress, Recording};
use ebpf_reader::report::{self, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Record;
use crate::message::tell;

/// Exit status of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Records, reports and writes; an error is what makes the exit status fail.
pub(crate) fn record(arguments: Record) -> Result<()> {
    // Before anything is sampled: a recording must not be lost for a mistyped name.
    let output = arguments
        .output
        .as_deref()
        .map(Output::create)
        .transpose()?;
    let options = arguments.options(
        output
            .as_ref()
            .is_some_and(|output| output.format().has_symbols()),
    );
    let stop = stop_on_signals()?;

    let bar = progress_bar(arguments.duration);
    let recording = record::run(&options, &stop, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    let recording = recording?;
    note_the_end(&recording);

    // Both are tried, whatever becomes of the other.
    let printed = print(&arguments, &recording);
    if let (Some(output), Some(path)) = (output, &arguments.output) {
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

fn print(arguments: &Record, recording: &Recording) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let printed = if arguments.json {
        writeln!(out, "{}", report::json(&recording.profile))
    } else {
        let table = match &arguments.by {
            Some(name) => Table::by_label(&recording.profile, name),
            None => Table::new(&recording.profile),
        };
        writeln!(out, "{}", table.rows(arguments.rows))
    };
    match printed.and_then(|()| out.flush()) {
        // Who reads the report has seen enough of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
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
