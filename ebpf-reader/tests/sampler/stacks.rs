//! Stacks of the kernel, and copies of user stacks.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::sample::{Event, Sample, Sampler};
use ebpf_reader::sampler::ebpf::Options;

use crate::collect::{
    FREQUENCY_HZ, PATIENCE, collect, collect_for, count, ebpf, ebpf_with, ptrace, samples,
};
use crate::running::Target;
use crate::target::stacks::{DEEP_WORDS, PATTERN, SHALLOW_WORDS, WILD};

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 0xffff_0000_0000_0000;
/// Most that is copied of a stack.
const COPIED: usize = 16 * 1024;

#[test]
fn kernel_stacks_show_system_calls() {
    let options = Options::new(FREQUENCY_HZ).kernel_stacks(true);
    let Some(mut sampler) = ebpf_with(&options) else {
        return;
    };
    let target = Target::start("stacks");
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let calls = |events: &[Event]| {
        let calls = samples(events).filter(|sample| sample.thread_name == "calling");
        calls.filter(|sample| sample.kernel_stack.len() > 3).count()
    };
    let events = collect(&mut sampler, |events| {
        calls(events) >= 20 && count(events, "shallow") >= 20
    });
    for sample in samples(&events) {
        assert!(
            sample.kernel_stack.iter().all(|&address| address >= KERNEL),
            "{sample:x?}"
        );
        assert!(
            sample.user_stack.iter().all(|&address| address < KERNEL),
            "{sample:x?}"
        );
        assert!(!sample.user_stack.is_empty());
    }
    // A thread that spins is interrupted in user space, but for a few times.
    let spinning = samples(&events).filter(|sample| sample.thread_name == "shallow");
    let in_kernel = spinning.filter(|sample| !sample.kernel_stack.is_empty());
    assert!(in_kernel.count() * 2 < count(&events, "shallow"));
    drop(sampler);
    target.finish();
}

#[test]
fn kernel_stacks_are_read_only_if_asked_for() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("stacks");
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let events = collect(&mut sampler, |events| count(events, "calling") >= 20);
    assert!(samples(&events).all(|sample| sample.kernel_stack.is_empty()));
    drop(sampler);
    target.finish();
}

/// The mapping of the target that holds an address.
fn mapping(target: &Target, address: u64) -> Range<u64> {
    let found = readable(target)
        .into_iter()
        .find(|range| range.contains(&address));
    found.expect("a stack pointer leads to a mapping")
}

/// Where memory ends that can be read from an address on, through mappings that follow one another.
fn readable_end(target: &Target, address: u64) -> u64 {
    let mut end = mapping(target, address).end;
    for range in readable(target) {
        if range.start == end {
            end = range.end;
        }
    }
    end
}

/// What can be read of a target's memory, in rising order.
fn readable(target: &Target) -> Vec<Range<u64>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("maps");
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    let ranges = maps.lines().filter_map(|line| {
        let (start, rest) = line.split_once('-').expect("a range");
        let (end, permissions) = rest.split_once(' ').expect("a range");
        permissions
            .starts_with('r')
            .then(|| number(start)..number(end))
    });
    ranges.collect()
}

fn follow_with_copies(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    sampler
        .copy_stacks(target.pid(), true)
        .expect("it is followed");
}

/// The number of words of the pattern in a copy, which must be in their order.
fn pattern_words(sample: &Sample) -> usize {
    let copy = sample.stack_copy.as_ref().expect("a copy");
    let words = copy
        .bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
    let indices: Vec<u64> = words
        .map(|word| word.wrapping_sub(PATTERN))
        .skip_while(|&index| index != 0)
        .enumerate()
        .take_while(|&(position, index)| index == position as u64)
        .map(|(_, index)| index)
        .collect();
    indices.len()
}

/// Whether a thread's own block begins at an address, above which there is no stack of that thread.
fn is_thread_block(target: &Target, address: u64) -> bool {
    // On x86-64 it begins with its own address; elsewhere it can be told by its alignment only.
    cfg!(not(target_arch = "x86_64")) && address.is_multiple_of(16)
        || target.word(address) == Some(address)
}

