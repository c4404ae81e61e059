//! Which samples to show: by trace, span, attributes, and what the thread was doing.
//!
//! A filter means the same in every output: all of them show what [`Profile::select`] leaves.

use std::borrow::Cow;

use super::collect::Collector;
use super::{Profile, Row, SpanId, TraceId};
use crate::sample::Activity;

/// Which samples to show. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only samples of this trace.
    pub trace_id: Option<TraceId>,
    /// Only samples of this span.
    pub span_id: Option<SpanId>,
    /// Only samples with all of these attributes: names as in [`Profile::value`], and values.
    pub attributes: Vec<(String, String)>,
    /// Only samples of threads that were doing one of these; empty: whatever they were doing.
    pub activities: Vec<Activity>,
}

impl Filter {
    /// All samples.
    pub fn all() -> Self {
        Self::default()
    }

    /// The samples of one trace.
    pub fn trace(trace_id: TraceId) -> Self {
        Self {
            trace_id: Some(trace_id),
            ..Self::default()
        }
    }

    /// Of these, the samples of one span.
    #[must_use]
    pub fn span(mut self, span_id: SpanId) -> Self {
        self.span_id = Some(span_id);
        self
    }

    /// Of these, the samples whose attribute or label `name` is `value`.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Of these, the samples of threads that ran.
    #[must_use]
    pub fn on_cpu(mut self) -> Self {
        self.activities = vec![Activity::OnCpu];
        self
    }

    /// Of these, the times in which threads did not run.
    #[must_use]
    pub fn off_cpu(mut self) -> Self {
        self.activities = vec![Activity::Blocked, Activity::Preempted];
        self
    }

    /// Whether all samples are shown.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the samples of a row are shown.
    pub fn matches(&self, profile: &Profile, row: &Row) -> bool {
        let context = profile.contexts.get(row.context);
        (self.activities.is_empty() || self.activities.contains(&row.activity))
            && self.trace_id.is_none_or(|trace_id| {
                context.is_some_and(|context| context.trace_id == Some(trace_id))
            })
            && self.span_id.is_none_or(|span_id| {
                context.is_some_and(|context| context.span_id == Some(span_id))
            })
            && self.attributes.iter().all(|(name, value)| {
                profile
                    .value(row, name)
                    .is_some_and(|found| found == *value)
            })
    }
}

impl Profile {
    /// The samples that a filter shows, with nothing in the tables but what they refer to.
    ///
    /// [`Profile::samples`] and [`Profile::with_context`] are those of the selection; what was lost,
    /// unreadable or truncated is still told of the whole recording.
    pub fn select(&self, filter: &Filter) -> Cow<'_, Profile> {
        if filter.is_all() {
            return Cow::Borrowed(self);
        }
        let mut collector = Collector::default();
        collector.add(self, |row| filter.matches(self, row));
        let mut selected = collector.into_tables();
        selected.started = self.started;
        selected.duration = self.duration;
        selected.period_ns = self.period_ns;
        selected.unreadable = self.unreadable;
        selected.truncated = self.truncated;
        selected.merged = self.merged;
        selected.lost = self.lost;
        for row in &selected.rows {
            selected.samples = selected.samples.saturating_add(row.samples);
            let context = selected.contexts.get(row.context);
            if context.is_some_and(|context| context.trace_id.is_some()) {
                selected.with_context = selected.with_context.saturating_add(row.samples);
            }
        }
        Cow::Owned(selected)
    }
}
