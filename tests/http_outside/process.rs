//! The service as a process of its own, which in the end tells what it found.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::service::Findings;

const CASE: &str = "OTEL_PROFILING_TEST_CASE";

/// What the service prints when it serves.
const READY: &str = "the service serves";

/// What the line with the findings begins with.
const FOUND: &str = "found ";

/// What the service found at its own steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside {
    /// Steps that it checked.
    pub(crate) steps: u64,
    /// Steps at which nothing was published.
    pub(crate) nothing: u64,
    /// Steps at which another request's trace id was.
    pub(crate) others: u64,
}

/// Until the reader closes the standard input, or is gone.
pub(crate) fn wait_for_the_reader() {
    println!("{READY}");
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// A running service, and what it prints.
pub(crate) struct Process(Child, BufReader<ChildStdout>);

impl Process {
    /// Starts the service for the test `case`. In that process it runs `serve`, and does not return.
    pub(crate) fn start(case: &str, serve: impl FnOnce(&Arc<Findings>)) -> Self {
        if std::env::var_os(CASE).is_some_and(|running| running == case) {
            // The reader goes first where CPUs are few.
            rustix::process::nice(10).expect("being nicer is always allowed");
            let findings = Arc::new(Findings::default());
            serve(&findings);
            println!(
                "{FOUND}{} {} {}",
                findings.steps.load(Ordering::Relaxed),
                findings.nothing.load(Ordering::Relaxed),
                findings.other.load(Ordering::Relaxed),
            );
            std::process::exit(0);
        }
        let mut child = Command::new(std::env::current_exe().expect("the test's own path"))
            .args([case, "--exact", "--nocapture"])
            .env(CASE, case)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test runs itself");
        let output = child.stdout.take().expect("it is piped");
        let mut process = Self(child, BufReader::new(output));
        let ready = (&mut process.1)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.ends_with(READY));
        assert!(ready, "the service ended before it served");
        process
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends the service; returns what it found.
    pub(crate) fn stop(mut self) -> Inside {
        drop(self.0.stdin.take());
        let line = (&mut self.1)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once(FOUND)?.1.to_owned()))
            .expect("the service tells what it found");
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [steps, nothing, others] = numbers[..] else {
            panic!("not three numbers: {line}");
        };
        let status = self.0.wait().expect("it is our child");
        assert!(status.success(), "{status}");
        Inside {
            steps,
            nothing,
            others,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After `stop` both do nothing; else the service must not stay.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
