//! The floor of a thread, as middlewares set it: for a call, or for the rest of a scope.

use core::cell::RefCell;

use super::{Floor, Scope, THREAD};
use crate::record::Record;

/// The record of this thread's floor, if it has one, and whether it is the floor that is published now.
#[cfg_attr(not(feature = "otel"), allow(dead_code))]
pub(crate) fn floor() -> Option<(Record, bool)> {
    THREAD.with(|thread| {
        let floor = thread.floor.get();
        // SAFETY: `current` is null or alive, as `set_current`'s caller promises.
        let current = unsafe { thread.current.get().as_ref() };
        // SAFETY: whoever set the floor keeps its record alive until the floor is another one again.
        let record = unsafe { Record::from_ptr(floor.record?) };
        Some((
            record,
            !current.is_some_and(|record| floor.is_below(record)),
        ))
    })
}

impl Record {
    /// Publishes this record on the calling thread while `work` runs, and then what was published before,
    /// also when `work` panics.
    ///
    /// It becomes the thread's floor: OpenTelemetry contexts that are entered inside `work` and have a
    /// span of their own are published instead of it while they are current. It costs two stores at each
    /// end, and does not allocate.
    ///
    /// For a future, call this around each poll.
    pub fn publish_while<R>(&self, work: impl FnOnce() -> R) -> R {
        // `self` is borrowed until `work` has returned or unwound, and with it the record lives.
        let _restore = RestoreFloor(set_floor(Floor::of(self)));
        work()
    }

    /// Publishes this record on the calling thread until the innermost call of [`publish_scope`] around this one
    /// returns, as [`Record::publish_while`] would; false, and nothing happens, if there is none.
    ///
    /// For code that cannot wrap what is to be published: an interceptor, which is called and returns before the
    /// handler is.
    #[must_use]
    pub fn publish_for_rest_of_scope(&self) -> bool {
        let scope = THREAD.with(|thread| thread.scope.get());
        // SAFETY: a scope is taken out of the thread before it ends.
        let Some(scope) = (unsafe { scope.as_ref() }) else {
            return false;
        };
        // Those of before are kept too: a `publish_while` in between restores one of them when it returns.
        scope.0.borrow_mut().push(self.clone());
        set_floor(Floor::of(self));
        true
    }
}

/// Runs `work`, inside of which [`Record::publish_for_rest_of_scope`] may be called; then restores what was
/// published before, also when `work` panics.
///
/// For middlewares, around a poll. Does not allocate by itself.
pub fn publish_scope<R>(work: impl FnOnce() -> R) -> R {
    struct Leave(*const Scope);
    impl Drop for Leave {
        fn drop(&mut self) {
            THREAD.with(|thread| thread.scope.set(self.0));
        }
    }

    // Dropped in the reverse order: first the floor is restored, then nobody can find the scope any more,
    // then its records are freed.
    let scope = Scope(RefCell::new(Vec::new()));
    let _leave = Leave(THREAD.with(|thread| thread.scope.replace(&scope)));
    let _restore = RestoreFloor(THREAD.with(|thread| thread.floor.get()));
    work()
}

/// Restores a floor whose record is still alive.
struct RestoreFloor(Floor);

impl Drop for RestoreFloor {
    fn drop(&mut self) {
        set_floor(self.0);
    }
}

/// Sets the floor, and returns the one before. The caller keeps the record of the new one alive until the floor is
/// another one again.
fn set_floor(floor: Floor) -> Floor {
    THREAD.with(|thread| {
        let before = thread.floor.replace(floor);
        // SAFETY: `current` is null or alive, as `set_current`'s caller promises.
        unsafe { thread.publish() };
        before
    })
}
