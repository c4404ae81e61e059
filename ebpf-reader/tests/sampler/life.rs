//! Processes that fork, execute another program and exit.

use ebpf_reader::Error;
use ebpf_reader::sample::{Event, Sampler};

use crate::TRACE_ID;
use crate::collect::{collect, count, ebpf, ptrace, samples};
use crate::running::Target;

fn follows_children(sampler: &mut dyn Sampler, target: &mut Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    target.send_line();
    let is_exit_of_child =
        |event: &Event| matches!(event, Event::Exit { pid } if *pid != target.child.id());
    let events = collect(sampler, |events| events.iter().any(is_exit_of_child));
    let told = target.await_line("child");
    assert_eq!(told[1], 0, "the child came to harm");
    let child = u32::try_from(told[0]).expect("a pid");

    let parent = target.pid();
    assert_eq!(
        events
            .iter()
            .filter(|&event| *event == Event::Fork { parent, child })
            .count(),
        1
    );
    assert_eq!(
        events
            .iter()
            .filter(|&event| *event == Event::Exit { pid: child })
            .count(),
        1
    );
    let of_child: Vec<_> = samples(&events)
        .filter(|sample| sample.pid == child)
        .collect();
    assert!(
        of_child.len() >= 30,
        "{} samples of the child",
        of_child.len()
    );
    let with_context = of_child.iter().filter(|sample| {
        sample
            .thread_context
            .as_ref()
            .is_some_and(|context| context.trace_id == TRACE_ID)
    });
    // The first instructions of the child publish nothing yet, the last ones have no memory any more.
    assert!(with_context.count() + 2 >= of_child.len());
}

#[test]
fn ebpf_follows_children() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("fork");
    follows_children(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_follows_children() {
    let mut target = Target::start("fork");
    let mut sampler = ptrace();
    follows_children(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

fn forgets_locations_at_exec(sampler: &mut dyn Sampler, target: &mut Target) {
    let pid = target.pid();
    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed");
    let events = collect(sampler, |events| count(events, "before") >= 10);
    assert!(samples(&events).any(|sample| sample.thread_context.is_some()));

    target.send_line();
    let events = collect(sampler, |events| count(events, "with") >= 20);
    let exec = events
        .iter()
        .position(|event| *event == Event::Exec { pid })
        .expect("an exec event");
    // The new program has the same thread-locals at the same offsets: only forgetting hides them.
    for sample in samples(&events[exec..]) {
        assert_eq!(
            (sample.pid, &sample.thread_context),
            (pid, &None),
            "{sample:?}"
        );
    }

    target.await_ready();
    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed again");
    collect(sampler, |events| {
        samples(events)
            .filter(|sample| sample.thread_context.is_some())
            .count()
            >= 20
    });
}

#[test]
fn ebpf_forgets_locations_at_exec() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("exec");
    forgets_locations_at_exec(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_forgets_locations_at_exec() {
    let mut target = Target::start("exec");
    let mut sampler = ptrace();
    forgets_locations_at_exec(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

fn reports_the_exit(sampler: &mut dyn Sampler, target: &mut Target) {
    let pid = target.pid();
    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed");
    collect(sampler, |events| count(events, "with") >= 5);
    target.end();
    let events = collect(sampler, |events| events.contains(&Event::Exit { pid }));
    assert_eq!(
        events.last(),
        Some(&Event::Exit { pid }),
        "nothing comes after the exit"
    );
    assert!(
        matches!(sampler.follow(pid, target.locations), Err(Error::NoSuchProcess { pid: p }) if p == pid)
    );
}

#[test]
fn ebpf_reports_the_exit() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("busy");
    reports_the_exit(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_reports_the_exit() {
    let mut target = Target::start("busy");
    let mut sampler = ptrace();
    reports_the_exit(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}
