//! Labels of the application: they travel in the OpenTelemetry `Context`, to child spans and to every
//! thread that the context goes to.

use std::future::Future;
use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::context::{FutureExt, WithContext};

use crate::keys::AttributeKey;

/// The labels of a context, the ones set last first.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(pub(super) Arc<[(AttributeKey, Box<str>)]>);

/// Labels on an OpenTelemetry `Context`.
pub trait ContextLabels {
    /// This context with a label more, which replaces one of the same name.
    ///
    /// The label is published with the context's span, and with those of its children, while they are current.
    /// A name that finds no place in the attribute key map (256 names) is counted and left out.
    ///
    /// ```
    /// use opentelemetry::Context;
    /// use otel_profiling::ContextLabels as _;
    ///
    /// let context = Context::current().with_profiling_label("tenant", "acme");
    /// let _guard = context.attach();
    /// ```
    #[must_use]
    fn with_profiling_label(&self, name: &str, value: &str) -> Context;
}

impl ContextLabels for Context {
    fn with_profiling_label(&self, name: &str, value: &str) -> Context {
        let Ok(key) = AttributeKey::new(name) else {
            return self.clone();
        };
        let before = self.get::<Labels>().map_or(&[][..], |labels| &labels.0);
        let others = before.iter().filter(|(other, _)| *other != key);
        let labels = std::iter::once((key, value.into())).chain(others.cloned());
        self.with_value(Labels(labels.collect()))
    }
}

/// Runs `work` with a label more on the current context.
///
/// ```
/// let total = otel_profiling::with_label("tenant", "acme", || 1 + 1);
/// assert_eq!(total, 2);
/// ```
///
/// Costs a context and a record, two stores at each end, and the allocations of both. For a name and value
/// that stay the same, make a [`Context`] with [`ContextLabels`] once, and attach clones of it.
pub fn with_label<R>(name: &str, value: &str, work: impl FnOnce() -> R) -> R {
    let _guard = Context::map_current(|context| context.with_profiling_label(name, value)).attach();
    work()
}

/// Labels on a future.
pub trait FutureLabels: Future + Sized {
    /// Publishes a label more during every poll of this future. The context is the one that is current now.
    ///
    /// ```
    /// use otel_profiling::FutureLabels as _;
    ///
    /// let future = async { /* … */ }.with_profiling_label("tenant", "acme");
    /// # drop(future);
    /// ```
    #[must_use]
    fn with_profiling_label(self, name: &str, value: &str) -> WithContext<Self> {
        let context = Context::map_current(|context| context.with_profiling_label(name, value));
        self.with_context(context)
    }
}

impl<F: Future> FutureLabels for F {}
