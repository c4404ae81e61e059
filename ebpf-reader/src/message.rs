//! Messages on standard error, a line each.

use std::fmt::Display;
use std::io::{self, Write};

use ebpf_reader::text::printable;

/// Writes `kind: text` and the end of the line at once: what a recorded command prints goes to standard error
/// too, and must not get between the words. Control characters, as in names of files, are shown and not obeyed.
pub(crate) fn tell(kind: &str, text: impl Display) {
    let line = format!("{kind}: {}\n", printable(&text.to_string()));
    // Standard error may be closed; there is nobody left to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}
