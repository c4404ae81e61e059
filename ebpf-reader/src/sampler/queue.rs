//! Events on their way from the tracing thread to whoever polls.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sample::{Counters, Event};

/// Samples that wait at most; a caller that does not poll for so long loses what comes after.
const MAX_WAITING: usize = 16 * 1024;

/// Waiting events beyond which samples come without copies of their stacks, of 16 KiB each.
const MAX_COPIES: usize = 1024;

/// Room beyond [`MAX_WAITING`] that only events in the life of processes may use.
const RESERVE: usize = 4 * 1024;

/// A bounded queue with the counters of what did not get in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    counters: Counters,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a queue has no half-done states.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, or counts it as lost.
    pub(super) fn push(&self, mut event: Event) {
        let mut state = self.state();
        if let Event::Sample(sample) = &mut event
            && state.events.len() >= MAX_COPIES
            && sample.drop_copy()
        {
            state.counters.truncated += 1;
        }
        let is_sample = matches!(event, Event::Sample(_));
        let room = MAX_WAITING + if is_sample { 0 } else { RESERVE };
        if state.events.len() < room {
            state.events.push_back(event);
            self.filled.notify_one();
        } else if is_sample {
            state.counters.lost_samples += 1;
        } else {
            state.counters.lost_events += 1;
        }
    }

    /// Takes all events, waiting at most `timeout` for the first.
    pub(super) fn take(&self, timeout: Duration) -> VecDeque<Event> {
        let state = self.state();
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, timeout, |state| state.events.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.events)
    }

    /// Changes the counters.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.state().counters);
    }

    /// The counters as they are now.
    pub(super) fn counters(&self) -> Counters {
        self.state().counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Registers, Sample, StackCopy};

    #[test]
    fn stacks_are_lost_before_samples() {
        let copy = StackCopy {
            registers: Registers {
                instruction: 0x1234,
                ..Registers::default()
            },
            bytes: vec![0; 16],
        };
        let sample = Sample {
            user_stack: vec![0x1234, 0x5678],
            stack_copy: Some(copy.clone()),
            ..Sample::default()
        };
        let queue = Queue::default();
        for _ in 0..=MAX_COPIES {
            queue.push(Event::Sample(sample.clone()));
        }
        queue.push(Event::Sample(Sample::default()));
        assert_eq!(queue.counters().truncated, 1);
        let events = queue.take(Duration::ZERO);
        let copied = |event: &Event| matches!(event, Event::Sample(sample) if sample.stack_copy.as_ref() == Some(&copy));
        assert_eq!(
            events.iter().filter(|event| copied(event)).count(),
            MAX_COPIES
        );
        let Some(Event::Sample(last)) = events.get(MAX_COPIES) else {
            panic!("a sample is missing")
        };
        assert_eq!((&last.stack_copy, &last.user_stack), (&None, &vec![0x1234]));
    }

    #[test]
    fn samples_are_lost_before_life_events() {
        let queue = Queue::default();
        for _ in 0..=MAX_WAITING {
            queue.push(Event::Sample(Sample::default()));
        }
        queue.push(Event::Exit { pid: 1 });
        assert_eq!(queue.counters().lost_samples, 1);
        assert_eq!(queue.counters().lost_events, 0);
        let events = queue.take(Duration::ZERO);
        assert_eq!(events.len(), MAX_WAITING + 1);
        assert_eq!(events.back(), Some(&Event::Exit { pid: 1 }));
        assert!(queue.take(Duration::from_millis(1)).is_empty());
    }
}
