//! A recording that is cut into windows: its profile comes in pieces, while it goes on.

use std::time::{Instant, SystemTime};

use crate::process::Modules;
use crate::profile::{Aggregator, Profile};
use crate::sample::Counters;

/// Takes the windows of a recording.
pub trait Windows {
    /// Whether the window at hand is to end now. Asked several times a second.
    fn is_over(&mut self, now: Instant) -> bool;

    /// Takes a window that has ended. Its functions have no names yet; they are found in `modules`. `counters` are the
    /// sampler's, since the start of the recording.
    fn window(&mut self, profile: Profile, modules: &Modules, counters: &Counters);
}

/// Cuts.
pub(super) struct Cut<'a> {
    windows: &'a mut dyn Windows,
    started: (SystemTime, Instant),
}

impl<'a> Cut<'a> {
    /// The first window begins now.
    pub(super) fn new(windows: &'a mut dyn Windows) -> Self {
        Self {
            windows,
            started: (SystemTime::now(), Instant::now()),
        }
    }

    /// Whether the window at hand is to end now.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.windows.is_over(now)
    }

    /// Ends the window at hand; the next one begins.
    pub(super) fn end_window(&mut self, aggregator: &mut Aggregator, counters: &Counters) {
        let (started, begin) = self.started;
        let profile = aggregator.rotate(started, begin.elapsed(), *counters);
        self.started = (SystemTime::now(), Instant::now());
        self.windows.window(profile, aggregator.modules(), counters);
    }
}
