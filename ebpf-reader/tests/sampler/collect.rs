//! The samplers under test, and what they deliver.

use std::fs;
use std::time::{Duration, Instant};

use ebpf_reader::sample::{Event, Sample, Sampler};
use ebpf_reader::sampler::ebpf::Options;
use ebpf_reader::sampler::{EbpfSampler, PtraceSampler};

/// Samples a second in tests.
pub(crate) const FREQUENCY_HZ: u64 = 199;
/// How long a test waits at most for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `enough` says so.
pub(crate) fn collect(
    sampler: &mut dyn Sampler,
    mut enough: impl FnMut(&[Event]) -> bool,
) -> Vec<Event> {
    let mut events = Vec::new();
    let start = Instant::now();
    while !enough(&events) {
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain; last: {:?}",
            events.last()
        );
        sampler
            .poll(Duration::from_millis(50), &mut |event| events.push(event))
            .expect("sampling works");
    }
    events
}

pub(crate) fn collect_for(sampler: &mut dyn Sampler, time: Duration) -> Vec<Event> {
    let start = Instant::now();
    collect(sampler, |_| start.elapsed() >= time)
}

pub(crate) fn samples(events: &[Event]) -> impl Iterator<Item = &Sample> {
    events.iter().filter_map(|event| match event {
        Event::Sample(sample) => Some(sample),
        _ => None,
    })
}

pub(crate) fn count(events: &[Event], thread: &str) -> usize {
    samples(events)
        .filter(|sample| sample.thread_name == *thread)
        .count()
}

/// The sampler under test, or `None`, with a message, where it cannot work for want of privileges.
pub(crate) fn ebpf() -> Option<EbpfSampler> {
    ebpf_with(&Options::new(FREQUENCY_HZ))
}

/// The same, with options.
pub(crate) fn ebpf_with(options: &Options) -> Option<EbpfSampler> {
    let status = fs::read_to_string("/proc/self/status").expect("own status");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("a set");
    let effective = u64::from_str_radix(effective.trim(), 16).expect("a number");
    let has = |capability: u32| effective & (1 << capability) != 0;
    let ids = fs::read_to_string("/proc/self/uid_map").expect("own id map");
    let initial_user_namespace = ids.split_whitespace().eq(["0", "0", "4294967295"]);
    if initial_user_namespace && (has(21) || (has(38) && has(39))) {
        Some(EbpfSampler::new(options).expect("the privileges are there"))
    } else {
        println!("skipped: needs CAP_BPF and CAP_PERFMON");
        None
    }
}

pub(crate) fn ptrace() -> PtraceSampler {
    PtraceSampler::new(FREQUENCY_HZ).expect("needs nothing")
}
