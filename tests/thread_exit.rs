//! The end of a thread: with guards forgotten, and with thread-local destructors before and after
//! OpenTelemetry's own that open and end spans. Nothing crashes, and at no moment does a pointer lead to
//! memory that was freed: the allocator here overwrites whatever it frees and does not reuse it, and each
//! destructor reads back what is published. Under AddressSanitizer (`.ci/asan`), its allocator notices.

#[cfg(not(asan))]
#[path = "thread_exit/poisoning.rs"]
mod poisoning;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling::{SpanIds, published};

/// Ids that were handed out; a published id that is not among them was read from freed memory.
static KNOWN: Mutex<Vec<SpanIds>> = Mutex::new(Vec::new());

fn start() -> Context {
    let provider = SdkTracerProvider::builder().build();
    // With an explicit parent: `start` asks for the current context, and panics once OpenTelemetry's
    // thread-local is gone.
    let span = provider
        .tracer("test")
        .start_with_context("span", &Context::new());
    let context = Context::new().with_span(span);
    let ids = SpanIds::from_span_context(context.span().span_context()).expect("valid ids");
    KNOWN.lock().unwrap().push(ids);
    context
}

/// Reads what is published, in both layouts, and holds it against what was ever handed out.
fn published_is_alive() -> Option<SpanIds> {
    let context = published::thread_context();
    let labels = published::custom_labels();
    let Some(context) = context else {
        assert_eq!(labels, [], "custom labels without a thread context");
        return None;
    };
    assert!(
        KNOWN.lock().unwrap().contains(&context.ids),
        "{context:?} was never published"
    );
    let hex: String = context
        .ids
        .trace_id()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(labels.first().map(|(_, value)| value.as_str()), Some(&*hex));
    Some(context.ids)
}

/// A thread-local of the application whose destructor uses spans.
struct AtExit {
    /// Contexts cannot be attached once OpenTelemetry's own thread-local is gone: it panics.
    attach_may_fail: bool,
    /// A context that lives until this destructor.
    kept: RefCell<Option<Context>>,
}

static DESTRUCTORS: Mutex<usize> = Mutex::new(0);

impl Drop for AtExit {
    fn drop(&mut self) {
        published_is_alive();
        let context = start();
        context.span().add_event("at exit", Vec::new());
        let attached = catch_unwind(AssertUnwindSafe(|| {
            let guard = context.clone().attach();
            published_is_alive();
            drop(guard);
        }));
        assert!(attached.is_ok() || self.attach_may_fail);
        published_is_alive();
        context.span().end();
        drop(self.kept.borrow_mut().take());
        drop(context);
        published_is_alive();
        *DESTRUCTORS.lock().unwrap() += 1;
    }
}

thread_local! {
    static BEFORE: AtExit = const { AtExit { attach_may_fail: true, kept: RefCell::new(None) } };
    static AFTER: AtExit = const { AtExit { attach_may_fail: false, kept: RefCell::new(None) } };
}

/// Runs `work` on a thread that ends, and says how many destructors of [`AtExit`] have run then.
fn on_a_thread(work: impl FnOnce() + Send + 'static) -> usize {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    otel_profiling::install().expect("no other observer");
    let before = *DESTRUCTORS.lock().unwrap();
    std::thread::spawn(work)
        .join()
        .expect("the thread ends as usual");
    let after = *DESTRUCTORS.lock().unwrap();
    after - before
}

#[test]
fn with_forgotten_guards_and_destructors_around() {
    let ran = on_a_thread(|| {
        BEFORE.with(|before| *before.kept.borrow_mut() = Some(start()));
        for _ in 0..20 {
            // Only the stack of contexts owns these; it frees them at the end of the thread.
            std::mem::forget(start().attach());
        }
        AFTER.with(|after| *after.kept.borrow_mut() = Some(start()));
        assert!(published_is_alive().is_some());
    });
    assert_eq!(ran, 2);
}

#[test]
fn with_the_destructors_thread_local_made_in_the_other_order() {
    let ran = on_a_thread(|| {
        BEFORE.with(|_| ());
        AFTER.with(|_| ());
        // Nothing is attached before the destructors run: the first attach of the thread is theirs.
    });
    assert_eq!(ran, 2);
}

#[test]
fn with_a_guard_that_a_destructor_drops() {
    struct Guard(RefCell<Option<opentelemetry::ContextGuard>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            published_is_alive();
            drop(self.0.borrow_mut().take());
            published_is_alive();
            *DESTRUCTORS.lock().unwrap() += 1;
        }
    }
    thread_local! {
        static GUARD: Guard = const { Guard(RefCell::new(None)) };
    }
    let ran = on_a_thread(|| {
        drop(start().attach());
        GUARD.with(|guard| *guard.0.borrow_mut() = Some(start().attach()));
        assert!(published_is_alive().is_some());
    });
    assert_eq!(ran, 1);
}

#[test]
fn with_a_panic() {
    let ran = on_a_thread(|| {
        let panicked = std::thread::spawn(|| {
            std::mem::forget(start().attach());
            AFTER.with(|_| ());
            std::panic::panic_any("on purpose");
        })
        .join();
        assert!(panicked.is_err());
    });
    assert_eq!(ran, 1);
}
