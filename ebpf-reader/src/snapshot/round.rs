//! One look at all threads of a process, on the looking thread: holds each, looks, and lets it go.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use super::asleep::{Asleep, Distance};
use super::{Known, Limits, Missed, MissedThread, Reason, StillThread};
use crate::process::Memory;
use crate::sampler::procfs;
use crate::sys::ptrace;
use crate::sys::wait;

/// How often a thread that sleeps, and wakes up while it is looked at, is looked at again.
const ATTEMPTS: usize = 5;

/// How often a thread that was asked to stop is looked for.
const PASS: Duration = Duration::from_micros(20);

/// What the looking thread sends.
pub(super) enum Message<T> {
    Thread((u32, T)),
    End(End),
}

pub(super) struct End {
    pub(super) known: HashMap<u32, Known>,
    pub(super) distance: Option<Distance>,
    pub(super) missed: Missed,
    pub(super) missed_threads: Vec<MissedThread>,
    pub(super) refusal: Option<(u32, io::Error)>,
}

/// One look at all threads, on the looking thread.
pub(super) struct Round {
    pub(super) pid: u32,
    pub(super) memory: Arc<Memory>,
    pub(super) known: HashMap<u32, Known>,
    pub(super) distance: Option<Distance>,
    /// Asked to stop, and had not done so when they were given up.
    pub(super) late: Vec<u32>,
    pub(super) missed: Missed,
    pub(super) missed_threads: Vec<MissedThread>,
    pub(super) refusal: Option<(u32, io::Error)>,
    pub(super) limits: Limits,
    pub(super) deadline: Instant,
    pub(super) stop: Arc<AtomicBool>,
}

