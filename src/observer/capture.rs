//! What is published beside the ids: chosen once, when the observer is installed.

use crate::keys::{AttributeKey, AttributeKeyError};

/// Name of the attribute with the span's name.
pub const SPAN_NAME: &str = "span_name";

/// How fine the published span ids are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Granularity {
    /// Each span's context publishes its own span id.
    #[default]
    Span,
    /// Every context of a trace publishes the span id of the trace's first span in this process, and
    /// that span's attributes. A child span costs no allocation, and no copy of labels.
    Trace,
}

/// What to publish beside the ids. By default nothing.
///
/// Span attributes and the span name need spans that tell about themselves: those of
/// `otel-profiling-tracer`'s wrapped provider. Baggage and the local root work with every provider.
///
/// ```
/// use otel_profiling::{Capture, Observer};
///
/// let capture = Capture::new()
///     .span_attributes(["http.route", "rpc.method"])
///     .baggage(["tenant"])
///     .span_name(true)
///     .local_root_span_id(true);
/// Observer::new().capture(capture).install()?;
/// # Ok::<(), otel_profiling::InstallError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    pub(super) span_attributes: Vec<Box<str>>,
    pub(super) baggage: Vec<Box<str>>,
    pub(super) span_name: bool,
    pub(super) local_root_span_id: bool,
    pub(super) granularity: Granularity,
}

impl Capture {
    /// Nothing beside the ids.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Span attributes to publish, by name, in place of those named before. The order is that of importance:
    /// what does not fit is left out from the end.
    #[must_use]
    pub fn span_attributes<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.span_attributes = names.into_iter().map(|name| name.as_ref().into()).collect();
        self
    }

    /// Baggage entries to publish, by name, in place of those named before.
    #[must_use]
    pub fn baggage<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.baggage = names.into_iter().map(|name| name.as_ref().into()).collect();
        self
    }

    /// Whether to publish the span's name, as [`SPAN_NAME`].
    #[must_use]
    pub fn span_name(mut self, publish: bool) -> Self {
        self.span_name = publish;
        self
    }

    /// Whether to publish the span id of the trace's first span in this process, as
    /// [`LOCAL_ROOT_SPAN_ID`](crate::LOCAL_ROOT_SPAN_ID).
    #[must_use]
    pub fn local_root_span_id(mut self, publish: bool) -> Self {
        self.local_root_span_id = publish;
        self
    }

    /// How fine the published span ids are. Default: per span.
    #[must_use]
    pub fn granularity(mut self, granularity: Granularity) -> Self {
        self.granularity = granularity;
        self
    }

    /// The keys of all names.
    pub(super) fn resolve(&self) -> Result<Resolved, AttributeKeyError> {
        let keys = |names: &[Box<str>]| -> Result<Vec<_>, _> {
            names.iter().map(|name| AttributeKey::new(name)).collect()
        };
        Ok(Resolved {
            span_attributes: keys(&self.span_attributes)?,
            baggage: keys(&self.baggage)?,
            span_name: match self.span_name {
                true => Some(AttributeKey::new(SPAN_NAME)?),
                false => None,
            },
            local_root: self
                .local_root_span_id
                .then(AttributeKey::local_root_span_id),
            granularity: self.granularity,
        })
    }
}

/// A [`Capture`] with the keys of its names.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(super) span_attributes: Vec<AttributeKey>,
    pub(super) baggage: Vec<AttributeKey>,
    pub(super) span_name: Option<AttributeKey>,
    pub(super) local_root: Option<AttributeKey>,
    pub(super) granularity: Granularity,
}

impl Resolved {
    /// Whether spans have anything to tell.
    pub(super) fn of_spans(&self) -> bool {
        !self.span_attributes.is_empty() || self.span_name.is_some()
    }

    /// The key of a span attribute that is to be published.
    pub(super) fn span_attribute(&self, name: &str) -> Option<AttributeKey> {
        let mut keys = self.span_attributes.iter().copied();
        keys.find(|key| key.name() == name)
    }
}
