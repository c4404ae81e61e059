//! Samples with ptrace: for machines where eBPF is not allowed, and targets of the same user.
//!
//! A thread of its own seizes the threads of the targets ([`PTRACE_SEIZE`], which stops nothing). Once
//! per period it looks which of them have used CPU time, stops those that are running, reads registers,
//! contexts and stack, and lets them go on.
//!
//! What is approximate:
//! - A sample stands for one period of CPU time, which each thread saves up by its scheduler's account.
//!   A thread is stopped only while it runs, so that no sleeping system call is disturbed; it is then
//!   handed all the periods that it has saved. Totals are exact; a thread that mostly sleeps gets its
//!   samples in clumps, and what it has saved when it ends is counted as lost.
//! - A thread that is ready but waits for a CPU stops when it gets one.
//! - The account advances with the scheduler's tick (1 to 10 ms): no detail below that.
//!
//! Signals reach the target untouched, job control works, and however the reader ends, the kernel lets
//! the targets run on. A thread start, a fork and a signal in the target wait up to a millisecond.
//!
//! A caller that is also the *parent* of a target must not wait for that child (`Child::wait`,
//! `Child::try_wait`) before it has received its [`Event::Exit`]: to a parent that shares a process
//! with the tracer, the kernel reports the stops too, and they would be taken for an exit.
//!
//! [`PTRACE_SEIZE`]: https://man7.org/linux/man-pages/man2/ptrace.2.html

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::frequency;
use super::queue::Queue;
use super::tracer::{Request, Tracer};
use crate::error::Error;
use crate::sample::{Counters, Event, Locations, Sampler};

/// Every sample stops a thread for a moment.
const MAX_FREQUENCY_HZ: u64 = 1000;

/// Samples with ptrace; see the [module](self). Dropping it lets the targets run on.
#[derive(Debug)]
pub struct PtraceSampler {
    /// `None` only while dropping: the tracing thread ends when it is gone.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    queue: Arc<Queue>,
    period_ns: u64,
}

impl PtraceSampler {
    /// Starts the tracing thread; nothing is sampled before [`Sampler::follow`].
    ///
    /// # Errors
    /// [`Error::Frequency`] for 0 or more than 1000 Hz; [`Error::Io`] if there can be no thread.
    pub fn new(frequency_hz: u64) -> Result<Self, Error> {
        let period_ns = frequency::period_ns(frequency_hz, MAX_FREQUENCY_HZ, " with --ptrace")?;
        let (requests, inbox) = mpsc::channel();
        let queue = Arc::new(Queue::default());
        let tracer = Tracer::new(Arc::clone(&queue), Duration::from_nanos(period_ns));
        let thread = thread::Builder::new()
            .name("ptrace-sampler".to_owned())
            .spawn(move || tracer.run(&inbox))
            .map_err(|error| Error::io("start the tracing thread", error))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
            queue,
            period_ns,
        })
    }
}

impl Sampler for PtraceSampler {
    fn follow(&mut self, pid: u32, locations: Locations) -> Result<(), Error> {
        let ended = || Error::io("reach the tracing thread", io::ErrorKind::BrokenPipe.into());
        let (reply, answer) = mpsc::channel();
        let request = Request::Follow {
            pid,
            locations,
            reply,
        };
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests.send(request).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }

    fn copy_stacks(&mut self, pid: u32, copy: bool) -> Result<(), Error> {
        let ended = || Error::io("reach the tracing thread", io::ErrorKind::BrokenPipe.into());
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests
            .send(Request::CopyStacks { pid, copy })
            .map_err(|_| ended())
    }

    fn poll(&mut self, timeout: Duration, on_event: &mut dyn FnMut(Event)) -> Result<(), Error> {
        for event in self.queue.take(timeout) {
            on_event(event);
        }
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.queue.counters()
    }

    fn period_ns(&self) -> u64 {
        self.period_ns
    }
}

impl Drop for PtraceSampler {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The kernel detaches when a tracing thread ends: without a stop, unlike PTRACE_DETACH.
            let _ = thread.join();
        }
    }
}
