//! Looks at the threads of a process, one after the other, each while it stands still.
//!
//! No privileges are needed for processes of the same user. A thread is stopped with ptrace for the moment
//! of a look, and runs on however that ends: it is let go at once, and when the looking thread ends, in
//! whatever way, the kernel lets go what it still holds. A thread that sleeps is stopped only if its system call
//! goes on afterwards, because a stop ends others (`epoll_wait`) with `EINTR`, and only if its thread pointer is
//! not found otherwise: where that is known it is enough that the thread has not run from before the look until
//! after. See [`asleep`].
//!
//! Memory of a process can be made to block whoever reads it. So looking happens on a thread of its own,
//! which is left behind when the time is over.

mod asleep;
mod round;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::asleep::Distance;
use self::round::{Message, Round};
use crate::error::Error;
use crate::process::{self, Memory};
use crate::published::ReadMemory;
use crate::sampler::procfs;

/// What may be left of the time when the looking thread should have come to an end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Bounds of one look at all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Threads that are looked at; others are counted in [`Missed::beyond_limit`].
    pub(crate) threads: usize,
    /// For all of them together.
    pub(crate) time: Duration,
    /// For one thread to stop. One in an uninterruptible sleep does not.
    pub(crate) stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threads: 4096,
            time: Duration::from_secs(5),
            stop: Duration::from_millis(200),
        }
    }
}

/// A thread that does not run.
#[derive(Debug)]
pub(crate) struct StillThread<'a> {
    /// Its id, in this process's pid namespace.
    pub(crate) tid: u32,
    /// Its name, at most 15 bytes, as the process has set it: may hold anything.
    pub(crate) name: &'a str,
    /// The fs base on x86-64, TPIDR_EL0 on aarch64.
    pub(crate) thread_pointer: u64,
    /// Memory of its process.
    pub(crate) memory: &'a Memory,
}

/// What came of a look at all threads.
#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    /// One for each thread that was looked at, in the order of their ids.
    pub(crate) threads: Vec<T>,
    /// How many were not.
    pub(crate) missed: Missed,
    /// Those of them that are within the limit, in the order of their ids.
    pub(crate) missed_threads: Vec<MissedThread>,
}

/// Threads that were not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    /// Did not stop in time: they sleep uninterruptibly.
    pub(crate) unstoppable: usize,
    /// More threads than [`Limits::threads`], or no time left for them.
    pub(crate) beyond_limit: usize,
    /// Cannot be traced, or are of another word size.
    pub(crate) refused: usize,
    /// Sleep in a system call that a stop would end, and their thread pointer is not to be found without one.
    pub(crate) asleep: usize,
}

/// A thread that was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissedThread {
    /// Its id, in this process's pid namespace.
    pub(crate) tid: u32,
    /// Its name, at most 15 bytes, as the process has set it: may hold anything.
    pub(crate) name: String,
    /// Why.
    pub(crate) reason: Reason,
}

/// Why a thread was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// See [`Missed::unstoppable`].
    Unstoppable,
    /// See [`Missed::refused`].
    Refused,
    /// See [`Missed::asleep`].
    Asleep,
}

impl ReadMemory for Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        Self::read(self, address, buffer).ok()
    }
}

/// Looks at the threads of one process as often as wanted.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pid: u32,
    memory: Option<Arc<Memory>>,
    known: HashMap<u32, Known>,
    distance: Option<Distance>,
    /// A looking thread that has not come back.
    lost: Option<JoinHandle<()>>,
}

/// What a first look has told of a thread.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// When it started: its id may be used again.
    started: u64,
    thread_pointer: u64,
}

impl Snapshots {
    /// Nothing is looked at yet.
    pub(crate) fn new(pid: u32) -> Self {
        Self {
            pid,
            memory: None,
            known: HashMap::new(),
            distance: None,
            lost: None,
        }
    }

