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

#[cfg_attr(not(feature = "otel"), allow(dead_code))]
mod floor;
#[cfg(feature = "otel")]
mod watch;

use core::cell::{Cell, RefCell};
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::abi::custom_labels::LabelSet;
use crate::abi::thread_context::RecordHeader;
use crate::block::{self, Slots};
use crate::record::{Bytes, ContextRecord, Pointers, Record, SpanIds};

#[cfg(feature = "otel")]
pub(crate) use floor::floor;
pub use floor::publish_scope;
#[cfg(feature = "otel")]
pub use watch::first_span_entered;

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
    /// The ids of the floor's record.
    ids: SpanIds,
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
            ids: record.ids(),
            // SAFETY: `current` is null or the record of the context that is current on this thread, which
            // `set_current`'s caller keeps alive for as long as it is.
            base: unsafe { current.as_ref() }.map(|record| (current, record.ids())),
        }
    }

    /// Whether `record`, of the current context, is published rather than the floor.
    ///
    /// Not if the floor was set inside that context, nor if the record says nothing that the floor's does not
    /// say too: labels without a span, or the same span without attributes.
    fn is_below(&self, record: &ContextRecord) -> bool {
        let ids = record.ids();
        self.base != Some((ptr::from_ref(record), ids))
            && (self.record.is_none()
                || ids != SpanIds::NONE && !(ids == self.ids && record.is_plain()))
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
            floor: Cell::new(Floor { pointers: Pointers::NULL, record: None, ids: SpanIds::NONE, base: None }),
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
mod tests;
