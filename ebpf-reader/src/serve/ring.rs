//! The last minutes: windows by age, bounded in time and in bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::error::Error;
use crate::profile::{Profile, memory};

/// Warnings that wait to be told. More at a time say nothing new.
const MAX_WARNINGS: usize = 16;

/// One window: what was counted in a few seconds.
#[derive(Debug)]
pub struct Window {
    /// Windows are numbered from 1.
    pub number: u64,
    /// When it ended.
    pub ended: SystemTime,
    /// What was counted, with names.
    pub profile: Profile,
    bytes: usize,
}

/// Windows, oldest first.
#[derive(Debug)]
pub struct Ring {
    windows: VecDeque<Arc<Window>>,
    bytes: usize,
    keep: Duration,
    memory: usize,
    dropped_for_memory: u64,
}

impl Ring {
    /// Keeps windows for a time, as long as they do not take up more than `memory` bytes.
    pub fn new(keep: Duration, memory: usize) -> Self {
        Self {
            windows: VecDeque::new(),
            bytes: 0,
            keep,
            memory,
            dropped_for_memory: 0,
        }
    }

    /// Adds the window `number`, which has ended now, and drops what is too old or too much.
    pub fn push(&mut self, number: u64, profile: Profile, now: SystemTime) {
        let bytes = memory::bytes(&profile);
        self.bytes = self.bytes.saturating_add(bytes);
        self.windows.push_back(Arc::new(Window {
            number,
            ended: now,
            profile,
            bytes,
        }));
        while self.bytes > self.memory && self.pop() {
            self.dropped_for_memory += 1;
        }
        while self
            .windows
            .front()
            .is_some_and(|window| now.duration_since(window.ended).unwrap_or_default() > self.keep)
        {
            self.pop();
        }
    }

    fn pop(&mut self) -> bool {
        let Some(window) = self.windows.pop_front() else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(window.bytes);
        true
    }

    /// The windows that ended in the last `time`, oldest first.
    pub fn last(&self, time: Duration, now: SystemTime) -> Vec<Arc<Window>> {
        let recent =
            |window: &&Arc<Window>| now.duration_since(window.ended).unwrap_or_default() <= time;
        self.windows.iter().filter(recent).cloned().collect()
    }

    /// The windows after number `after` up to number `until`; `None` if one of them was dropped.
    pub fn between(&self, after: u64, until: u64) -> Option<Vec<Arc<Window>>> {
        let windows: Vec<Arc<Window>> = self
            .windows
            .iter()
            .filter(|window| window.number > after && window.number <= until)
            .cloned()
            .collect();
        let complete = u64::try_from(windows.len()).ok()? == until.saturating_sub(after);
        complete.then_some(windows)
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Bytes that the windows take up, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that they may take up.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Windows that were dropped before their time because there were too many bytes.
    pub fn dropped_for_memory(&self) -> u64 {
        self.dropped_for_memory
    }

    /// When the oldest window began.
    pub fn begin(&self) -> Option<SystemTime> {
        self.windows.front()?.profile.started
    }
}

/// The ring, for many threads.
#[derive(Debug)]
pub(super) struct Store {
    ring: Mutex<Ring>,
    warnings: Mutex<VecDeque<Error>>,
    /// Number of the last window that is in the ring; the largest number when there are no more.
    last: watch::Sender<u64>,
    /// How often the window at hand was asked to end, ever.
    asked: AtomicU64,
    /// The last window that ended.
    ended: watch::Sender<Ended>,
}

/// A window has ended; it may not be in the ring yet.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    number: u64,
    /// How many requests to end a window had been seen then.
    cuts: u64,
    /// It was the last one.
    last: bool,
}

impl Store {
    pub(super) fn new(ring: Ring) -> Self {
        Self {
            ring: Mutex::new(ring),
            warnings: Mutex::default(),
            last: watch::Sender::new(0),
            asked: AtomicU64::new(0),
            ended: watch::Sender::default(),
        }
    }

    /// How often the window at hand was asked to end.
    pub(super) fn cuts_asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// A window has ended, for which so many requests had been seen. Returns its number.
    pub(super) fn end_window(&self, cuts: u64) -> u64 {
        let mut number = 0;
        self.ended.send_modify(|ended| {
            ended.number += 1;
            ended.cuts = cuts;
            number = ended.number;
        });
        number
    }

    /// Asks for the window at hand to end, and waits until it has. Its number; `None` if there are no more windows.
    pub(super) async fn cut(&self) -> Option<u64> {
        let cut = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut ended = self.ended.subscribe();
        // It fails when nobody sends any more, which cannot be: the sender is in `self`.
        let ended = *ended
            .wait_for(|ended| ended.last || ended.cuts >= cut)
            .await
            .ok()?;
        (!ended.last).then_some(ended.number)
    }

    /// Waits until a window is in the ring.
    pub(super) async fn arrival(&self, number: u64) {
        let mut last = self.last.subscribe();
        // As above.
        let _ = last.wait_for(|&last| last >= number).await;
    }

    /// There will be no more windows.
    pub(super) fn close(&self) {
        self.ended.send_modify(|ended| ended.last = true);
        self.last.send_replace(u64::MAX);
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a window that was given this number.
    pub(super) fn push(&self, number: u64, profile: Profile) {
        self.ring().push(number, profile, SystemTime::now());
        self.last.send_replace(number);
    }

    pub(super) fn warn(&self, warning: Error) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < MAX_WARNINGS {
            warnings.push_back(warning);
        }
    }

    pub(super) fn take_warning(&self) -> Option<Error> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn old_windows_go() {
        let mut ring = Ring::new(Duration::from_secs(60), usize::MAX);
        for number in 1..=20 {
            ring.push(number, two_traces(), at(number * 10));
        }
        assert_eq!(ring.len(), 7);
        assert_eq!(ring.dropped_for_memory(), 0);
        let numbers = |windows: Vec<Arc<Window>>| -> Vec<u64> {
            windows.iter().map(|window| window.number).collect()
        };
        assert_eq!(
            numbers(ring.last(Duration::from_secs(20), at(200))),
            [18, 19, 20]
        );
        assert_eq!(numbers(ring.between(18, 20).unwrap()), [19, 20]);
        assert_eq!(numbers(ring.between(20, 20).unwrap()), [0; 0]);
        assert!(ring.between(10, 15).is_none());
    }

    #[test]
    fn bytes_are_bounded() {
        let one = memory::bytes(&two_traces());
        let mut ring = Ring::new(Duration::from_secs(60), one * 3 + 1);
        for number in 1..=10 {
            ring.push(number, two_traces(), at(1));
            assert!(ring.bytes() <= ring.memory());
        }
        assert_eq!(ring.len(), 3);
        assert_eq!(ring.dropped_for_memory(), 7);
        // One that does not fit alone is not kept either.
        let mut ring = Ring::new(Duration::from_secs(60), 10);
        ring.push(1, two_traces(), at(1));
        assert!(ring.is_empty());
        assert_eq!(ring.bytes(), 0);
        assert!(ring.between(0, 1).is_none());
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_windows() {
        let mut ring = Ring::new(Duration::from_secs(60), usize::MAX);
        ring.push(1, two_traces(), at(1000));
        ring.push(2, two_traces(), at(10));
        assert_eq!(ring.len(), 2);
        assert_eq!(ring.last(Duration::from_secs(1), at(10)).len(), 2);
    }
}
