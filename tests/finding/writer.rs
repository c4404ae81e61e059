//! A writer that runs: a process whose threads publish what its name says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A process that publishes. Ends with the value.
pub(crate) struct Writer {
    /// What is special about it.
    pub(crate) name: String,
    /// The process that publishes, which need not be the child.
    pub(crate) pid: u32,
    /// Whether it publishes with otel-profiling, which has labels of its own and no attribute unless told.
    pub(crate) is_rust: bool,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts a program with arguments and waits until it publishes.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[&str]) -> Self {
        Self::run(name, Command::new(program).args(arguments))
    }

    /// The same for any command.
    pub(crate) fn run(name: &str, command: &mut Command) -> Self {
        let mut writer = Self::spawn(name, command);
        writer.expect("ready");
        writer
    }

    /// Starts a program that waits before it publishes.
    pub(crate) fn start_waiting(name: &str, program: &Path, arguments: &[&str]) -> Self {
        let mut writer = Self::spawn(name, Command::new(program).args(arguments));
        writer.expect("waiting");
        writer
    }

    fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the writer starts");
        let output = child.stdout.take().expect("it is piped");
        Self {
            name: name.to_owned(),
            pid: child.id(),
            is_rust: false,
            child,
            output: BufReader::new(output),
        }
    }

    pub(crate) fn in_rust(mut self) -> Self {
        self.is_rust = true;
        self
    }

    /// Lets a writer that waits go on, until it publishes.
    pub(crate) fn go_on(&mut self) {
        let mut input = self.child.stdin.as_ref().expect("it is piped");
        input.write_all(b"\n").expect("the writer reads");
        self.expect("ready");
    }

    fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("UTF-8");
        assert_eq!(line.trim_end(), wanted, "{}", self.name);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Of a namespace's first process everything else ends with it.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
