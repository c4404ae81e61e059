//! What one thread publishes: its two slots, the record of its current context, its floor, and its end.
//!
//! Publishing is two stores. They happen on the thread itself, and a profiler looks only while the
//! thread is stopped, as a signal handler would; so compiler fences order everything.
//!
//! A thread has a *floor*: what it publishes while no OpenTelemetry context with a span of its own is
//! current. Middlewares set it (see [`Record::publish_while`]).
//!
//! When a thread ends, its OpenTelemetry context stack is freed by a thread-local destructor, without a
//! word to the observer. Thread-local destructors run last in, first out, so [`ExitGuard`] is made
//! when the stack exists already: it goes first, withdraws what is published, and from then on contexts
//! are not followed on this thread.

use core::cell::{Cell, RefCell};
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::abi::custom_labels::LabelSet;
use crate::abi::thread_context::RecordHeader;
use crate::block::{self, Slots};
use crate::record::{Bytes, ContextRecord, Pointers, Record, SpanIds};

/// How far a thread has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No context was entered yet.
    New,
    /// The exit guard stands: contexts are followed.
    Following,
    /// The thread is ending, or the platform has no slots: contexts are not followed any more.
    Closed,
}

/// What is published below the contexts of this thread.
#[derive(Clone, Copy)]
struct Floor {
    pointers: Pointers,
    /// The floor's record, for contexts that are made inside; `None` without a floor.
    record: Option<*const dyn Bytes>,
    /// The context's record that was current when the floor was set, and its ids: the floor stands
    /// for that context too, since it was set inside. The ids tell a later record at the same address.
    base: Option<(*const ContextRecord, SpanIds)>,
}

impl Floor {
    /// The floor that `record` makes on this thread now.
    fn of(record: &Record) -> Self {
        let current = current();
        Self {
            pointers: record.bytes().pointers(),
            record: Some(record.as_ptr()),
            // SAFETY: `current` is null or the record of the context that is current on this thread, which
            // `set_current`'s caller keeps alive for as long as it is.
            base: unsafe { current.as_ref() }.map(|record| (current, record.ids())),
        }
    }

    /// Whether `record`, of the current context, is published rather than the floor.
    fn is_below(&self, record: &ContextRecord) -> bool {
        let ids = record.ids();
        self.base != Some((ptr::from_ref(record), ids))
            && (ids != SpanIds::NONE || self.record.is_none())
    }
}

/// Who waits for the first span that is entered on this thread.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "otel"), allow(dead_code))]
enum Watch {
    Off,
    Waiting,
    Seen(SpanIds),
}

struct Thread {
    phase: Cell<Phase>,
    /// Outer `None`: not asked for yet. Inner `None`: the platform has none.
    slots: Cell<Option<Option<Slots>>>,
    /// The record of the current context; null if it has none.
    current: Cell<*const ContextRecord>,
    floor: Cell<Floor>,
    watch: Cell<Watch>,
    /// The innermost call of [`publish_scope`]; null outside.
    scope: Cell<*const Scope>,
}

/// Records that stay published until a call of [`publish_scope`] returns.
struct Scope(RefCell<Vec<Record>>);

thread_local! {
    // Without a destructor, so that it can be used until the thread's very end.
    static THREAD: Thread = const {
        Thread {
            phase: Cell::new(Phase::New),
            slots: Cell::new(None),
            current: Cell::new(ptr::null()),
            floor: Cell::new(Floor { pointers: Pointers::NULL, record: None, base: None }),
            watch: Cell::new(Watch::Off),
            scope: Cell::new(ptr::null()),
        }
    };
    static EXIT_GUARD: ExitGuard = const { ExitGuard };
}

impl Thread {
    fn slots(&self) -> Option<Slots> {
        match self.slots.get() {
            Some(slots) => slots,
            None => {
                let slots = block::slots();
                self.slots.set(Some(slots));
                slots
            }
        }
    }