    /// Calls `look` for each thread while it stands still. It may be called a second time for a sleeping
    /// thread that woke up meanwhile; then only the second result counts.
    ///
    /// # Errors
    /// If there is no such process, none of its threads may be traced, or it keeps its reader waiting.
    pub(crate) fn look<T, F>(&mut self, limits: Limits, look: F) -> Result<Snapshot<T>, Error>
    where
        T: Send + 'static,
        F: FnMut(&StillThread<'_>) -> T + Send + 'static,
    {
        if self.lost.as_ref().is_some_and(|lost| !lost.is_finished()) {
            return Err(self.blocked());
        }
        procfs::check_alive(self.pid)?;
        if self.pid == std::process::id() {
            return Err(Error::Unsupported {
                what: "looking at the reader's own threads".to_owned(),
                why: "a process cannot trace itself".to_owned(),
            });
        }
        // After an exec the memory of before is gone, and thread pointers mean nothing any more.
        let memory = match self.memory.take().filter(|memory| memory.is_there()) {
            Some(memory) => memory,
            None => {
                self.known.clear();
                self.distance = None;
                Arc::new(Memory::open(self.pid)?)
            }
        };
        self.memory = Some(Arc::clone(&memory));

        let (results, inbox) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let deadline = Instant::now() + limits.time;
        let round = Round {
            pid: self.pid,
            memory,
            known: std::mem::take(&mut self.known),
            distance: self.distance,
            late: Vec::new(),
            missed: Missed::default(),
            missed_threads: Vec::new(),
            refusal: None,
            limits,
            deadline,
            stop: Arc::clone(&stop),
        };
        let handle = thread::Builder::new()
            .name("thread-snapshot".to_owned())
            .spawn(move || round.run(look, &results))
            .map_err(|error| Error::io("start the thread that looks at threads", error))?;

        let mut threads = Vec::new();
        let end = loop {
            let left = (deadline + GRACE).saturating_duration_since(Instant::now());
            match inbox.recv_timeout(left) {
                Ok(Message::Thread(thread)) => threads.push(thread),
                Ok(Message::End(end)) => break end,
                Err(RecvTimeoutError::Timeout) => {
                    stop.store(true, Ordering::Relaxed);
                    self.lost = Some(handle);
                    return Err(self.blocked());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let cause = io::Error::other("the thread that looks has panicked");
                    return Err(Error::io(self.action(), cause));
                }
            }
        };
        // It lets go whatever it still held by ending.
        let _ = handle.join();
        threads.sort_by_key(|&(tid, _)| tid);
        let threads: Vec<T> = threads.into_iter().map(|(_, thread)| thread).collect();
        self.known = end.known;
        self.distance = end.distance;
        match end.refusal {
            Some(refusal) if threads.is_empty() => Err(self.explain(refusal)),
            _ => Ok(Snapshot {
                threads,
                missed: end.missed,
                missed_threads: end.missed_threads,
            }),
        }
    }

    fn action(&self) -> String {
        format!("look at the threads of {}", process::describe(self.pid))
    }

    fn blocked(&self) -> Error {
        let cause = io::Error::new(
            io::ErrorKind::TimedOut,
            "reading its memory does not come to an end",
        );
        Error::io(self.action(), cause)
    }

    fn explain(&self, (tid, error): (u32, io::Error)) -> Error {
        let pid = self.pid;
        match error.raw_os_error() {
            Some(libc::EPERM) if procfs::status(tid).is_some_and(|status| status.tracer != 0) => {
                Error::Unsupported {
                    what: format!("tracing process {pid}"),
                    why: "another process traces it already, and there can be only one".to_owned(),
                }
            }
            Some(libc::EPERM) => Error::Permission {
                action: format!("trace process {pid}"),
                needs: "the same user and kernel.yama.ptrace_scope 0, or CAP_SYS_PTRACE".to_owned(),
            },
            _ => Error::io(self.action(), error),
        }
    }
}

#[cfg(test)]
mod tests;