impl Round {
    pub(super) fn run<T>(
        mut self,
        mut look: impl FnMut(&StillThread<'_>) -> T,
        results: &Sender<Message<T>>,
    ) {
        let mut tids = procfs::threads(self.pid).unwrap_or_default();
        tids.sort_unstable();
        // Only what is there now is remembered, however many threads come and go.
        let known = std::mem::take(&mut self.known);
        // For another try when a stopped thread has told where thread pointers are.
        let mut again = Vec::new();
        for (position, &tid) in tids.iter().enumerate() {
            if position >= self.limits.threads
                || Instant::now() >= self.deadline
                || self.stop.load(Ordering::Relaxed)
            {
                self.missed.beyond_limit += tids.len() - position;
                break;
            }
            self.release_late();
            match self.thread(tid, known.get(&tid).copied(), &mut look) {
                Ok(Some(result)) => {
                    if results.send(Message::Thread((tid, result))).is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(sleeping) => again.push((tid, sleeping)),
            }
        }
        for (tid, sleeping) in again {
            if Instant::now() < self.deadline
                && self.distance.is_some()
                && let Ok(result) = self.thread(tid, None, &mut look)
            {
                if let Some(result) = result
                    && results.send(Message::Thread((tid, result))).is_err()
                {
                    return;
                }
                continue;
            }
            self.missed.asleep += 1;
            self.miss(tid, &sleeping.name, Reason::Asleep);
        }
        self.missed_threads
            .sort_unstable_by_key(|missed| missed.tid);
        self.release_late();
        let _ = results.send(Message::End(End {
            known: self.known,
            distance: self.distance,
            missed: self.missed,
            missed_threads: self.missed_threads,
            refusal: self.refusal,
        }));
    }

    fn miss(&mut self, tid: u32, name: &str, reason: Reason) {
        self.missed_threads.push(MissedThread {
            tid,
            name: name.to_owned(),
            reason,
        });
    }

    /// One thread: without a stop if it sleeps and its thread pointer can be told, otherwise with one. `Ok(None)`
    /// if it is gone, or missed; `Err` if it sleeps so that it must not be stopped.
    fn thread<T>(
        &mut self,
        tid: u32,
        known: Option<Known>,
        look: &mut impl FnMut(&StillThread<'_>) -> T,
    ) -> Result<Option<T>, procfs::Stat> {
        let Some(stat) = procfs::stat(tid).filter(|stat| !stat.exiting) else {
            return Ok(None);
        };
        for _ in 0..ATTEMPTS {
            let Some(before) = Asleep::of(tid) else {
                break;
            };
            let thread_pointer = match known
                .filter(|known| known.started == stat.started && known.thread_pointer != 0)
            {
                Some(known) => Some(known.thread_pointer),
                None => Distance::thread_pointer(self.distance, tid, &self.memory),
            };
            let Some(thread_pointer) = thread_pointer else {
                if before.goes_on_after_a_stop() {
                    break;
                }
                return Err(stat);
            };
            let result = look(&StillThread {
                tid,
                name: &stat.name,
                thread_pointer,
                memory: &self.memory,
            });
            if Asleep::of(tid).as_ref() == Some(&before) {
                let started = stat.started;
                self.known.insert(
                    tid,
                    Known {
                        started,
                        thread_pointer,
                    },
                );
                return Ok(Some(result));
            }
        }
        // It runs, or keeps waking up.
        if Asleep::of(tid).is_some_and(|asleep| !asleep.goes_on_after_a_stop()) {
            return Err(stat);
        }
        Ok(self.stopped(tid, &stat, look))
    }

    fn stopped<T>(
        &mut self,
        tid: u32,
        stat: &procfs::Stat,
        look: &mut impl FnMut(&StillThread<'_>) -> T,
    ) -> Option<T> {
        let signal = match self.hold(tid, &stat.name) {
            Ok(Some(signal)) => signal,
            Ok(None) => return None,
            Err(error) => {
                self.missed.refused += 1;
                self.miss(tid, &stat.name, Reason::Refused);
                self.refusal = Some((tid, error));
                return None;
            }
        };
        let held = Held { tid, signal };
        match ptrace::registers(tid) {
            Ok(registers) => {
                let thread = StillThread {
                    tid,
                    name: &stat.name,
                    thread_pointer: registers.thread_pointer,
                    memory: &self.memory,
                };
                let result = look(&thread);
                drop(held);
                if self.distance.is_none() && registers.thread_pointer != 0 {
                    self.distance = Distance::measured(tid, registers.thread_pointer);
                }
                let known = Known {
                    started: stat.started,
                    thread_pointer: registers.thread_pointer,
                };
                self.known.insert(tid, known);
                Some(result)
            }
            // It was killed while it stood still.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
            Err(error) => {
                self.missed.refused += 1;
                self.miss(tid, &stat.name, Reason::Refused);
                self.refusal = Some((tid, error));
                None
            }
        }
    }

    /// Stops a thread; the signal that it is to get when it runs on. `None` if it ended or did not stop.
    fn hold(&mut self, tid: u32, name: &str) -> io::Result<Option<i32>> {
        let gone = |error: io::Error| match error.raw_os_error() {
            Some(libc::ESRCH) => Ok(None),
            _ => Err(error),
        };
        if let Err(error) = ptrace::seize_alone(tid) {
            return gone(error);
        }
        if let Err(error) = ptrace::interrupt(tid) {
            self.late.push(tid);
            return gone(error);
        }
        let deadline = self.deadline.min(Instant::now() + self.limits.stop);
        loop {
            match wait::take_stop(tid) {
                Ok(Some(signal)) => return Ok(Some(signal)),
                Ok(None) if procfs::stat(tid).is_none_or(|stat| stat.exiting) => return Ok(None),
                Ok(None) if Instant::now() >= deadline => {
                    self.missed.unstoppable += 1;
                    self.miss(tid, name, Reason::Unstoppable);
                    self.late.push(tid);
                    return Ok(None);
                }
                Ok(None) => thread::sleep(PASS),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Lets go those that have stopped after all.
    fn release_late(&mut self) {
        self.late.retain(|&tid| match wait::take_stop(tid) {
            Ok(Some(signal)) => {
                drop(Held { tid, signal });
                false
            }
            Ok(None) => true,
            Err(_) => false,
        });
    }
}

/// A thread that stands still for us, until this is dropped.
struct Held {
    tid: u32,
    signal: i32,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Fails if it was killed in the meantime.
        let _ = ptrace::detach(self.tid, self.signal);
    }
}
