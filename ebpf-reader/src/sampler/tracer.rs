//! The thread that traces: all requests of ptrace have to come from the thread that seized.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::procfs::{self, Stat};
use super::queue::Queue;
use crate::error::Error;
use crate::published::{Published, ReadMemory, copied_stack, user_stack};
use crate::sample::{Event, Locations, Registers, Sample, StackCopy, ThreadName};
use crate::sys::wait::{self, Change, Of};
use crate::sys::{self, ptrace};

/// How often stops are looked for: the longest that a target waits at a signal or a fork.
const PASS: Duration = Duration::from_millis(1);

/// The same while stops are due, or shortly after one: they come in bursts.
const BUSY_PASS: Duration = Duration::from_micros(50);

/// How long "shortly after" is.
const BUSY: Duration = Duration::from_millis(2);

/// Accounts of CPU time that are kept open; those of further threads are opened for each look.
const MAX_OPEN_ACCOUNTS: usize = 256;

/// Periods that a thread saves up at most, in one stretch of never being caught running.
const MAX_CREDIT: u64 = 1000;

/// What the tracing thread is asked for.
#[allow(
    clippy::large_enum_variant,
    reason = "requests are few, and nearly all are of the large kind"
)]
pub(super) enum Request {
    /// To follow a process.
    Follow {
        pid: u32,
        locations: Locations,
        reply: Sender<Result<(), Error>>,
    },
    /// To copy the stacks of a process, or no longer to.
    CopyStacks { pid: u32, copy: bool },
}

/// A thread that is traced.
#[derive(Debug)]
struct Thread {
    pid: u32,
    account: Option<File>,
    /// CPU time at the last look, in nanoseconds.
    cpu_ns: u64,
    /// CPU time for which no sample was taken yet, in nanoseconds.
    credit_ns: u64,
    /// It was asked to stop for a sample, with what /proc said of it then.
    due: Option<Stat>,
}

/// All that is traced, by this thread.
#[derive(Debug)]
pub(super) struct Tracer {
    queue: Arc<Queue>,
    period: Duration,
    processes: HashMap<u32, Locations>,
    /// Processes whose stacks are copied.
    copied: HashSet<u32>,
    threads: HashMap<u32, Thread>,
    /// Children of this very process that have exited: their parent reaps them, not we.
    unreaped: HashSet<u32>,
}

impl Tracer {
    pub(super) fn new(queue: Arc<Queue>, period: Duration) -> Self {
        Self {
            queue,
            period,
            processes: HashMap::new(),
            copied: HashSet::new(),
            threads: HashMap::new(),
            unreaped: HashSet::new(),
        }
    }

