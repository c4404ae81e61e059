//! A program that is started to be recorded.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;
use crate::process;

/// How long a program may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// A started program. It is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Command {
    child: Child,
    over: bool,
}

impl Command {
    /// Starts a program. Its standard output goes to standard error: the reader's own standard output holds
    /// nothing but the report. A `detached` one gets no terminal to read from or write to.
    pub(crate) fn start(command: &[OsString], detached: bool) -> Result<Self, Error> {
        let (program, arguments) = command.split_first().ok_or(Error::NothingToRecord)?;
        let failed = |error| Error::io(format!("start {}", program.display()), error);
        let mut child = std::process::Command::new(program);
        child.args(arguments);
        if detached {
            child.stdin(Stdio::null());
        }
        if detached && io::stderr().is_terminal() {
            child.stdout(Stdio::null()).stderr(Stdio::null());
        } else {
            let output = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
            child.stdout(Stdio::from(output));
        }
        let child = child.spawn().map_err(failed)?;
        Ok(Self { child, over: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program if it still runs, and says how it ended. To be called after the sampler is gone: a tracer
    /// in this process may have waited for the program already, and then nobody knows any more.
    pub(crate) fn end(mut self) -> Option<ExitStatus> {
        self.over = true;
        self.finish()
    }

    fn finish(&mut self) -> Option<ExitStatus> {
        let pid = self.child.id();
        if process::is_alive(pid) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // If it has just ended there is nobody left to ask.
                let _ = kill_process(pid, Signal::TERM);
            }
            let asked = Instant::now();
            while process::is_alive(pid) && asked.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
            if process::is_alive(pid) {
                let _ = self.child.kill();
            }
        }
        self.child.wait().ok()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if !self.over {
            self.finish();
        }
    }
}
