//! Does a program publish what profilers look for, in the way that they read it?
//!
//! [`run`] looks at a file, a running process or a command, and judges it by each [`Rule`] of the published
//! layouts: passed, failed with what to do about it, or not applicable. Of a process it looks at the
//! files, at each thread several times while the thread stands still, and at the process context; no
//! privileges are needed for processes of the same user. [`Options::reader`] adds what one of the readers in use
//! would see of it.
//!
//! A check shows what is wrong at the times of its looks. It cannot show that everything is always right.

mod address;
mod labels;
mod ledger;
mod module;
mod observe;
mod process_context;
mod record;
mod rules;
mod show;
mod symbols;
mod target;
mod thread;
pub mod view;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;
use crate::text::printable;

pub use rules::Rule;
pub use show::Table;
pub use view::{Reader, View};

/// What to check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A running process.
    Pid(u32),
    /// An ELF file: only its symbols can be checked.
    File(PathBuf),
    /// A command, which is started, checked while it runs, and ended.
    Command(Vec<OsString>),
}

/// How to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long a process is observed.
    pub duration: Duration,
    /// How long to wait until a command publishes something.
    pub wait: Duration,
    /// Whose view to add.
    pub reader: Option<Reader>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(1),
            wait: Duration::from_secs(10),
            reader: None,
        }
    }
}

impl Options {
    /// One second of observation, at most ten of waiting, and no reader's view.
    pub fn new() -> Self {
        Self::default()
    }

    /// Observes a process for this long.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Waits at most this long until a command publishes something.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Adds what this reader would see.
    #[must_use]
    pub fn reader(mut self, reader: Reader) -> Self {
        self.reader = Some(reader);
        self
    }
}

/// Whether a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds wherever it was looked at.
    Passed,
    /// It does not hold somewhere.
    Failed,
    /// There is nothing to which it applies.
    NotApplicable,
}

/// What was found for one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was found, or why it does not apply; may be empty if it holds.
    pub found: String,
    /// For a failure: what to do.
    pub fix: Option<String>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What was checked, fit to be shown.
    pub target: String,
    /// One finding for each rule, in the order of [`Rule::ALL`].
    pub findings: Vec<Finding>,
    /// What was looked at, in words.
    pub looked_at: String,
    /// What a reader would see, if that was asked for.
    pub view: Option<View>,
}

impl Report {
    /// Whether all that applies passes.
    pub fn passed(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    /// How many rules have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    }

    /// The finding for a rule.
    pub fn finding(&self, rule: Rule) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule)
    }

    /// The report as one JSON object.
    pub fn json(&self) -> String {
        show::json(self)
    }
}

/// Checks a target.
///
/// # Errors
/// If it cannot be checked at all: there is no such process or file, it may not be read, or a command ends before
/// it can be looked at.
pub fn run(target: &Target, options: &Options) -> Result<Report, Error> {
    match target {
        Target::File(path) => target::file(path, options),
        Target::Pid(pid) => target::process(*pid, options),
        Target::Command(command) => target::command(command, options),
    }
}

/// A thread, as it is named in findings.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Who {
    tid: u32,
    name: String,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} ({})", self.tid, printable(&self.name))
    }
}

/// An offset with its sign.
fn signed(offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{:#x}", offset.unsigned_abs())
}

/// A number of things.
fn plural(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}