    /// Traces until the other side of `inbox` is gone.
    pub(super) fn run(mut self, inbox: &Receiver<Request>) {
        let mut next_tick = Instant::now();
        let mut last_stop = Instant::now();
        loop {
            if self.handle_changes() {
                last_stop = Instant::now();
            }
            let now = Instant::now();
            if now >= next_tick {
                self.tick();
                // After a delay the clock starts anew: the accounts have kept the time.
                next_tick = (next_tick + self.period).max(now);
            }
            let due = self.threads.values().any(|thread| thread.due.is_some());
            let pass = if due || last_stop.elapsed() < BUSY {
                BUSY_PASS
            } else {
                PASS
            };
            let pause = pass.min(next_tick.saturating_duration_since(Instant::now()));
            let request = if self.threads.is_empty() {
                inbox.recv().map_err(RecvTimeoutError::from)
            } else {
                inbox.recv_timeout(pause)
            };
            match request {
                Ok(Request::Follow {
                    pid,
                    locations,
                    reply,
                }) => {
                    // Nobody waits for the answer any more: nothing to do about it.
                    let _ = reply.send(self.follow(pid, locations));
                }
                Ok(Request::CopyStacks { pid, copy }) => {
                    if copy && self.processes.contains_key(&pid) {
                        self.copied.insert(pid);
                    } else {
                        self.copied.remove(&pid);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn follow(&mut self, pid: u32, locations: Locations) -> Result<(), Error> {
        if let Some(known) = self.processes.get_mut(&pid) {
            *known = locations;
            return Ok(());
        }
        procfs::check_alive(pid)?;
        let mut refusal = None;
        // Threads that start meanwhile: those of seized threads are seized, others show up in the list.
        loop {
            let found = procfs::threads(pid).unwrap_or_default();
            let before = self.threads.len();
            for tid in found {
                if self.threads.contains_key(&tid) {
                    continue;
                }
                match ptrace::seize(tid) {
                    Ok(()) => self.add_thread(tid, pid),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    // A thread that was seized as it started says so when its first stop is handled.
                    Err(error) => refusal = Some((tid, error)),
                }
            }
            if self.threads.len() == before {
                break;
            }
        }
        if self.threads.values().any(|thread| thread.pid == pid) {
            self.processes.insert(pid, locations);
            return Ok(());
        }
        match refusal {
            None => Err(Error::NoSuchProcess { pid }),
            Some((tid, _)) if procfs::status(tid).is_some_and(|status| status.tracer != 0) => {
                Err(Error::Unsupported {
                    what: format!("tracing process {pid}"),
                    why: "another process traces it already, and there can be only one".to_owned(),
                })
            }
            Some((_, error)) if error.raw_os_error() == Some(libc::EPERM) => {
                Err(Error::Permission {
                    action: format!("trace process {pid}"),
                    needs: "the same user and kernel.yama.ptrace_scope 0, or CAP_SYS_PTRACE"
                        .to_owned(),
                })
            }
            Some((_, error)) => Err(Error::io(format!("trace process {pid}"), error)),
        }
    }

    fn add_thread(&mut self, tid: u32, pid: u32) {
        let account = (self.threads.len() < MAX_OPEN_ACCOUNTS)
            .then(|| open_account(tid))
            .flatten();
        let cpu_ns = read_account(tid, account.as_ref()).unwrap_or(0);
        let thread = Thread {
            pid,
            account,
            cpu_ns,
            credit_ns: 0,
            due: None,
        };
        self.threads.insert(tid, thread);
    }

    /// Brings the accounts up to date, and asks threads that have saved up a sample to stop.
    fn tick(&mut self) {
        let period_ns = self.period_ns();
        for (&tid, thread) in &mut self.threads {
            let Some(cpu_ns) = read_account(tid, thread.account.as_ref()) else {
                continue;
            };
            thread.credit_ns += cpu_ns.saturating_sub(thread.cpu_ns);
            thread.cpu_ns = cpu_ns;
            if thread.credit_ns < period_ns || thread.due.is_some() {
                continue;
            }
            let excess = (thread.credit_ns / period_ns).saturating_sub(MAX_CREDIT);
            if excess > 0 {
                thread.credit_ns -= excess * period_ns;
                self.queue.count(|counters| counters.lost_samples += excess);
            }
            // Only while it runs: a stop would end the sleep of epoll_wait and others with EINTR.
            thread.due = procfs::stat(tid)
                .filter(|stat| stat.state == 'R')
                .filter(|_| ptrace::interrupt(tid).is_ok());
        }
    }

    fn period_ns(&self) -> u64 {
        u64::try_from(self.period.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// Handles all stops and exits that have happened; whether there were any.
    fn handle_changes(&mut self) -> bool {
        let mut any = false;
        if self.unreaped.is_empty() {
            while let Ok(Some((tid, change))) = wait::peek(Of::AnyTraced) {
                any = true;
                self.take_change(tid, change);
                if !self.unreaped.is_empty() {
                    break;
                }
            }
        }
        // One that stays unreaped hides the others: look at each.
        if !self.unreaped.is_empty() {
            let known: Vec<u32> = self.threads.keys().copied().collect();
            for tid in known {
                while let Ok(Some((_, change))) = wait::peek(Of::Thread(tid)) {
                    any = true;
                    self.take_change(tid, change);
                    if change == Change::Gone {
                        break;
                    }
                }
            }
            self.unreaped
                .retain(|&pid| wait::peek(Of::Thread(pid)).is_ok_and(|state| state.is_some()));
        }
        any
    }

    fn take_change(&mut self, tid: u32, change: Change) {
        if change == Change::Gone {
            let own = procfs::status(tid)
                .is_some_and(|status| status.process == tid && status.parent == std::process::id());
            if own {
                self.unreaped.insert(tid);
            } else {
                let _ = wait::take(tid);
            }
            self.gone(tid);
        } else if let Ok(Some(change)) = wait::take(tid) {
            match change {
                Change::Gone => self.gone(tid),
                Change::Stopped { signal, event } => self.stopped(tid, signal, event),
            }
        }
    }

    fn gone(&mut self, tid: u32) {
        let Some(thread) = self.threads.remove(&tid) else {
            return;
        };
        self.forfeit(&thread);
        // The first thread is reported after all others.
        if tid == thread.pid {
            self.processes.remove(&tid);
            self.copied.remove(&tid);
            self.queue.push(Event::Exit { pid: tid });
        }
    }

    /// What a thread has saved up when it ends cannot be attributed any more.
    fn forfeit(&self, thread: &Thread) {
        let periods = thread.credit_ns / self.period_ns();
        self.queue
            .count(|counters| counters.lost_samples += periods);
    }

    /// Does what a stop was for, and lets the thread run on.
    fn stopped(&mut self, tid: u32, signal: i32, event: i32) {
        if !self.threads.contains_key(&tid) {
            self.adopt(tid);
        }
        self.sample_if_due(tid);
        let passed_on = match event {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                if let Some(child) = message(tid) {
                    self.started(tid, child);
                }
                0
            }
            libc::PTRACE_EVENT_EXEC => {
                self.executed(tid);
                0
            }
            libc::PTRACE_EVENT_STOP if is_job_control(signal) => {
                let _ = ptrace::listen(tid);
                return;
            }
            // The delivery of a signal.
            0 => signal,
            _ => 0,
        };
        // Fails if it was killed in the meantime: then its exit is reported.
        let _ = ptrace::resume(tid, passed_on);
    }

    /// A thread that was seized as it started can stop before its parent reports it.
    fn adopt(&mut self, tid: u32) {
        let Some(status) = procfs::status(tid) else {
            return;
        };
        if self.processes.contains_key(&status.process) || status.process == tid {
            self.add_thread(tid, status.process);
        }
    }

    /// `parent` started a thread or a process.
    fn started(&mut self, parent: u32, child: u32) {
        let Some(parent) = self.threads.get(&parent).map(|thread| thread.pid) else {
            return;
        };
        let Some(status) = procfs::status(child) else {
            return;
        };
        if !self.threads.contains_key(&child) {
            self.add_thread(child, status.process);
        }
        if status.process != parent && !self.processes.contains_key(&status.process) {
            let locations = self.processes.get(&parent).copied().unwrap_or_default();
            self.processes.insert(status.process, locations);
            self.queue.push(Event::Fork {
                parent,
                child: status.process,
            });
        }
    }

    /// A process executed another program: one thread is left, with the id of the process.
    fn executed(&mut self, pid: u32) {
        let former = message(pid).unwrap_or(pid);
        let survivor = self.threads.remove(&former);
        let ended: Vec<u32> = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.pid == pid)
            .map(|(&tid, _)| tid)
            .collect();
        for tid in ended {
            if let Some(thread) = self.threads.remove(&tid) {
                self.forfeit(&thread);
            }
        }
        self.add_thread(pid, pid);
        if let (Some(thread), Some(survivor)) = (self.threads.get_mut(&pid), survivor) {
            thread.credit_ns = survivor.credit_ns + thread.cpu_ns.saturating_sub(survivor.cpu_ns);
        }
        self.processes.insert(pid, Locations::default());
        self.queue.push(Event::Exec { pid });
    }

    /// Takes a sample of a stopped thread, as often as it has saved up periods.
    fn sample_if_due(&mut self, tid: u32) {
        let period_ns = self.period_ns();
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let Some(stat) = thread.due.take() else {
            return;
        };
        let periods = thread.credit_ns / period_ns;
        thread.credit_ns %= period_ns;
        let pid = thread.pid;
        let Ok(registers) = ptrace::registers(tid) else {
            self.queue
                .count(|counters| counters.lost_samples += periods);
            return;
        };
        let locations = self.processes.get(&pid).copied().unwrap_or_default();
        let memory = Target { tid };
        let stack_copy = self.copied.contains(&pid).then(|| StackCopy {
            registers: Registers {
                instruction: registers.instruction,
                stack: registers.stack,
                frame: registers.frame,
                link: registers.link,
            },
            bytes: copied_stack(&memory, registers.stack),
        });
        let published = Published::read(&memory, registers.thread_pointer, locations);
        let sample = Sample {
            pid,
            tid,
            thread_name: ThreadName::from(&*stat.name),
            cpu: stat.cpu,
            time_ns: sys::monotonic_ns(),
            thread_context: published.thread_context,
            custom_labels: published.custom_labels,
            unreadable: published.unreadable,
            user_stack: user_stack(&memory, registers.instruction, registers.frame),
            stack_copy,
            ..Sample::default()
        };
        self.queue.count(|counters| {
            counters.unreadable += if published.unreadable { periods } else { 0 };
            counters.truncated += if published.truncated { periods } else { 0 };
        });
        for _ in 0..periods {
            self.queue.push(Event::Sample(sample.clone()));
        }
    }
}

/// The memory of a traced thread.
struct Target {
    tid: u32,
}

impl ReadMemory for Target {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        // The kernel refuses an empty destination's address checks; there is nothing to read.
        if buffer.is_empty() {
            return Some(());
        }
        sys::read_memory(self.tid, address, buffer).ok()
    }
}

/// The thread id that comes with an event.
fn message(tid: u32) -> Option<u32> {
    u32::try_from(ptrace::event_message(tid).ok()?).ok()
}

/// Whether a stop with this signal is one of job control, which lasts until SIGCONT.
fn is_job_control(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

fn open_account(tid: u32) -> Option<File> {
    File::open(format!("/proc/{tid}/schedstat")).ok()
}

/// CPU time that the scheduler has accounted to a thread, in nanoseconds.
fn read_account(tid: u32, account: Option<&File>) -> Option<u64> {
    let opened = if account.is_none() {
        open_account(tid)
    } else {
        None
    };
    let mut text = [0; 64];
    let size = account.or(opened.as_ref())?.read_at(&mut text, 0).ok()?;
    procfs::parse_schedstat(text.get(..size)?)
}
