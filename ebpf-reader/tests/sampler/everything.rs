//! The whole machine: processes that nobody named appear, and are sampled without contexts until followed.

use std::process::{Child, Command};

use ebpf_reader::sample::{Event, Sampler as _};
use ebpf_reader::sampler::ebpf::Options;

use crate::collect::{FREQUENCY_HZ, collect, collect_for, ebpf_with, samples};
use crate::running::Target;

fn appearances(events: &[Event], pid: u32) -> usize {
    let appeared = Event::Appeared { pid };
    events.iter().filter(|&event| *event == appeared).count()
}

fn of(events: &[Event], pid: u32) -> usize {
    samples(events).filter(|sample| sample.pid == pid).count()
}

fn position(events: &[Event], wanted: &Event) -> usize {
    events
        .iter()
        .position(|event| event == wanted)
        .unwrap_or_else(|| panic!("no {wanted:?}"))
}

/// A program that does nothing but run.
fn spinner() -> Child {
    Command::new("sh")
        .args(["-c", "while :; do :; done"])
        .spawn()
        .expect("a shell")
}

#[test]
fn ebpf_samples_processes_that_nobody_named() {
    let options = Options::new(FREQUENCY_HZ).everything(true);
    // One that is there before sampling begins.
    let mut target = Target::start("busy");
    let Some(mut sampler) = ebpf_with(&options) else {
        return;
    };
    let pid = target.pid();
    let mut later = spinner();
    let events = collect(&mut sampler, |events| {
        of(events, pid) >= 20 && of(events, later.id()) >= 20
    });
    assert_eq!(appearances(&events, pid), 1);
    assert_eq!(appearances(&events, later.id()), 1);
    // It was told before the first sample, when it was forked.
    let appeared = position(&events, &Event::Appeared { pid: later.id() });
    let first = events
        .iter()
        .position(|event| matches!(event, Event::Sample(sample) if sample.pid == later.id()));
    assert!(appeared < first.expect("a sample"));
    // What it executed later is told too.
    position(&events, &Event::Exec { pid: later.id() });
    for sample in samples(&events) {
        assert_eq!(sample.thread_context, None, "{sample:?}");
        assert!(sample.custom_labels.is_empty() && !sample.unreadable);
        assert!(sample.pid != pid || !sample.user_stack.is_empty());
        assert_ne!(sample.pid, std::process::id(), "the reader samples itself");
    }

    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed");
    let events = collect(&mut sampler, |events| {
        let with = samples(events).filter(|sample| sample.thread_context.is_some());
        with.count() >= 10 && of(events, pid) >= 40
    });
    assert_eq!(appearances(&events, pid), 0);

    // Ends are told once, whether anybody followed or not.
    target.end();
    later.kill().expect("it runs");
    let exits = [pid, later.id()].map(|pid| Event::Exit { pid });
    let mut events = collect(&mut sampler, |events| {
        exits.iter().all(|exit| events.contains(exit))
    });
    later.wait().expect("it was killed");
    events.extend(collect_for(
        &mut sampler,
        std::time::Duration::from_millis(200),
    ));
    for exit in &exits {
        assert_eq!(events.iter().filter(|event| *event == exit).count(), 1);
    }
    drop(sampler);
    target.finish();
}

#[test]
fn ebpf_samples_itself_only_if_asked_to() {
    let options = Options::new(FREQUENCY_HZ).everything(true);
    let Some(mut sampler) = ebpf_with(&options) else {
        return;
    };
    let own = std::process::id();
    sampler
        .follow(own, Default::default())
        .expect("this process can be followed");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        collect(&mut sampler, |events| of(events, own) >= 10);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
