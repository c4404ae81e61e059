//! The three kinds of targets: a file, a process, a command.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::observe::{self, Observer};
use super::{Options, Report, View, labels, module, process_context, record, symbols};
use crate::error::Error;
use crate::process;
use crate::record::command::Command;
use crate::text::printable;

/// Pause between two looks whether a command publishes something.
const PAUSE: Duration = Duration::from_millis(20);

/// Checks the symbols of one file.
pub(super) fn file(path: &Path, options: &Options) -> Result<Report, Error> {
    let mut ledger = Ledger::new();
    let modules = [module::of_file(path)?];
    let why = "needs a running process";
    ledger.skip_all(&observe::RUNNING, why);
    symbols::judge(&mut ledger, &modules, "the file");
    ledger.skip_all(&record::RULES, why);
    ledger.skip_all(&labels::RULES, why);
    ledger.skip_all(&process_context::RULES, why);
    Ok(Report {
        target: printable(&path.to_string_lossy()).into_owned(),
        findings: ledger.finish(),
        looked_at: "a file".to_owned(),
        view: options.reader.map(|reader| View::of_file(reader, &modules)),
    })
}

/// Checks a running process.
pub(super) fn process(pid: u32, options: &Options) -> Result<Report, Error> {
    match process::of_thread(pid) {
        Some(process) if process != pid => {
            return Err(Error::NotAProcess {
                tid: pid,
                pid: process,
            });
        }
        _ if !process::is_alive(pid) => return Err(Error::NoSuchProcess { pid }),
        _ => {}
    }
    let mut ledger = Ledger::new();
    let target = process::describe(pid);
    let seen = observe::observe(&mut ledger, pid, options.duration)?;
    Ok(Report {
        target,
        findings: ledger.finish(),
        view: options.reader.map(|reader| View::of_process(reader, &seen)),
        looked_at: seen.looked_at,
    })
}

/// Starts a command, waits until it publishes something, checks it, and ends it.
pub(super) fn command(command: &[OsString], options: &Options) -> Result<Report, Error> {
    let running = Command::start(command, false)?;
    let pid = wait_until_published(running.pid(), options.wait)?;
    let report = process(pid, options);
    running.end();
    report
}

/// Waits until the command or a descendant of it publishes something, or has been given enough time. Which of
/// them to check.
fn wait_until_published(command: u32, wait: Duration) -> Result<u32, Error> {
    let begin = Instant::now();
    let mut candidate = command;
    let mut observers = HashMap::new();
    loop {
        if !process::is_alive(command) {
            let cause = io::Error::other(
                "it ended before it published anything; its file can be checked without running it",
            );
            return Err(Error::io("check the command", cause));
        }
        for pid in std::iter::once(command).chain(process::descendants(command)) {
            match publishes(pid, &mut observers) {
                Some(true) => return Ok(pid),
                Some(false) => candidate = pid,
                None => {}
            }
        }
        if begin.elapsed() >= wait {
            return Ok(if process::is_alive(candidate) {
                candidate
            } else {
                command
            });
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a process publishes something at this moment; `None` if it has none of the symbols, or cannot be
/// looked at, for which there is a reason to be told later.
fn publishes(pid: u32, observers: &mut HashMap<u32, Observer>) -> Option<bool> {
    let locations = process::locate(pid).ok()?;
    // Kept, so that a thread that sleeps is stopped only once.
    let observer = observers
        .entry(pid)
        .or_insert_with(|| Observer::new(pid, &[], locations));
    let (threads, _) = observer.locations(locations).look().ok()?;
    let published = threads
        .iter()
        .any(|thread| thread.record.is_some() || thread.labels.is_some());
    Some(published)
}
