//! As many samples as the CPU time that was used.

use std::fs;
use std::time::Duration;

use ebpf_reader::sample::Sampler;

use crate::collect::{collect_for, ebpf, ptrace, samples};
use crate::running::Target;

/// CPU time that the host of a virtual machine has taken away so far, in nanoseconds. The sampling clocks go on
/// meanwhile; a thread's account does not.
fn stolen_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let ticks = stat.split_whitespace().nth(8).expect("a field for it");
    ticks.parse::<u64>().expect("a number") * 10_000_000
}

fn accounts_cpu_time(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let (before, stolen_before) = (target.cpu_ns(), stolen_ns());
    let events = collect_for(sampler, Duration::from_secs(2));
    let used = (target.cpu_ns() - before) as f64;
    let stolen = (stolen_ns() - stolen_before) as f64;
    let sampled = samples(&events).count() as f64 * sampler.period_ns() as f64;
    assert!(
        sampled > 0.85 * used && sampled < 1.15 * (used + stolen),
        "sampled {sampled} ns, used {used} ns, {stolen} ns were stolen"
    );
}

#[test]
fn ebpf_accounts_cpu_time() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("busy");
    accounts_cpu_time(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_accounts_cpu_time() {
    let target = Target::start("busy");
    let mut sampler = ptrace();
    accounts_cpu_time(&mut sampler, &target);
    drop(sampler);
    target.finish();
}