    /// Publishes what the current context and the floor ask for.
    ///
    /// # Safety
    /// `self.current` is null or leads to a live record.
    unsafe fn publish(&self) {
        let Some(slots) = self.slots() else { return };
        let floor = self.floor.get();
        // SAFETY: the caller's promise.
        let pointers = match unsafe { self.current.get().as_ref() } {
            Some(record) if floor.is_below(record) => record.pointers(),
            _ => floor.pointers,
        };
        // SAFETY: the slots are this thread's, and this thread has not ended.
        unsafe { store(slots, pointers) };
    }
}

/// Publishes `pointers`: the two stores that everything here is about.
///
/// # Safety
/// The slots belong to the calling thread.
#[inline]
unsafe fn store(slots: Slots, pointers: Pointers) {
    // A profiler interrupts this thread between two instructions: what the pointers lead to has to be
    // written before them, and nothing of it may be freed before they are gone.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the caller's promise; slots are valid until their thread ends.
    unsafe {
        slots
            .thread_context
            .as_ref()
            .store(pointers.thread_context.cast_mut(), Ordering::Relaxed);
        if let Some(custom_labels) = slots.custom_labels {
            custom_labels
                .as_ref()
                .store(pointers.custom_labels.cast_mut(), Ordering::Relaxed);
        }
    }
    compiler_fence(Ordering::SeqCst);
}

/// The context that is current on this thread from now on: publishes its record, or else the floor.
/// `entered` tells a context that was attached from one that is current again.
///
/// Does not allocate (except on the first call of a thread: the C library's list of thread-local
/// destructors), lock, log or call foreign code.
///
/// # Safety
/// `record` is null or leads to a live record, which stays alive until this function was called again on
/// this thread, or until the destructors of the thread's thread-locals that were initialised before the
/// first call run.
#[cfg_attr(not(feature = "otel"), allow(dead_code))]
pub(crate) unsafe fn set_current(record: *const ContextRecord, entered: bool) {
    THREAD.with(|thread| {
        match thread.phase.get() {
            Phase::Following => {}
            Phase::New => {
                // Fails when the thread is ending already and the guard is gone.
                let guarded = EXIT_GUARD.try_with(|_| ()).is_ok();
                thread.phase.set(if guarded {
                    Phase::Following
                } else {
                    Phase::Closed
                });
                if !guarded {
                    return;
                }
            }
            Phase::Closed => return,
        }
        thread.current.set(record);
        if entered && matches!(thread.watch.get(), Watch::Waiting) {
            // SAFETY: the caller's promise.
            let ids = unsafe { record.as_ref() }.map(ContextRecord::ids);
            if let Some(ids) = ids.filter(|ids| *ids != SpanIds::NONE) {
                thread.watch.set(Watch::Seen(ids));
            }
        }
        // SAFETY: the caller's promise for `record`, which is `current` now.
        unsafe { thread.publish() };
    });
}

/// The record of the current context, null if it has none.
#[cfg_attr(not(feature = "otel"), allow(dead_code))]
pub(crate) fn current() -> *const ContextRecord {
    THREAD.with(|thread| thread.current.get())
}

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

/// Runs `work`, and also returns the ids of the first context with a valid span that was attached on this thread
/// meanwhile, if any: for a middleware that stands outside the one that makes the request's span.
///
/// The ids are copied; no context is kept alive. Needs the observer to be [installed](crate::install()).
#[cfg(feature = "otel")]
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

