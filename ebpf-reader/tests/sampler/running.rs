//! Starts targets and talks to them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ebpf_reader::sample::{Libc, Locations, Place};

use crate::target;

/// Also the way into a target: the tests start this binary with this test's name.
#[test]
fn target_finds_the_same_locations_in_every_thread() {
    if let Ok(kind) = std::env::var(target::VARIABLE) {
        target::run(&kind);
    }
    let here = target::locations();
    let there = std::thread::spawn(target::locations)
        .join()
        .expect("a thread");
    assert_eq!(here, there);
}

/// A running target.
pub(crate) struct Target {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) locations: Locations,
}

impl Target {
    pub(crate) fn start(kind: &str) -> Self {
        let program = std::env::current_exe().expect("own path");
        let mut child = Command::new(program)
            .args([
                "--exact",
                "running::target_finds_the_same_locations_in_every_thread",
                "--nocapture",
            ])
            .env(target::VARIABLE, kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the target starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut target = Self {
            child,
            input,
            output,
            locations: Locations::default(),
        };
        target.await_ready();
        target
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The words after the first one of the next line that starts with it.
    pub(crate) fn await_line(&mut self, start: &str) -> Vec<i64> {
        loop {
            let line = self
                .output
                .next()
                .expect("the target lives")
                .expect("a line");
            if let Some(rest) = line.strip_prefix(start) {
                return rest
                    .split_whitespace()
                    .map(|word| word.parse().expect("a number"))
                    .collect();
            }
        }
    }

    /// The words after the first ones of these, one line for each, in whatever order they come.
    pub(crate) fn await_lines(&mut self, starts: &[&str]) -> HashMap<String, Vec<i64>> {
        let mut found = HashMap::new();
        while found.len() < starts.len() {
            let line = self.output.next().expect("the target lives");
            let line = line.expect("a line");
            let mut words = line.split_whitespace();
            let Some(start) = words.next().filter(|word| starts.contains(word)) else {
                continue;
            };
            let words = words.map(|word| word.parse().expect("a number"));
            found.insert(start.to_owned(), words.collect());
        }
        found
    }

    pub(crate) fn await_ready(&mut self) {
        let offsets = self.await_line("ready");
        self.locations = Locations {
            libc: Libc::Glibc,
            thread_context: Place::Static { offset: offsets[0] }.into(),
            custom_labels: Place::Static { offset: offsets[1] }.into(),
        };
    }

    pub(crate) fn send_line(&mut self) {
        let input = self.input.as_mut().expect("not ended yet");
        input.write_all(b"go\n").expect("the target lives");
    }

    /// Tells the target to end.
    pub(crate) fn end(&mut self) {
        self.input = None;
    }

    /// Ends the target, which must not have come to harm. The sampler has to be gone by now: a parent
    /// that waits for a child that its own process traces takes the child's stops for its exit.
    pub(crate) fn finish(mut self) {
        self.end();
        let status = self.child.wait().expect("the target ends");
        assert!(status.success(), "the target came to harm: {status}");
    }

    /// A word of the target's memory.
    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        let memory = File::open(format!("/proc/{}/mem", self.pid())).ok()?;
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_ne_bytes(word))
    }

    pub(crate) fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the target lives");
        tasks
            .map(|task| {
                let account = task.expect("a thread").path().join("schedstat");
                let account = fs::read_to_string(account).expect("the target's threads live");
                account
                    .split(' ')
                    .next()
                    .and_then(|ns| ns.parse::<u64>().ok())
                    .expect("a number")
            })
            .sum()
    }
}
