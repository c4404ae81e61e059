//! Why nothing, or not everything, is published.

use std::fmt;

use otel_profiling::InstallError;
use otel_profiling::process_context::PublishError;

/// Why [`Builder::try_wrap`](crate::Builder::try_wrap) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrapError {
    /// The context observer was not installed: no span is published.
    #[error(transparent)]
    Observer(#[from] InstallError),
    /// The process context was not published: profilers that rely on it know neither the service's name nor
    /// the layout of the thread context. Spans are published all the same.
    #[error("the process context is not published: {0}")]
    ProcessContext(#[from] PublishError),
}

/// A [`WrapError`], with the provider that was to be wrapped.
pub struct TryWrapError<P> {
    error: WrapError,
    provider: P,
}

impl<P> TryWrapError<P> {
    pub(crate) fn new(error: WrapError, provider: P) -> Self {
        Self { error, provider }
    }

    /// What went wrong.
    pub fn error(&self) -> &WrapError {
        &self.error
    }

    /// The provider, as it was.
    pub fn into_provider(self) -> P {
        self.provider
    }
}

impl<P> fmt::Debug for TryWrapError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TryWrapError").field(&self.error).finish()
    }
}

impl<P> fmt::Display for TryWrapError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<P> std::error::Error for TryWrapError<P> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
