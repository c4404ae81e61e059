//! A running `ebpf-reader serve`, with the program that it profiles.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ebpf_reader::Error;
use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;
use crate::client::{Answer, connect, exchange};
use crate::writer;

/// Ended when dropped.
pub(crate) struct Server {
    child: Child,
    messages: Arc<Mutex<Vec<String>>>,
    address: String,
}

impl Server {
    /// `None` where it cannot sample.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Self> {
        if let Err(Error::NoSymbols { .. }) = ebpf_reader::process::locate(std::process::id()) {
            println!(
                "skipped: needs a linker that exports the symbols by default, such as rust-lld"
            );
            return None;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"));
        command.args(["serve", "--freq", "499"]);
        if !arguments.contains(&"--window") {
            command.args(["--window", "1"]);
        }
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command
            .args(arguments)
            .arg("--")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", writer::TEST, "--nocapture"])
            .env(writer::VARIABLE, "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let messages: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, stderr) = (Arc::clone(&messages), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut server = Self {
            child,
            messages,
            address: String::new(),
        };
        let start = Instant::now();
        loop {
            let found = server.message("note: listening at ");
            if let Some(address) = found {
                let address = address.rsplit_once(" at ").unwrap().1;
                server.address = address.trim_start_matches("http://").to_owned();
                return Some(server);
            }
            if server.message("needs CAP_BPF").is_some() {
                println!("skipped: needs CAP_BPF and CAP_PERFMON");
                return None;
            }
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "{ended:?} {:?}",
                server.messages()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// `host:port`, or `unix:/path`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    /// The first message with this in it.
    pub(crate) fn message(&self, text: &str) -> Option<String> {
        self.messages().into_iter().find(|line| line.contains(text))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[&str]) -> Answer {
        let (request, host) = (
            format!("GET {path} HTTP/1.1"),
            format!("Host: {}", self.address),
        );
        let mut lines = vec![request.as_str(), host.as_str()];
        lines.extend(headers);
        exchange(connect(&self.address), &lines).unwrap()
    }

    /// Asks until the answer is as expected.
    #[track_caller]
    pub(crate) fn wait_for(
        &self,
        path: &str,
        expected: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let start = Instant::now();
        loop {
            let answer = self.get(path).json();
            if expected(&answer) {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{path}: {answer}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Waits until both traces have been seen.
    pub(crate) fn wait_for_traces(&self) -> serde_json::Value {
        self.wait_for("/api/usage", |usage| usage["count"] == 2)
    }

    /// Asks it to end, as Ctrl-C does, and waits for it.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        self.signal();
        self.child.wait().unwrap()
    }

    fn signal(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let _ = kill_process(pid, Signal::INT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its program is ended by it: asked first, and only then forced.
        self.signal();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
