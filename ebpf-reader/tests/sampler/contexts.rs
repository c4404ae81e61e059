//! What threads publish arrives, and what cannot be read is told.

use std::collections::HashMap;
use std::fs;

use ebpf_reader::sample::{Label, Labels, Sampler, ThreadName};

use crate::collect::{collect, count, ebpf, ptrace, samples};
use crate::running::Target;
use crate::{ATTRS, SPAN_ID, TRACE_ID};

fn reads_contexts_and_labels(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let events = collect(sampler, |events| {
        count(events, "with") >= 50 && count(events, "without") >= 50
    });
    let labels = [("otel_traceid", "30313233"), ("empty", "")].map(|(key, value)| Label {
        key: key.as_bytes(),
        value: value.as_bytes(),
    });
    let labels: Labels = labels.into_iter().collect();
    for sample in samples(&events) {
        assert_eq!(sample.pid, target.pid());
        assert!(!sample.unreadable, "{sample:?}");
        assert!(
            !sample.user_stack.is_empty() && sample.user_stack[0] != 0,
            "{sample:?}"
        );
        if sample.thread_name == "with" {
            let context = sample.thread_context.as_ref().expect("a context");
            assert_eq!((context.trace_id, context.span_id), (TRACE_ID, SPAN_ID));
            assert_eq!(
                (context.trace_flags, &context.attrs_data[..]),
                (1, &ATTRS[..])
            );
            assert_eq!(sample.custom_labels, labels);
        } else {
            assert_eq!(sample.thread_context, None, "{sample:?}");
            assert!(sample.custom_labels.is_empty(), "{sample:?}");
        }
    }
    // Threads keep apart, and each is a thread of the target in this pid namespace.
    let mut threads: HashMap<ThreadName, u32> = HashMap::new();
    for sample in samples(&events) {
        let known = *threads.entry(sample.thread_name).or_insert(sample.tid);
        assert_eq!(known, sample.tid);
        assert!(fs::exists(format!("/proc/{}/task/{known}", target.pid())).expect("procfs"));
    }
    assert!(threads.len() >= 2);
    assert_eq!(sampler.counters().lost_samples, 0);
}

#[test]
fn ebpf_reads_contexts_and_labels() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("busy");
    reads_contexts_and_labels(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_reads_contexts_and_labels() {
    let target = Target::start("busy");
    let mut sampler = ptrace();
    reads_contexts_and_labels(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

fn flags_wild_pointers(sampler: &mut dyn Sampler, target: &Target) {
    let names = ["odd", "unmapped", "labels"];
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let events = collect(sampler, |events| {
        names.iter().all(|name| count(events, name) >= 10)
    });
    for sample in samples(&events) {
        assert_eq!(
            sample.unreadable,
            names.iter().any(|name| sample.thread_name == *name),
            "{sample:?}"
        );
        assert_eq!(sample.thread_context, None);
        assert!(sample.custom_labels.is_empty());
    }
}

#[test]
fn ebpf_flags_wild_pointers() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("wild");
    flags_wild_pointers(&mut sampler, &target);
    assert!(sampler.counters().unreadable >= 30);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_flags_wild_pointers() {
    let target = Target::start("wild");
    let mut sampler = ptrace();
    flags_wild_pointers(&mut sampler, &target);
    assert!(sampler.counters().unreadable >= 30);
    drop(sampler);
    target.finish();
}
