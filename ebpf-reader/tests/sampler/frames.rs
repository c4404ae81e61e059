//! Stacks that are found by frame pointers.

use ebpf_reader::sample::{Event, Sampler as _};
use ebpf_reader::sampler::ebpf::Options;

use crate::collect::{FREQUENCY_HZ, collect, count, ebpf_with, samples};
use crate::running::Target;
use crate::target::frames::{CHAINS, RETURN_ADDRESS};

/// Most addresses of a stack.
const MAX_FRAMES: usize = 127;
/// Samples of each thread.
const ENOUGH: usize = 20;

#[test]
fn frame_pointers_are_followed_to_their_end() {
    let options = Options::new(FREQUENCY_HZ).kernel_stacks(true);
    let Some(mut sampler) = ebpf_with(&options) else {
        return;
    };
    let target = Target::start("frames");
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let enough = |events: &[Event]| {
        let mut chains = CHAINS.iter();
        chains.all(|chain| count(events, chain.name) >= ENOUGH)
    };
    let events = collect(&mut sampler, enough);
    for chain in &CHAINS {
        let expected: Vec<u64> = (0..chain.records)
            .map(|record| RETURN_ADDRESS + record as u64)
            .take(MAX_FRAMES - 1)
            .collect();
        let stacks: Vec<&[u64]> = samples(&events)
            .filter(|sample| sample.thread_name == chain.name)
            .map(|sample| sample.user_stack.as_slice())
            .collect();
        let others: Vec<_> = stacks
            .iter()
            .filter(|stack| stack.get(1..) != Some(&expected))
            .collect();
        // A thread may be interrupted just before it has its frame pointer.
        assert!(
            others.len() <= 2,
            "{}: {} of {} stacks are wrong: {:x?}",
            chain.name,
            others.len(),
            stacks.len(),
            others.last()
        );
    }
    let calling = samples(&events).filter(|sample| sample.thread_name == "calling");
    assert!(
        calling
            .filter(|sample| !sample.kernel_stack.is_empty())
            .count()
            * 4
            > count(&events, "calling"),
        "it is seldom in the kernel"
    );
    assert_eq!(sampler.counters().lost_samples, 0);
    drop(sampler);
    target.finish();
}
