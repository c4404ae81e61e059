//! Printing a report to standard output.

use std::io::{self, Write};

/// Writes a report and the end of its last line.
pub(super) fn print(report: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    readers_may_leave(writeln!(out, "{report}").and_then(|()| out.flush()))
}

/// Who reads the report may have seen enough of it.
pub(super) fn readers_may_leave(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
