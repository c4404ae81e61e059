//! Waiting for the first span that is entered on a thread.

use super::{THREAD, Watch};
use crate::record::SpanIds;

/// Runs `work`, and also returns the ids of the first context with a valid span that was attached on this thread
/// meanwhile, if any: for a middleware that stands outside the one that makes the request's span.
///
/// The ids are copied; no context is kept alive. Needs the observer to be [installed](crate::install()).
pub fn first_span_entered<R>(work: impl FnOnce() -> R) -> (R, Option<SpanIds>) {
    struct Restore(Watch);
    impl Drop for Restore {
        fn drop(&mut self) {
            THREAD.with(|thread| {
                let inner = thread.watch.replace(self.0);
                // What an inner call saw, an outer one that is still waiting saw too.
                if matches!(self.0, Watch::Waiting) {
                    thread.watch.set(match inner {
                        Watch::Seen(ids) => Watch::Seen(ids),
                        Watch::Off | Watch::Waiting => Watch::Waiting,
                    });
                }
            });
        }
    }

    let _restore = Restore(THREAD.with(|thread| thread.watch.replace(Watch::Waiting)));
    let result = work();
    let seen = match THREAD.with(|thread| thread.watch.get()) {
        Watch::Seen(ids) => Some(ids),
        Watch::Off | Watch::Waiting => None,
    };
    (result, seen)
}
