//! What serving counts about itself, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::profile::Profile;
use crate::sample::Counters;

/// Counts since the start, and the present state.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) samples: AtomicU64,
    pub(super) with_context: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) truncated: AtomicU64,
    pub(super) windows: AtomicU64,
    /// Windows that were merged into the next one because names were looked up too slowly.
    pub(super) late_windows: AtomicU64,
    pub(super) lost_events: AtomicU64,
    pub(super) refused_processes: AtomicU64,
    pub(super) targets: AtomicU64,
    pub(super) symbol_failures: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) refused_requests: AtomicU64,
}

impl Health {
    /// Counts what is in a window.
    pub(super) fn count(&self, window: &Profile) {
        for (counter, count) in [
            (&self.samples, window.samples),
            (&self.with_context, window.with_context),
            (&self.lost, window.lost),
            (&self.unreadable, window.unreadable),
            (&self.truncated, window.truncated),
            (&self.windows, 1),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What is not in windows.
    pub(super) fn set_losses(&self, counters: &Counters) {
        self.lost_events
            .store(counters.lost_events, Ordering::Relaxed);
        self.refused_processes
            .store(counters.refused_processes, Ordering::Relaxed);
    }

    pub(super) fn set_targets(&self, targets: usize) {
        let targets = u64::try_from(targets).unwrap_or(u64::MAX);
        self.targets.store(targets, Ordering::Relaxed);
    }
}