fn copies_hold_what_lies_there(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    for copy in [false, true] {
        sampler
            .copy_stacks(target.pid(), copy)
            .expect("it is followed");
    }
    let names = ["deep", "shallow", "calling"];
    // Samples from before may be on their way.
    let copied = |events: &[Event], name: &str| {
        let copied = samples(events).filter(|sample| sample.stack_copy.is_some());
        copied.filter(|sample| sample.thread_name == name).count()
    };
    let events = collect(sampler, |events| {
        names.iter().all(|name| copied(events, name) >= 20)
    });
    let mut pointers = HashSet::new();
    for sample in samples(&events) {
        let name = sample.thread_name.to_string_lossy();
        let (Some(copy), true) = (&sample.stack_copy, names.contains(&&*name)) else {
            continue;
        };
        let registers = copy.registers;
        let above = readable_end(target, registers.stack) - registers.stack;
        let above = usize::try_from(above).expect("not that large");
        assert!(copy.bytes.len() <= above.min(COPIED));
        let end = registers.stack + copy.bytes.len() as u64;
        // Pages that were never touched are not there, and end a copy; below them nothing is missing.
        if copy.bytes.len() < above.min(COPIED) && !is_thread_block(target, end) {
            let missing = end.next_multiple_of(4096) - end;
            assert!(missing < 1024, "{end:#x} {registers:x?}");
        }
        let wanted = match &*name {
            "deep" => DEEP_WORDS.min(COPIED / 8 - 200),
            _ => SHALLOW_WORDS,
        };
        assert!(
            pattern_words(sample) >= wanted,
            "{name}: {} words of {wanted} in {} bytes",
            pattern_words(sample),
            copy.bytes.len()
        );
        let code = mapping(target, registers.instruction);
        assert!(!code.contains(&registers.stack));
        pointers.insert((sample.thread_name, registers.stack));
    }
    // Each thread has a stack of its own.
    assert!(pointers.len() >= names.len());

    // Until it is enough.
    sampler
        .copy_stacks(target.pid(), false)
        .expect("it is followed");
    let walked = |events: &[Event]| {
        let walked = samples(events).filter(|sample| sample.stack_copy.is_none());
        walked
            .filter(|sample| !sample.user_stack.is_empty())
            .count()
    };
    collect(sampler, |events| walked(events) >= 20);
    assert_eq!(sampler.counters().lost_samples, 0);
}

#[test]
fn ebpf_copies_hold_what_lies_there() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("stacks");
    copies_hold_what_lies_there(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_copies_hold_what_lies_there() {
    let target = Target::start("stacks");
    let mut sampler = ptrace();
    copies_hold_what_lies_there(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

/// Copies fill the ring long before samples do.
#[test]
fn a_poller_that_is_late_loses_stacks_before_samples() {
    let Some(mut sampler) = ebpf_with(&Options::new(997)) else {
        return;
    };
    let target = Target::start("stacks");
    follow_with_copies(&mut sampler, &target);
    let copied = |events: &[Event]| samples(events).any(|sample| sample.stack_copy.is_some());
    collect(&mut sampler, copied);

    let start = Instant::now();
    while sampler.counters().truncated < 100 {
        assert!(
            start.elapsed() < PATIENCE,
            "the ring has room for all of it"
        );
        thread::sleep(Duration::from_millis(10));
    }
    let late = collect_for(&mut sampler, Duration::from_millis(100));
    assert!(copied(&late));
    let without = samples(&late).filter(|sample| sample.stack_copy.is_none());
    let mut count = 0;
    for sample in without {
        assert_eq!(sample.user_stack.len(), 1, "{sample:x?}");
        count += 1;
    }
    let counters = sampler.counters();
    assert_eq!((counters.lost_samples, counters.truncated), (0, count));
    // There is room again.
    let after = collect_for(&mut sampler, Duration::from_millis(100));
    assert!(samples(&after).all(|sample| sample.stack_copy.is_some()));
    drop(sampler);
    target.finish();
}

#[test]
fn wild_stack_pointers_lead_nowhere() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("wild-stacks");
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let enough = |events: &[Event]| WILD.iter().all(|(name, _)| count(events, name) >= 3);
    let walked = collect(&mut sampler, enough);
    sampler
        .copy_stacks(target.pid(), true)
        .expect("it is followed");
    collect(&mut sampler, |events| {
        samples(events).any(|sample| sample.stack_copy.is_some())
    });
    let copied = collect(&mut sampler, enough);
    for (name, stack) in WILD {
        let of_thread = |events| samples(events).filter(move |sample| sample.thread_name == name);
        for sample in of_thread(&walked) {
            assert!(sample.user_stack.len() <= 2, "{sample:x?}");
        }
        for sample in of_thread(&copied) {
            let copy = sample.stack_copy.as_ref().expect("a copy");
            // One that has not come to its wild pointer yet has a real one.
            if copy.registers.stack == stack {
                assert!(copy.bytes.is_empty(), "{name}: {copy:x?}");
            }
        }
    }
    drop(sampler);
    target.finish();
}

#[test]
fn stacks_of_children_are_copied_like_their_parents() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("fork");
    follow_with_copies(&mut sampler, &target);
    target.send_line();
    let parent = target.pid();
    let events = collect(&mut sampler, |events| {
        let of_child = samples(events).filter(|sample| sample.pid != parent);
        of_child.count() >= 20
    });
    let of_child: Vec<_> = samples(&events)
        .filter(|sample| sample.pid != parent)
        .collect();
    let copies = of_child.iter().filter(|sample| {
        sample
            .stack_copy
            .as_ref()
            .is_some_and(|copy| !copy.bytes.is_empty())
    });
    assert!(copies.count() + 2 >= of_child.len());
    drop(sampler);
    target.finish();
}

#[test]
fn only_stacks_of_followed_processes_can_be_copied() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("stacks");
    let refused = sampler.copy_stacks(target.pid(), true);
    assert!(
        matches!(refused, Err(Error::NoSuchProcess { pid }) if pid == target.pid()),
        "{refused:?}"
    );
    target.finish();
}
