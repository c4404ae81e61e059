//! CPU time by trace, by span, and by the value of a label.

use std::collections::{BTreeSet, HashMap};
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

/// CPU time of the samples in which a label has one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelUsage {
    /// The value.
    pub value: String,
    /// Samples with it.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
}

impl Profile {
    /// Names of the labels that were seen, attributes of the thread context and custom labels alike, in
    /// alphabetical order.
    pub fn label_names(&self) -> Vec<&str> {
        let labels = self.contexts.iter().flat_map(|context| &context.labels);
        let names: BTreeSet<&str> = labels.map(|(name, _)| name.as_str()).collect();
        names.into_iter().collect()
    }

    /// CPU time by the value of the label `name`, the largest first. Samples without the label are in none.
    pub fn by_label(&self, name: &str) -> Vec<LabelUsage> {
        self.samples_by(|context| {
            let mut labels = context.labels.iter();
            labels
                .find(|(label, _)| label == name)
                .map(|(_, value)| value.as_str())
        })
        .into_iter()
        .map(|(value, samples)| LabelUsage {
            value: value.to_owned(),
            samples,
            cpu_ns: self.cpu_ns(samples),
        })
        .collect()
    }

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

    fn samples_by<'a, K: Copy + Eq + Ord + Hash>(
        &'a self,
        key: impl Fn(&'a Context) -> Option<K>,
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
