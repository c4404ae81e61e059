//! What one of the readers in use would see, by its own rules, and what it would miss.
//!
//! Their rules are those of their sources in the summer of 2026; they are not part of the specifications.

mod datadog;
mod otel;
mod parca;

use std::fmt;

use serde::Serialize;

use super::module::Module;
use super::observe::{Seen, ThreadLook};
use crate::text::printable;

/// A reader that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reader {
    /// Parca Agent: custom labels.
    Parca,
    /// The OpenTelemetry eBPF profiler: thread context and process context.
    Otel,
    /// Datadog's profilers: the same, and the local root span in key 0.
    Datadog,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parca => "Parca Agent",
            Self::Otel => "the OpenTelemetry eBPF profiler",
            Self::Datadog => "Datadog's profiler",
        })
    }
}

/// What a reader would see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct View {
    /// Which one.
    pub reader: Reader,
    /// Whether it would read anything of this target.
    pub follows: bool,
    /// What it finds, and what it does not and why.
    pub notes: Vec<String>,
    /// What it sees of each thread that publishes something.
    pub threads: Vec<ThreadView>,
}

/// What a reader would see of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ThreadView {
    /// Thread id.
    pub tid: u32,
    /// The thread's name, fit to be shown.
    pub name: String,
    /// Names and values, cut as the reader cuts them, fit to be shown.
    pub sees: Vec<(String, String)>,
    /// What it does not see, or not in full, and why.
    pub misses: Vec<String>,
}

impl View {
    fn new(reader: Reader) -> Self {
        Self {
            reader,
            follows: false,
            notes: Vec::new(),
            threads: Vec::new(),
        }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Of a file, only what is found in it can be told.
    pub(super) fn of_file(reader: Reader, modules: &[Module]) -> Self {
        let mut view = Self::new(reader);
        match reader {
            Reader::Parca => view.follows = parca::find(&mut view, modules, None).is_some(),
            Reader::Otel | Reader::Datadog => {
                view.follows = otel::find(&mut view, modules);
                view.note("reads nothing before the process context has the attribute key map");
            }
        }
        view
    }

    /// Of a process.
    pub(super) fn of_process(reader: Reader, seen: &Seen) -> Self {
        let mut view = Self::new(reader);
        match reader {
            Reader::Parca => parca::view(&mut view, seen),
            Reader::Otel => otel::view(&mut view, seen, |_, _, _| {}),
            Reader::Datadog => datadog::view(&mut view, seen),
        }
        if view.follows && view.threads.is_empty() {
            view.note("no thread had published anything");
        }
        view
    }
}

impl ThreadView {
    fn of(thread: &ThreadLook) -> Self {
        Self {
            tid: thread.who.tid,
            name: printable(&thread.who.name).into_owned(),
            ..Self::default()
        }
    }

    fn see(&mut self, name: &str, value: impl AsRef<str>) {
        let pair = (
            printable(name).into_owned(),
            printable(value.as_ref()).into_owned(),
        );
        self.sees.push(pair);
    }

    fn miss(&mut self, what: impl Into<String>) {
        self.misses.push(what.into());
    }
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
