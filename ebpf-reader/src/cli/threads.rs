//! `ebpf-reader threads`: what each thread of a process publishes, once or again and again.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use ebpf_reader::Error;
use ebpf_reader::threads::{self, Table, Watch};

use crate::message::tell;

/// Which process, and how to show it.
#[derive(Args, Debug)]
pub(crate) struct Threads {
    /// Process to look at
    #[arg(value_name = "PID")]
    pid: u32,

    /// Look again and again until Ctrl-C, every second or as often as told
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = super::seconds)]
    watch: Option<Duration>,

    /// Print one JSON object, or with --watch one a line
    #[arg(long)]
    json: bool,
}

/// Clears a terminal, and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

impl Threads {
    /// Looks and prints; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        let mut watch = Watch::new(self.pid)?;
        let Some(pause) = self.watch else {
            return self.print(&watch.look()?, false).map(drop);
        };
        let (interrupt, interrupted) = mpsc::channel();
        ctrlc::set_handler(move || {
            // Nobody receives it any more when the program is about to end.
            let _ = interrupt.send(());
        })
        .context("cannot listen for Ctrl-C")?;
        let redraw = !self.json && io::stdout().is_terminal();
        loop {
            match watch.look() {
                Ok(threads) => {
                    if !self.print(&threads, redraw)? {
                        return Ok(());
                    }
                }
                Err(Error::NoSuchProcess { .. }) => {
                    tell("note", format_args!("process {} has ended", self.pid));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
            match interrupted.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Prints what was seen; `false` when nobody reads it any more.
    fn print(&self, threads: &threads::Threads, redraw: bool) -> Result<bool> {
        let text = if self.json {
            threads::json(threads) + "\n"
        } else if redraw {
            let (width, height) = terminal_size();
            format!("{CLEAR}{}", Table::new(threads).fit(width, height))
        } else if self.watch.is_some() {
            // A block for each look, with an empty line between them.
            format!("{}\n\n", Table::new(threads))
        } else {
            format!("{}\n", Table::new(threads))
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot print the threads"),
        }
    }
}

/// Columns and lines of the terminal.
fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => (80, 24),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        threads: Threads,
    }

    #[test]
    fn watching_takes_a_pause_or_none() {
        let parse = |line: &str| {
            Parsed::try_parse_from(["threads"].into_iter().chain(line.split(' ')))
                .map(|parsed| (parsed.threads.pid, parsed.threads.watch))
                .ok()
        };
        let second = Duration::from_secs(1);
        assert_eq!(parse("7"), Some((7, None)));
        assert_eq!(parse("7 --watch"), Some((7, Some(second))));
        assert_eq!(parse("7 --watch --json"), Some((7, Some(second))));
        assert_eq!(parse("7 --watch 0.5"), Some((7, Some(second / 2))));
        assert_eq!(parse("--watch=2 7"), Some((7, Some(second * 2))));
        assert_eq!(parse("7 --watch 0"), None);
        assert_eq!(parse("--watch 7"), None);
    }
}
