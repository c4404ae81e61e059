//! Work that leaves its task: carries what is current here to wherever the work runs.
//!
//! A new task or thread starts without a context, and what it does is attributed to no trace. A [`Carrier`] takes
//! along OpenTelemetry's current context and the record of the middleware inside which it was made.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use opentelemetry::Context;

use crate::record::Record;
use crate::thread;

/// What was current where it was made: publishes it, and makes the context current, around work elsewhere.
///
/// | where the work goes | the one line |
/// |---|---|
/// | `tokio::spawn` | `tokio::spawn(Carrier::current().future(work))` |
/// | `tokio::task::spawn_blocking` | `spawn_blocking(Carrier::current().closure(work))` |
/// | `std::thread::spawn` | `std::thread::spawn(Carrier::current().closure(work))` |
/// | rayon | `let carrier = Carrier::current();` and in the closure `carrier.run(\|\| …)` |
///
/// It holds a clone of the context, as everything that makes a context current elsewhere does: a
/// span that ends when its last context is dropped does not end before the work.
///
/// ```
/// use otel_profiling::Carrier;
///
/// let work = Carrier::current().closure(|| 6 * 7);
/// assert_eq!(std::thread::spawn(work).join().unwrap(), 42);
///
/// let carrier = Carrier::current();
/// let squares: Vec<_> = [1, 2, 3].iter().map(|n| carrier.run(|| n * n)).collect();
/// assert_eq!(squares, [1, 4, 9]);
/// ```
#[derive(Clone, Debug)]
pub struct Carrier {
    context: Context,
    /// The middleware's record, and whether it was published rather than the context's: it was set inside.
    record: Option<(Record, bool)>,
}

impl Carrier {
    /// What is current on this thread now.
    #[must_use]
    pub fn current() -> Self {
        Self {
            context: Context::current(),
            record: thread::floor(),
        }
    }

    /// Runs `work` on this thread, with what was carried current; afterwards, also after a panic, what was current
    /// before is so again.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.record {
            Some((record, false)) => {
                // The record must not be taken for one that was set inside the carried context, should
                // that be current here already.
                let _guard = Context::new().attach();
                record.publish_while(|| {
                    let _guard = self.context.clone().attach();
                    work()
                })
            }
            Some((record, true)) => {
                let _guard = self.context.clone().attach();
                record.publish_while(work)
            }
            None => {
                let _guard = self.context.clone().attach();
                work()
            }
        }
    }

    /// A closure that runs `work` so, wherever it is called.
    pub fn closure<R>(self, work: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.run(work)
    }

    /// A future that is polled, and dropped, so.
    pub fn future<F: Future>(self, work: F) -> Carried<F> {
        Carried {
            work: Some(work),
            carrier: self,
        }
    }
}

pin_project_lite::pin_project! {
    /// A future with a [`Carrier`] around each poll, and around its end.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Carried<F> {
        // `None` only during the drop below.
        #[pin]
        work: Option<F>,
        carrier: Carrier,
    }

    impl<F> PinnedDrop for Carried<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.carrier.run(|| this.work.set(None));
        }
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.work.as_pin_mut() {
            Some(work) => this.carrier.run(|| work.poll(task)),
            None => Poll::Pending,
        }
    }
}
