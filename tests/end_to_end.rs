//! The promise, end to end: a multi-threaded async HTTP service with `tracing` spans is sampled from outside,
//! and each sample inside a request carries that request's trace.
//!
//! The service is the demo's, in a process of its own: the test starts itself again. It is compared with
//! what the service measures itself.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "end_to_end/assertions.rs"]
mod assertions;
#[path = "end_to_end/recorded.rs"]
mod recorded;
#[path = "end_to_end/service.rs"]
mod service;

use std::time::Duration;

use assertions::{
    Bounds, assert_background_has_no_context, assert_close_to_ground_truth,
    assert_functions_are_named, assert_pprof_has_the_traces, assert_spans_are_the_service_s,
};
use ebpf_reader::record::{Backend, End};
use recorded::{Plan, record};

#[test]
fn by_ebpf() {
    let plan = Plan {
        backend: Backend::Ebpf,
        frequency_hz: 997,
        symbols: true,
        load: Duration::from_secs(5),
        service_ends_first: false,
    };
    let Some(recorded) = record("by_ebpf", plan) else {
        return;
    };
    assert!(
        matches!(recorded.recording.end, End::Stopped),
        "{:?}",
        recorded.recording.end
    );
    let bounds = Bounds {
        coverage: 0.95,
        of_sum: 0.10,
        of_each: 0.10,
        traces: 4,
    };
    assert_close_to_ground_truth(&recorded, &bounds);
    assert_functions_are_named(&recorded);
    assert_spans_are_the_service_s(&recorded);
    assert_background_has_no_context(&recorded);
    assert_pprof_has_the_traces(&recorded.recording.profile);
}

#[test]
fn by_ptrace() {
    let plan = Plan {
        backend: Backend::Ptrace,
        frequency_hz: 499,
        symbols: false,
        load: Duration::from_secs(4),
        service_ends_first: false,
    };
    let Some(recorded) = record("by_ptrace", plan) else {
        return;
    };
    assert!(
        matches!(recorded.recording.end, End::Stopped),
        "{:?}",
        recorded.recording.end
    );
    // It samples by the scheduler's account, which knows only ticks: bursts of work that are shorter than one may be
    // accounted for after they are over, more so on a busy machine. What it promises is that no sample is wrong.
    let bounds = Bounds {
        coverage: 0.5,
        of_sum: 0.5,
        of_each: 0.9,
        traces: 1,
    };
    assert_close_to_ground_truth(&recorded, &bounds);
    assert_spans_are_the_service_s(&recorded);
    assert_background_has_no_context(&recorded);
}

#[test]
fn a_service_that_ends_ends_the_recording() {
    let case = "a_service_that_ends_ends_the_recording";
    let plan = Plan {
        backend: Backend::Ebpf,
        frequency_hz: 997,
        symbols: false,
        load: Duration::from_secs(1),
        service_ends_first: true,
    };
    let Some(recorded) = record(case, plan) else {
        return;
    };
    assert!(
        matches!(recorded.recording.end, End::TargetsExited),
        "{:?}",
        recorded.recording.end
    );
    assert!(
        recorded.recording.profile.with_context > 100,
        "{}",
        recorded.comparison
    );
    assert_eq!(recorded.comparison.foreign, []);
    assert_spans_are_the_service_s(&recorded);
    assert_pprof_has_the_traces(&recorded.recording.profile);
}
