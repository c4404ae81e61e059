//! Everything in a record follows from its trace id; so whatever a reader sees can be checked by itself.

use ebpf_reader::sample::{Label, Labels, Sample, ThreadContext};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use otel_profiling::abi::custom_labels::PARCA_MAX_VALUE_SIZE;
use otel_profiling::{DEFAULT_SPAN_LABEL, DEFAULT_TRACE_LABEL};

/// The identity of a span; everything else follows from it.
pub(crate) type Trace = [u8; 16];

/// FNV-1a.
fn hash(trace: &Trace) -> u64 {
    trace.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn span_id(trace: &Trace) -> [u8; 8] {
    hash(trace).to_be_bytes()
}

pub(crate) fn flags(trace: &Trace) -> u8 {
    (hash(trace) >> 20) as u8 & 3
}

/// Names of the attributes, in the order in which the writers first use them. The first index is taken: by the local
/// root's span id.
pub(crate) const NAMES: [&str; 2] = ["torn.a", "torn.b"];
const FIRST_INDEX: u8 = 1;

/// The values of the attributes of half of the traces: of any length that both layouts take, from nothing on.
pub(crate) fn values(trace: &Trace) -> Option<[String; 2]> {
    let text = |seed: u64, len: u64| -> String {
        (0..len)
            .map(|n| char::from(b'a' + (seed.wrapping_mul(n + 1) >> 17) as u8 % 26))
            .collect()
    };
    let hash = hash(trace);
    (trace[15] & 1 == 1).then(|| {
        [
            text(hash, (hash >> 8) % 100),
            text(!hash, (hash >> 32) % 256),
        ]
    })
}

/// The record's attributes as they lie there, byte for byte: the label that was set last comes first.
pub(crate) fn attributes(trace: &Trace) -> Vec<u8> {
    let values = values(trace).into_iter().flatten();
    let attributes: Vec<_> = (FIRST_INDEX..).zip(values).collect();
    let bytes = attributes.iter().rev().map(|(index, value)| {
        let length = u8::try_from(value.len()).expect("values are that short");
        [&[*index, length], value.as_bytes()].concat()
    });
    bytes.flatten().collect()
}

/// The custom labels, in order.
pub(crate) fn labels(trace: &Trace) -> Vec<(&'static str, String)> {
    let ids = [
        (DEFAULT_TRACE_LABEL, hex(trace)),
        (DEFAULT_SPAN_LABEL, hex(&span_id(trace))),
    ];
    let attributes: Vec<_> = NAMES
        .into_iter()
        .zip(values(trace).into_iter().flatten())
        .collect();
    let cut = attributes.into_iter().rev().map(|(name, mut value)| {
        value.truncate(PARCA_MAX_VALUE_SIZE);
        (name, value)
    });
    ids.into_iter().chain(cut).collect()
}

pub(crate) fn span_context(trace: &Trace) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(*trace),
        SpanId::from_bytes(span_id(trace)),
        TraceFlags::new(flags(trace)),
        true,
        TraceState::NONE,
    )
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace that 32 hexadecimal digits name.
fn trace_of_hex(text: &[u8]) -> Option<Trace> {
    let number = u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
    (text.len() == 32).then(|| number.to_be_bytes())
}

fn is_whole_thread_context(context: &ThreadContext) -> bool {
    let trace = &context.trace_id;
    context.span_id == span_id(trace)
        && context.trace_flags == flags(trace)
        && context.attrs_data == attributes(trace)
}

fn are_whole_custom_labels(seen: &Labels) -> bool {
    let trace = seen.iter().next();
    let trace = trace.and_then(|label| trace_of_hex(label.value));
    let Some(expected) = trace.as_ref().map(labels) else {
        return false;
    };
    seen.iter().eq(expected.iter().map(|(key, value)| Label {
        key: key.as_bytes(),
        value: value.as_bytes(),
    }))
}

/// What was seen in many samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) samples: u64,
    pub(crate) with_thread_context: u64,
    pub(crate) with_custom_labels: u64,
    pub(crate) torn_thread_contexts: u64,
    pub(crate) torn_custom_labels: u64,
    pub(crate) unreadable: u64,
    pub(crate) lost: u64,
    /// The first sample that is not whole.
    pub(crate) torn: Option<Sample>,
}

impl Tally {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples += 1;
        self.unreadable += u64::from(sample.unreadable);
        let mut torn = sample.unreadable;
        if let Some(context) = &sample.thread_context {
            self.with_thread_context += 1;
            if !is_whole_thread_context(context) {
                self.torn_thread_contexts += 1;
                torn = true;
            }
        }
        if !sample.custom_labels.is_empty() {
            self.with_custom_labels += 1;
            if !are_whole_custom_labels(&sample.custom_labels) {
                self.torn_custom_labels += 1;
                torn = true;
            }
        }
        if torn && self.torn.is_none() {
            self.torn = Some(sample);
        }
    }

    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        let torn = (
            self.torn_thread_contexts,
            self.torn_custom_labels,
            self.unreadable,
        );
        assert_eq!(torn, (0, 0, 0), "{self:?}");
    }
}
