//! Times off the CPU: as long as the threads themselves say, and of the right kind.

use std::time::{Duration, Instant};

use ebpf_reader::sample::{Activity, Event, Sample, Sampler};
use ebpf_reader::sampler::EbpfSampler;
use ebpf_reader::sampler::ebpf::Options;

use crate::TRACE_ID;
use crate::collect::{FREQUENCY_HZ, collect_for, ebpf, ebpf_with, samples};
use crate::running::Target;

/// Times off the CPU of a thread while it published its context.
fn waits<'a>(events: &'a [Event], thread: &'a str) -> impl Iterator<Item = &'a Sample> {
    samples(events).filter(move |sample| {
        sample.thread_name == thread
            && sample.activity != Activity::OnCpu
            && sample
                .thread_context
                .as_ref()
                .map(|context| context.trace_id)
                == Some(TRACE_ID)
    })
}

fn sum(events: &[Event], thread: &str, activity: Activity) -> f64 {
    let waits = waits(events, thread).filter(|sample| sample.activity == activity);
    waits.map(|sample| sample.off_cpu_ns as f64).sum()
}

fn start(target: &Target) -> Option<EbpfSampler> {
    let mut sampler = ebpf_with(&Options::new(FREQUENCY_HZ).off_cpu(true).kernel_stacks(true))?;
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    Some(sampler)
}

/// How long the thread that sleeps for ever is off the CPU, as far as was not told before.
fn settle(sampler: &mut EbpfSampler) -> Duration {
    let mut events = Vec::new();
    sampler
        .settle(&mut |event| events.push(event))
        .expect("sampling works");
    Duration::from_nanos(sum(&events, "forever", Activity::Blocked) as u64)
}

/// Sleeps that were seen to last their time.
fn naps(events: &[Event]) -> usize {
    waits(events, "sleeping")
        .filter(|wait| wait.off_cpu_ns >= 10_000_000)
        .count()
}

/// A thread that has no wait but one, and one that sleeps twenty times, have them all. There are kernels that do not
/// call the tracepoint for one switch in some hundred; what is missing then is missing by chance.
fn are_complete(events: &[Event]) -> bool {
    sum(events, "locked", Activity::Blocked) > 0.0 && naps(events) >= 20
}

#[test]
fn ebpf_tells_times_off_the_cpu() {
    let mut attempts = 0;
    let (mut target, mut sampler, accounts, events) = loop {
        let mut target = Target::start("waiting");
        let Some(mut sampler) = start(&target) else {
            return;
        };
        target.send_line();
        let accounts = target.await_lines(&["sleeping", "locked", "first", "second"]);
        // All of it lies in the ring.
        let events = collect_for(&mut sampler, Duration::from_millis(300));
        attempts += 1;
        if are_complete(&events) || attempts == 3 {
            break (target, sampler, accounts, events);
        }
    };
    let used = |thread: &str| accounts[thread][1] as f64;
    let off_cpu = |thread: &str| accounts[thread][0] as f64 - used(thread);
    for thread in ["sleeping", "locked"] {
        let off_cpu = off_cpu(thread);
        let blocked = sum(&events, thread, Activity::Blocked);
        let preempted = sum(&events, thread, Activity::Preempted);
        let ratio = (blocked + preempted) / off_cpu;
        assert!(
            (ratio - 1.0).abs() < 0.1,
            "{thread}: {blocked} + {preempted} of {off_cpu} ns"
        );
        assert!(blocked > 0.8 * off_cpu, "{thread}: {blocked} of {off_cpu}");
    }
    assert!(naps(&events) >= 20, "each sleep lasts at least its time");
    for (thread, other) in [("first", "second"), ("second", "first")] {
        let (off_cpu, of_the_other) = (off_cpu(thread), used(other));
        let blocked = sum(&events, thread, Activity::Blocked);
        let preempted = sum(&events, thread, Activity::Preempted);
        assert!(
            (preempted / off_cpu - 1.0).abs() < 0.1,
            "{thread}: {preempted} of {off_cpu} ns"
        );
        assert!(
            preempted > 0.9 * of_the_other,
            "{thread}: {preempted} of {of_the_other}"
        );
        assert!(blocked < 0.05 * off_cpu, "{thread}: {blocked} of {off_cpu}");
    }
    for wait in waits(&events, "sleeping") {
        assert!(!wait.user_stack.is_empty(), "{wait:?}");
        assert!(wait.kernel_stack.len() >= 3, "{wait:?}");
    }

    // A wait without an end is told as far as it is known.
    target.send_line();
    target.await_line("asleep");
    let asleep = Instant::now();
    let pause = Duration::from_millis(500);
    collect_for(&mut sampler, pause);
    let settled = asleep.elapsed();
    let first = settle(&mut sampler);
    assert!(first > pause.mul_f64(0.8), "{first:?}");
    collect_for(&mut sampler, pause);
    let second = settle(&mut sampler);
    assert!(second >= pause, "{second:?}");
    assert!(
        second <= asleep.elapsed() - settled,
        "counted twice: {second:?}"
    );
    // A busy machine may lose the end of a wait; those that may be over are then given up, and counted.
    let (lost, told) = (sampler.counters().lost_samples, samples(&events).count());
    assert!(lost <= 4, "{lost} lost, {told} told");
    drop(sampler);
    target.finish();
}

#[test]
fn ebpf_tells_no_waits_unless_asked() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("waiting");
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    target.send_line();
    target.await_lines(&["first", "second"]);
    let events = collect_for(&mut sampler, Duration::from_millis(200));
    assert!(samples(&events).count() > 0);
    assert!(samples(&events).all(|sample| sample.activity == Activity::OnCpu));
    assert!(samples(&events).all(|sample| sample.off_cpu_ns == 0));
    drop(sampler);
    target.finish();
}