/// What the two slots of this thread hold; `None` if the platform has none.
pub(crate) fn published() -> Option<(*const RecordHeader, *const LabelSet)> {
    let slots = THREAD.with(Thread::slots)?;
    // SAFETY: slots are valid until their thread ends, and this is their thread.
    unsafe {
        Some((
            slots.thread_context.as_ref().load(Ordering::Relaxed),
            slots.custom_labels.map_or(ptr::null(), |labels| {
                labels.as_ref().load(Ordering::Relaxed).cast_const()
            }),
        ))
    }
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

/// Stands while contexts are followed on a thread; its destructor is the thread's end for us.
struct ExitGuard;

impl Drop for ExitGuard {
    fn drop(&mut self) {
        THREAD.with(|thread| {
            thread.phase.set(Phase::Closed);
            thread.current.set(ptr::null());
            // SAFETY: `current` is null.
            unsafe { thread.publish() };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published;

    fn record(byte: u8) -> Record {
        Record::new(SpanIds::new([byte; 16], [byte; 8], 1).unwrap())
    }

    fn context_record(byte: u8) -> Box<ContextRecord> {
        let mut record = Box::new(ContextRecord::new(Some(record(byte).ids())));
        record.link();
        record
    }

    fn seen() -> Option<u8> {
        published::thread_context().map(|context| context.ids.trace_id()[0])
    }

    #[test]
    fn floors_nest_and_are_restored() {
        if !block::SUPPORTED {
            return;
        }
        let (outer, inner) = (record(1), record(2));
        assert_eq!(seen(), None);
        outer.publish_while(|| {
            assert_eq!(seen(), Some(1));
            inner.publish_while(|| assert_eq!(seen(), Some(2)));
            assert_eq!(seen(), Some(1));
            let panicked =
                std::panic::catch_unwind(|| inner.publish_while(|| panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(seen(), Some(1));
        });
        assert_eq!(seen(), None);
        assert_eq!(published::custom_labels(), []);
    }

    #[test]
    fn a_scope_ends_what_was_published_inside_it() {
        if !block::SUPPORTED {
            return;
        }
        assert!(!record(1).publish_for_rest_of_scope(), "there is no scope");
        record(1).publish_while(|| {
            publish_scope(|| {
                assert_eq!(seen(), Some(1));
                assert!(record(2).publish_for_rest_of_scope());
                assert_eq!(seen(), Some(2));
                record(3).publish_while(|| {
                    assert!(record(4).publish_for_rest_of_scope());
                    assert_eq!(seen(), Some(4));
                    assert_eq!(
                        floor().map(|(record, shown)| (record.ids().span_id()[0], shown)),
                        Some((4, true))
                    );
                });
                assert_eq!(seen(), Some(2));
                publish_scope(|| assert!(record(5).publish_for_rest_of_scope()));
                assert_eq!(seen(), Some(2));
            });
            assert_eq!(seen(), Some(1));
        });
        assert_eq!(seen(), None);
    }

    #[test]
    fn a_context_inside_a_floor_is_published_instead_of_it() {
        if !block::SUPPORTED {
            return;
        }
        std::thread::spawn(|| {
            let (context, floor, child) = (context_record(1), record(2), context_record(3));
            let enter = |record: Option<&ContextRecord>| {
                // SAFETY: all records live until the thread is about to end.
                unsafe { set_current(record.map_or(ptr::null(), ptr::from_ref), true) }
            };
            enter(Some(&context));
            floor.publish_while(|| {
                assert_eq!(seen(), Some(2), "the floor was set inside the context");
                enter(Some(&child));
                assert_eq!(seen(), Some(3));
                enter(None);
                assert_eq!(seen(), Some(2), "a context without a span shows the floor");
                enter(Some(&context));
                assert_eq!(
                    seen(),
                    Some(2),
                    "back in the context in which the floor was set"
                );
            });
            assert_eq!(seen(), Some(1));
            enter(None);
            assert_eq!(seen(), None);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn nothing_is_published_after_the_guard_is_gone() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert_eq!(seen(), None, "the exit guard goes first");
                let (context, record) = (context_record(7), record(7));
                // SAFETY: the record outlives the next call.
                unsafe { set_current(ptr::from_ref(&*context), true) };
                assert_eq!(seen(), None, "the thread is closed");
                // SAFETY: null is always allowed.
                unsafe { set_current(ptr::null(), false) };
                if block::SUPPORTED {
                    record.publish_while(|| assert_eq!(seen(), Some(7)));
                }
            }
        }
        thread_local! {
            static LATE: Late = const { Late };
        }
        std::thread::spawn(|| {
            LATE.with(|_| ());
            // SAFETY: a leaked record lives for ever.
            unsafe { set_current(ptr::from_ref(Box::leak(context_record(1))), true) };
        })
        .join()
        .unwrap();
    }
}
