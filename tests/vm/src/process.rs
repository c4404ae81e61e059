//! The processes of a test: programs that publish, and the reader, which must come to an end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The longest that the reader may take, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A program that publishes; killed when dropped.
#[derive(Debug)]
pub(crate) struct Writer(Child);

impl Writer {
    /// Starts it and waits until it says that it publishes, by a line on its standard output.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let out = child.stdout.take();
        let writer = Self(child);
        let mut line = String::new();
        BufReader::new(out.context("no output")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "{command:?} said {line:?}");
        Ok(writer)
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed by then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command has printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Finished {
    /// Runs a command to its end, or kills it at the deadline.
    pub(crate) fn run(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let out = collect(child.stdout.take());
        let error = collect(child.stderr.take());
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                let error = error.join().unwrap_or_default();
                bail!("{command:?} has not ended after {DEADLINE:?}; it said: {error}");
            }
            thread::sleep(Duration::from_millis(20));
        };
        Ok(Self {
            status,
            out: out.join().unwrap_or_default(),
            error: error.join().unwrap_or_default(),
        })
    }

    /// The JSON object that it has printed, if it has succeeded.
    pub(crate) fn json(&self) -> Result<Value> {
        ensure!(self.status.success(), "{}, {}", self.status, self.error);
        serde_json::from_str(&self.out).with_context(|| self.out.clone())
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read until then is what it said.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The reader with these arguments.
pub(crate) fn reader(arguments: &[&str]) -> Command {
    let mut command = Command::new("ebpf-reader");
    command.args(arguments);
    command
}

/// Runs the reader, which has to succeed and to print one JSON object.
pub(crate) fn json(arguments: &[&str]) -> Result<Value> {
    let finished = Finished::run(&mut reader(arguments))?;
    finished.json().with_context(|| format!("{arguments:?}"))
}
