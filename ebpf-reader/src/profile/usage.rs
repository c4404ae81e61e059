//! CPU time by trace and by span.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Context, Profile, SpanId, TraceId};

/// CPU time of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceUsage {
    /// The trace.
    pub trace_id: TraceId,
    /// Samples taken inside it.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
}

/// CPU time of one span, without its children's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanUsage {
    /// The trace.
    pub trace_id: TraceId,
    /// The span; `None` for samples that name only the trace.
    pub span_id: Option<SpanId>,
    /// Samples taken inside it.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
}

impl Profile {
    /// CPU time by trace, the largest first.
    pub fn traces(&self) -> Vec<TraceUsage> {
        self.samples_by(|context| context.trace_id)
            .into_iter()
            .map(|(trace_id, samples)| TraceUsage {
                trace_id,
                samples,
                cpu_ns: self.cpu_ns(samples),
            })
            .collect()
    }

    /// CPU time by span, the largest first.
    pub fn spans(&self) -> Vec<SpanUsage> {
        self.samples_by(|context| Some((context.trace_id?, context.span_id)))
            .into_iter()
            .map(|((trace_id, span_id), samples)| SpanUsage {
                trace_id,
                span_id,
                samples,
                cpu_ns: self.cpu_ns(samples),
            })
            .collect()
    }

    fn samples_by<K: Copy + Eq + Ord + Hash>(
        &self,
        key: impl Fn(&Context) -> Option<K>,
    ) -> Vec<(K, u64)> {
        let mut samples: HashMap<K, u64> = HashMap::new();
        for row in &self.rows {
            if let Some(key) = self.contexts.get(row.context).and_then(&key) {
                *samples.entry(key).or_default() += row.samples;
            }
        }
        let mut samples: Vec<_> = samples.into_iter().collect();
        samples.sort_by(|(a_key, a), (b_key, b)| b.cmp(a).then(a_key.cmp(b_key)));
        samples
    }
}
