//! The service as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::ground_truth::{self, ByTrace};
use crate::service::LISTENING;

/// A running service. It ends when its standard input is closed, and so never outlives this process.
#[derive(Debug)]
pub struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Service {
    /// Starts `command`, which has to call [`crate::service::run`], and waits until it can be reached.
    ///
    /// # Errors
    /// If it does not start, or ends too early.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the service")?;
        let mut output = BufReader::new(child.stdout.take().context("the service has no output")?);
        let port = loop {
            let mut line = String::new();
            if output.read_line(&mut line)? == 0 {
                bail!(
                    "the service ended before it could be reached: {}",
                    child.wait()?
                );
            }
            // Something else, such as a test's harness, may print before.
            if let Some((_, port)) = line.split_once(LISTENING) {
                break port
                    .trim()
                    .parse::<u16>()
                    .context("the service names no port")?;
            }
        };
        Ok(Self {
            child,
            output,
            address: ([127, 0, 0, 1], port).into(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; returns what it measured, and the lines that it printed besides.
    ///
    /// # Errors
    /// If it did not end as it should.
    pub fn stop(mut self) -> anyhow::Result<(ByTrace, Vec<String>)> {
        drop(self.child.stdin.take());
        let mut traces = ByTrace::new();
        let mut others = Vec::new();
        for line in (&mut self.output).lines() {
            let line = line?;
            match ground_truth::parse_line(&line) {
                Ok((trace_id, usage)) => {
                    traces.insert(trace_id, usage);
                }
                Err(_) => others.push(line),
            }
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the service failed: {status}");
        }
        Ok((traces, others))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // After `stop` both do nothing; else the service must not stay.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
