//! What was cut, dropped or refused: counted, so that nothing goes missing silently.

use core::sync::atomic::{AtomicU64, Ordering};

/// A count that any code may raise, callbacks of OpenTelemetry included: one relaxed addition.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident / $field:ident;)*) => {
        $(pub(crate) static $name: Counter = Counter::new();)*

        /// What was cut, dropped or refused since the process started.
        ///
        /// ```
        /// let counters = otel_profiling::counters();
        /// assert_eq!(counters.attributes_dropped, 0);
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)*
        }

        /// The counts as of now.
        #[must_use]
        pub fn counters() -> Counters {
            Counters { $($field: $name.get(),)* }
        }
    };
}

counters! {
    /// Attributes whose value was cut, at a character boundary, to the 255 bytes that a thread context
    /// attribute can hold.
    VALUES_CUT / values_cut;
    /// Attributes that were left out of a record because it was full: 612 bytes of attributes.
    ATTRIBUTES_DROPPED / attributes_dropped;
    /// Custom labels whose value was cut to the 53 bytes that Parca Agent reads. The thread context has
    /// more of it.
    LABELS_CUT / labels_cut;
    /// Custom labels that were left out because a set is full (Parca Agent reads 10), or because Parca has a
    /// column of that name. The thread context has them.
    LABELS_DROPPED / labels_dropped;
    /// Names of attributes that found no place in the attribute key map; their values are not published.
    KEYS_REFUSED / keys_refused;
    /// Names of attributes that readers were not told about, since the process context could not be updated.
    KEYS_NOT_ANNOUNCED / keys_not_announced;
    /// Changes of a span's attributes that are not published, since too many earlier versions of the record
    /// may still be in use.
    UPDATES_DROPPED / updates_dropped;
}
