//! The threads of a process as a table.

use std::fmt::{self, Write as _};

use super::{Thread, Threads};
use crate::process_context::ProcessContext;
use crate::text::printable;

/// Shows threads as a table: a line for the process, a row for each thread, and a line that counts them.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    threads: &'a Threads,
    width: usize,
    height: usize,
}

impl<'a> Table<'a> {
    /// A table of all threads, as wide as they are.
    pub fn new(threads: &'a Threads) -> Self {
        Self {
            threads,
            width: usize::MAX,
            height: usize::MAX,
        }
    }

    /// Cuts off lines after `width` characters, and leaves out rows for a height of `height` lines, those of
    /// threads that publish nothing first.
    #[must_use]
    pub fn fit(mut self, width: usize, height: usize) -> Self {
        self.width = width;
        self.height = height;
        self
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, line: &str) -> fmt::Result {
        let line = line.trim_end();
        match line.char_indices().nth(self.width) {
            Some((end, _)) => f.write_str(line.get(..end).unwrap_or(line)),
            None => f.write_str(line),
        }
    }
}

/// Lines of the table that are no rows: the process, the heading, the count, those left out.
const OTHER_LINES: usize = 4;

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.threads;
        let mut head = format!("process {} ({})", threads.pid, printable(&threads.name));
        if let Some(service) = threads.context.as_ref().and_then(ProcessContext::service) {
            write!(head, ", service {service}")?;
        }
        self.line(f, &head)?;
        f.write_char('\n')?;
        self.line(
            f,
            &format!(
                "{:>7}  {:<15}  {:<32}  {:<16}  {:<5}  ATTRIBUTES; LABELS",
                "TID", "NAME", "TRACE ID", "SPAN ID", "FLAGS"
            ),
        )?;
        f.write_char('\n')?;

        let room = self.height.saturating_sub(OTHER_LINES);
        let silent = threads.threads.iter().filter(|thread| is_silent(thread));
        let mut to_leave_out = threads.threads.len().saturating_sub(room);
        let mut silent_left_out = to_leave_out.min(silent.count());
        to_leave_out -= silent_left_out;
        let (mut left_out, mut shown) = (0, 0);
        for thread in &threads.threads {
            if is_silent(thread) && silent_left_out > 0 {
                silent_left_out -= 1;
                left_out += 1;
            } else if !is_silent(thread) && shown == room && to_leave_out > 0 {
                to_leave_out -= 1;
                left_out += 1;
            } else {
                shown += 1;
                self.line(f, &row(thread))?;
                f.write_char('\n')?;
            }
        }
        if left_out > 0 {
            self.line(f, &format!("({left_out} more)"))?;
            f.write_char('\n')?;
        }
        let with_trace = threads
            .threads
            .iter()
            .filter(|thread| thread.trace_id.is_some());
        let count = threads.threads.len() + threads.beyond_limit;
        let plural = if count == 1 { "" } else { "s" };
        let mut end = format!(
            "{count} thread{plural}, {} with a trace",
            with_trace.count()
        );
        match threads.not_read() {
            0 => {}
            missed => write!(end, ", {missed} not read")?,
        }
        self.line(f, &end)
    }
}

fn is_silent(thread: &Thread) -> bool {
    thread.trace_flags.is_none() && thread.custom_labels.is_empty() && !thread.unreadable
}

fn row(thread: &Thread) -> String {
    let id = |id: Option<String>| id.unwrap_or_else(|| "-".to_owned());
    let flags = thread.trace_flags.map(|flags| format!("{flags:02x}"));
    let mut more = pairs(&thread.attributes);
    if !thread.custom_labels.is_empty() {
        if !more.is_empty() {
            more.push(' ');
        }
        more.push_str("; ");
        more.push_str(&pairs(&thread.custom_labels));
    }
    let notes = [
        (thread.unreadable, "unreadable"),
        (thread.truncated, "truncated"),
    ];
    for (_, note) in notes.into_iter().filter(|(holds, _)| *holds) {
        more.push_str(&format!(" ({note})"));
    }
    if let Some(not_read) = thread.not_read {
        more.push_str(&format!("(not read: {})", not_read.reason()));
    }
    format!(
        "{:>7}  {:<15}  {:<32}  {:<16}  {:<5}  {}",
        thread.tid,
        printable(&thread.name),
        id(thread.trace_id.map(|id| id.to_string())),
        id(thread.span_id.map(|id| id.to_string())),
        id(flags),
        more.trim_start(),
    )
}

fn pairs(pairs: &[(String, String)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(key, value)| format!("{}={}", printable(key), printable(value)));
    pairs.collect::<Vec<_>>().join(" ")
}
