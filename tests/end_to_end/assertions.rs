//! What must hold of a recording.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;

use demo::comparison::Compared;
use ebpf_reader::label_style::LabelStyle;
use ebpf_reader::pprof::{self, proto};
use ebpf_reader::profile::{Filter, Profile};
use flate2::read::GzDecoder;
use prost::Message as _;

use crate::recorded::Recorded;
use crate::service::BACKGROUND;

/// How close is close.
pub(crate) struct Bounds {
    /// Least part of the CPU time inside requests that has a context.
    pub(crate) coverage: f64,
    /// Largest difference from what the service says, all together.
    pub(crate) of_sum: f64,
    /// Largest difference of each trace, where chance does not explain more.
    pub(crate) of_each: f64,
    /// Least number of traces with enough samples.
    pub(crate) traces: usize,
}

/// Almost all CPU time inside requests has a context, none has a wrong one, and traces have as much as the
/// service says.
#[track_caller]
pub(crate) fn assert_close_to_ground_truth(recorded: &Recorded, bounds: &Bounds) {
    let comparison = &recorded.comparison;
    assert_eq!(comparison.foreign, [], "traces that nobody sent");
    let total = comparison.total();
    let covered = total.seen.as_secs_f64() / total.own.cpu.as_secs_f64();
    assert!(
        covered >= bounds.coverage,
        "{covered} of the CPU time inside requests has a context\n{comparison}"
    );

    let comparable: Vec<&Compared> = comparison
        .traces
        .iter()
        .map(|(_, trace)| trace)
        .filter(|trace| trace.is_comparable())
        .collect();
    assert!(
        comparable.len() >= bounds.traces,
        "too few traces with enough samples\n{comparison}"
    );
    let sum: Compared = comparable.iter().copied().copied().sum();
    assert!(
        sum.difference().abs() <= bounds.of_sum,
        "{}\n{comparison}",
        sum.difference()
    );
    for trace in comparable {
        let tolerance = trace.tolerance().max(bounds.of_each);
        assert!(
            trace.difference().abs() <= tolerance,
            "{trace:?}\n{comparison}"
        );
    }
}

/// Each sample's span is one that the service had, in the trace in which it had it.
#[track_caller]
pub(crate) fn assert_spans_are_the_service_s(recorded: &Recorded) {
    let spans: HashSet<([u8; 16], [u8; 8])> = recorded
        .spans
        .iter()
        .map(|(trace_id, span_id)| (trace_id.to_bytes(), span_id.to_bytes()))
        .collect();
    let seen = recorded.recording.profile.spans();
    assert!(seen.len() > 10, "{} spans were seen", seen.len());
    for usage in seen {
        let span_id = usage.span_id.expect("a span id with every trace id");
        assert!(
            spans.contains(&(usage.trace_id.0, span_id.0)),
            "{usage:?} is not a span of the service"
        );
    }
}

/// A thread that never works on a request never shows one.
#[track_caller]
pub(crate) fn assert_background_has_no_context(recorded: &Recorded) {
    let profile = &recorded.recording.profile;
    let (mut with, mut without) = (0, 0);
    for row in &profile.rows {
        if profile.threads[row.thread].name == BACKGROUND {
            match profile.contexts[row.context].trace_id {
                Some(_) => with += row.samples,
                None => without += row.samples,
            }
        }
    }
    assert_eq!(with, 0, "of {} samples", with + without);
    assert!(
        without > 20,
        "only {without} samples of the thread in the background"
    );
}

/// What the service computed is named in the stacks, in the samples of its own traces alone.
#[track_caller]
pub(crate) fn assert_functions_are_named(recorded: &Recorded) {
    let profile = &recorded.recording.profile;
    for (path, function) in [
        ("/report", "demo::work::count_primes"),
        ("/thumbnail", "demo::work::render_row"),
        ("/search", "demo::work::find_word"),
        ("/checkout", "demo::work::hash_password"),
    ] {
        let (mut own, mut others) = (0, 0);
        for row in &profile.rows {
            let mut names = profile.stacks[row.stack]
                .iter()
                .flat_map(|&location| profile.names(&profile.locations[location]));
            if !names.any(|name| name.starts_with(function)) {
                continue;
            }
            let trace_id = profile.contexts[row.context].trace_id.map(|id| id.0);
            let caller = recorded
                .callers
                .iter()
                .find(|caller| Some(caller.trace_id.to_bytes()) == trace_id);
            match caller {
                Some(caller) if caller.path == path => own += row.samples,
                _ => others += row.samples,
            }
        }
        assert!(own > 0, "{function} is in no stack of {path}");
        assert_eq!(
            others, 0,
            "samples in {function} that do not belong to {path}, beside {own}"
        );
    }
}

/// The pprof file has all samples, with the trace ids as labels.
#[track_caller]
pub(crate) fn assert_pprof_has_the_traces(profile: &Profile) {
    let mut compressed = Vec::new();
    pprof::write(profile, &Filter::all(), LabelStyle::Otel, &mut compressed)
        .expect("memory can be written to");
    let mut bytes = Vec::new();
    GzDecoder::new(&compressed[..])
        .read_to_end(&mut bytes)
        .expect("it is gzip");
    let decoded = proto::Profile::decode(&bytes[..]).expect("it is a profile");
    let text =
        |index: i64| decoded.string_table[usize::try_from(index).expect("an index")].as_str();

    let mut traces: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = 0;
    for sample in &decoded.sample {
        let samples = u64::try_from(sample.value[0]).expect("a count");
        all += samples;
        let trace_id = sample
            .label
            .iter()
            .find(|label| text(label.key) == LabelStyle::Otel.names().trace_id);
        if let Some(trace_id) = trace_id {
            *traces.entry(text(trace_id.str).to_owned()).or_default() += samples;
        }
    }
    assert_eq!(all, profile.samples);
    let expected: BTreeMap<String, u64> = profile
        .traces()
        .iter()
        .map(|usage| (usage.trace_id.to_string(), usage.samples))
        .collect();
    assert_eq!(traces, expected);
}
