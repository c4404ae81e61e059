//! As many samples as the CPU time that was used.

use std::time::Duration;

use ebpf_reader::sample::Sampler;

use crate::collect::{collect_for, ebpf, ptrace, samples};
use crate::running::Target;

fn accounts_cpu_time(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let before = target.cpu_ns();
    let events = collect_for(sampler, Duration::from_secs(2));
    let used = (target.cpu_ns() - before) as f64;
    let sampled = samples(&events).count() as f64 * sampler.period_ns() as f64;
    assert!(
        (sampled / used - 1.0).abs() < 0.15,
        "sampled {sampled} ns, used {used} ns"
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
