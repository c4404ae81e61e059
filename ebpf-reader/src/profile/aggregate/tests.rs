use super::*;
use crate::process_context::ProcessContext;
use crate::profile::{KERNEL, SpanId};
use crate::sample::{Label, Labels, ThreadContext};

fn settings() -> Settings {
    Settings {
        period_ns: 1_000_000,
        trace_label: "otel_traceid".to_owned(),
        span_label: "otel_spanid".to_owned(),
    }
}

fn record(trace: u8, span: u8, attrs_data: &[u8]) -> Option<ThreadContext> {
    Some(ThreadContext {
        trace_id: [trace; 16],
        span_id: [span; 8],
        trace_flags: 1,
        attrs_data: attrs_data.to_vec(),
    })
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> Labels {
    let labels = labels.iter().map(|(key, value)| Label {
        key: key.as_bytes(),
        value: value.as_bytes(),
    });
    labels.collect()
}

/// A sample of a process that does not exist.
fn sample(thread_context: Option<ThreadContext>, custom_labels: Labels) -> Sample {
    Sample {
        pid: u32::MAX,
        tid: 7,
        thread_name: "worker".into(),
        thread_context,
        custom_labels,
        user_stack: vec![0x10, 0x20],
        ..Sample::default()
    }
}

fn aggregate(events: impl IntoIterator<Item = Event>) -> Profile {
    let mut aggregator = Aggregator::new(settings());
    for event in events {
        aggregator.event(event);
    }
    aggregator
        .finish(SystemTime::now(), Duration::from_secs(1), 3)
        .0
}

#[test]
fn only_equal_samples_are_merged() {
    let first = sample(record(1, 1, &[]), Labels::NONE);
    let other_trace = sample(record(2, 1, &[]), Labels::NONE);
    let other_span = sample(record(1, 2, &[]), Labels::NONE);
    let other_attributes = sample(record(1, 1, &[0, 1, b'x']), Labels::NONE);
    let other_labels = sample(record(1, 1, &[]), labels([("a", "b")]));
    let none = sample(None, Labels::NONE);
    let other_stack = Sample {
        user_stack: vec![0x10],
        ..first.clone()
    };
    let other_thread = Sample {
        tid: 8,
        ..first.clone()
    };
    let distinct = [
        first.clone(),
        other_trace,
        other_span,
        other_attributes,
        other_labels,
        none,
        other_stack,
        other_thread,
    ];
    let twice = distinct.iter().chain(&distinct).cloned().map(Event::Sample);
    let profile = aggregate(twice);
    assert_eq!(profile.rows.len(), distinct.len());
    assert!(profile.rows.iter().all(|row| row.samples == 2));
    assert_eq!(
        (profile.samples, profile.with_context, profile.lost),
        (16, 14, 3)
    );
    assert_eq!(profile.traces()[0].samples, 12);
    assert_eq!(profile.traces()[0].cpu_ns, 12_000_000);
}

#[test]
fn the_trace_id_comes_from_the_thread_context_else_from_the_labels() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let span = "00f067aa0ba902b7";
    let ids = || labels([("otel_traceid", trace), ("otel_spanid", span), ("k", "v")]);
    let profile = aggregate([
        Event::Sample(sample(None, ids())),
        Event::Sample(sample(record(0, 0, &[]), ids())),
        Event::Sample(sample(record(1, 2, &[]), ids())),
        Event::Sample(sample(None, labels([("otel_traceid", "not hexadecimal")]))),
        Event::Sample(Sample {
            unreadable: true,
            ..sample(None, labels([("otel_spanid", span)]))
        }),
    ]);
    let ids: Vec<_> = profile
        .contexts
        .iter()
        .map(|context| (context.trace_id.map(|id| id.to_string()), context.span_id))
        .collect();
    let span = Some(span.parse().unwrap());
    assert_eq!(ids[0], (Some(trace.to_owned()), span));
    assert_eq!(ids[1], (Some(trace.to_owned()), span));
    assert_eq!(ids[2], (Some("01".repeat(16)), Some(SpanId([2; 8]))));
    assert_eq!(ids[3], (None, None));
    assert_eq!(ids[4], (None, None));
    // Labels that are ids are not repeated; those that turned out not to be are kept.
    let own = [("k".to_owned(), "v".to_owned())];
    assert_eq!(profile.contexts[0].labels, own);
    assert_eq!(profile.contexts[2].labels, own);
    assert_eq!(profile.contexts[3].labels[0].1, "not hexadecimal");
    assert_eq!((profile.with_context, profile.unreadable), (3, 1));
}

#[test]
fn attributes_have_the_names_of_the_key_map() {
    let published = Published {
        process: ProcessId(1),
        others: false,
        thread_context: record(
            1,
            1,
            &[0, 1, b'a', 1, 1, b'b', 9, 1, b'c', 0, 1, b'd', 1, 200],
        ),
        custom_labels: labels([("user", "ignored"), ("x", "1"), ("x", "2")]),
    };
    let process = ProcessContext {
        attribute_keys: vec!["http.route".to_owned(), "user".to_owned()],
        ..ProcessContext::default()
    };
    let expected = [("http.route", "d"), ("user", "b"), ("x", "1")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        names::context(&published, &settings(), Some(&process)).labels,
        expected
    );
}

#[test]
fn a_program_executed_later_is_another_process_of_the_profile() {
    let child = Sample {
        pid: u32::MAX - 1,
        ..sample(record(1, 1, &[]), Labels::NONE)
    };
    let parent = || Event::Sample(sample(record(1, 1, &[]), Labels::NONE));
    let profile = aggregate([
        parent(),
        Event::Fork {
            parent: u32::MAX,
            child: child.pid,
        },
        Event::Sample(child),
        Event::Exec { pid: u32::MAX },
        Event::Exec { pid: u32::MAX },
        parent(),
        Event::Exit { pid: u32::MAX },
        Event::Exit { pid: 1 },
    ]);
    let pids: Vec<_> = profile
        .processes
        .iter()
        .map(|process| process.pid)
        .collect();
    assert_eq!(pids, [u32::MAX, u32::MAX - 1, u32::MAX]);
    let processes: Vec<_> = profile
        .threads
        .iter()
        .map(|thread| thread.process)
        .collect();
    assert_eq!(processes, [0, 1, 2]);
    assert_eq!(profile.traces()[0].samples, 3);
}

/// `execve` is told of at its end. Whoever has looked at the process before that may have seen the new program.
#[test]
fn a_program_that_was_seen_before_it_is_told_of_is_one_process_of_the_profile() {
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "read line; exec sleep 60"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = shell.id();
    let sample = || {
        Event::Sample(Sample {
            pid,
            ..sample(None, Labels::NONE)
        })
    };
    let wait_for = |name| {
        while crate::process::name(pid).as_deref() != Some(name) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for("sh");
    let mut aggregator = Aggregator::new(settings());
    aggregator.follow(pid);
    for event in [sample(), Event::Exec { pid }, sample()] {
        aggregator.event(event);
    }
    // Now it executes another one.
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), b"\n").unwrap();
    wait_for("sleep");
    aggregator.event(Event::Exec { pid });
    aggregator.event(sample());
    shell.kill().unwrap();
    shell.wait().unwrap();
    let (profile, _) = aggregator.finish(SystemTime::now(), Duration::from_secs(1), 0);
    let names = profile.processes.iter().map(|process| &*process.name);
    assert_eq!(names.collect::<Vec<_>>(), ["sh", "sleep"]);
    let samples = profile.rows.iter().map(|row| row.samples);
    assert_eq!(samples.collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_process_that_is_gone_has_its_threads_name() {
    let own = Sample {
        pid: std::process::id(),
        ..sample(None, Labels::NONE)
    };
    let samples = [sample(None, Labels::NONE), own];
    let profile = aggregate(samples.map(Event::Sample));
    let own_name = crate::process::name(std::process::id()).unwrap();
    assert_ne!(own_name, "worker");
    let names = profile.processes.iter().map(|process| &*process.name);
    assert_eq!(names.collect::<Vec<_>>(), ["worker", &own_name]);
}

#[test]
fn return_addresses_are_looked_up_inside_the_call() {
    let profile = aggregate([Event::Sample(sample(None, Labels::NONE))]);
    let addresses: Vec<_> = profile.stacks[0]
        .iter()
        .map(|&location| profile.locations[location].address)
        .collect();
    assert_eq!(addresses, [0x10, 0x1f]);
}

#[test]
fn kernel_frames_come_before_those_of_the_program() {
    let kernel = 0xffff_ffff_8100_0010;
    let profile = aggregate([Event::Sample(Sample {
        kernel_stack: vec![kernel, kernel + 0x100],
        ..sample(None, Labels::NONE)
    })]);
    let stack: Vec<_> = profile.stacks[0]
        .iter()
        .map(|&location| &profile.locations[location])
        .collect();
    let addresses: Vec<_> = stack.iter().map(|location| location.address).collect();
    assert_eq!(addresses, [kernel, kernel + 0xff, 0x10, 0x1f]);
    let mapping = |location: usize| {
        stack[location]
            .mapping
            .map(|index| &profile.mappings[index])
    };
    assert_eq!(mapping(1).unwrap().name, KERNEL);
    assert_eq!(mapping(1).unwrap().file_offset(kernel), kernel);
    assert_eq!(mapping(2), None);
}

/// The same stack is not shown again: what it needs must not be forgotten because it came at a bad time.
#[test]
fn mappings_are_looked_at_again_however_soon_a_stack_asks_for_it() {
    let mut aggregator = Aggregator::new(settings());
    let pid = std::process::id();
    let wait = |aggregator: &mut Aggregator| {
        let next = aggregator.next_look().expect("a look is due");
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        aggregator.tick(Instant::now());
        assert_eq!(aggregator.next_look(), None);
    };
    assert_eq!(aggregator.next_look(), None);
    // A program that has just begun.
    aggregator.follow(pid);
    wait(&mut aggregator);
    // Stacks that lead nowhere, until one comes in the pause after a look.
    let mut address = 0;
    let mut ask = |aggregator: &mut Aggregator| {
        while aggregator.next_look().is_none() {
            address += 1;
            aggregator.event(Event::Sample(Sample {
                pid,
                user_stack: vec![address],
                ..Sample::default()
            }));
        }
    };
    ask(&mut aggregator);
    wait(&mut aggregator);
    ask(&mut aggregator);
    // What is gone is not waited for.
    aggregator.event(Event::Exit { pid });
    assert_eq!(aggregator.next_look(), None);
}

#[test]
fn a_flood_is_merged_and_leaves_room_for_others() {
    const BUDGET: usize = 1 << 20;
    const FLOOD: u64 = 50_000;
    let mut aggregator = Aggregator::new(settings()).memory_budget(BUDGET);
    for number in 0..FLOOD {
        let mut hostile = sample(record(1, 1, &[0; 200]), Labels::NONE);
        let context = hostile.thread_context.as_mut().unwrap();
        context.trace_id[..8].copy_from_slice(&(number + 1).to_ne_bytes());
        hostile.user_stack = (number..number + 50).collect();
        aggregator.event(Event::Sample(hostile));
    }
    let good = |trace| Sample {
        pid: u32::MAX - 1,
        user_stack: vec![7],
        ..sample(record(trace, 1, &[]), Labels::NONE)
    };
    for _ in 0..3 {
        for trace in 1..=200 {
            aggregator.event(Event::Sample(good(trace)));
        }
    }
    assert!(aggregator.counts.used <= BUDGET);
    let profile = aggregator
        .finish(SystemTime::now(), Duration::from_secs(1), 0)
        .0;
    assert_eq!(profile.samples, FLOOD + 600);
    assert_eq!(
        profile.rows.iter().map(|row| row.samples).sum::<u64>(),
        FLOOD + 600
    );
    assert!(profile.merged > FLOOD / 2 && profile.merged < FLOOD);
    let merged = profile
        .contexts
        .iter()
        .filter(|context| context.labels == [("merged".to_owned(), "(others)".to_owned())]);
    assert_eq!(merged.count(), 1);
    assert!(
        profile
            .locations
            .iter()
            .any(|location| profile.names(location) == ["(others)"])
    );
    // Equal stacks with different contexts stay apart.
    let good: Vec<_> = profile
        .rows
        .iter()
        .filter(|row| profile.processes[profile.threads[row.thread].process].pid == u32::MAX - 1)
        .collect();
    assert_eq!(good.len(), 200);
    assert!(good.iter().all(|row| row.samples == 3));
}

#[test]
fn a_rotation_starts_anew_and_remembers_who_is_there() {
    let mut aggregator = Aggregator::new(settings());
    let counters = |lost, truncated| Counters {
        lost_samples: lost,
        truncated,
        ..Counters::default()
    };
    let started = SystemTime::now();
    let second = Duration::from_secs(1);
    let gone = || Sample {
        pid: u32::MAX - 1,
        ..sample(None, Labels::NONE)
    };
    let here = || Sample {
        pid: std::process::id(),
        user_stack: vec![a_rotation_starts_anew_and_remembers_who_is_there as fn() as usize as u64],
        ..sample(record(1, 1, &[]), Labels::NONE)
    };
    for event in [Event::Sample(gone()), Event::Sample(here())] {
        aggregator.event(event);
    }
    aggregator.event(Event::Exit { pid: gone().pid });
    let first = aggregator.rotate(started, second, counters(3, 1));
    assert_eq!((first.samples, first.processes.len()), (2, 2));
    assert_eq!((first.lost, first.truncated), (3, 1));
    assert_eq!(aggregator.processes.len(), 1);

    aggregator.event(Event::Sample(here()));
    let second = aggregator.rotate(started, second, counters(4, 1));
    assert_eq!((second.samples, second.with_context), (1, 1));
    assert_eq!((second.lost, second.truncated), (1, 0));
    assert_eq!(second.processes[0].pid, std::process::id());
    // The file was open all the time, and has the same number.
    let module = |profile: &Profile| profile.mappings[0].module.unwrap();
    assert_eq!(module(&first), module(&second));
    assert!(aggregator.modules().file(module(&second)).is_some());

    aggregator.event(Event::Exit {
        pid: std::process::id(),
    });
    assert!(aggregator.processes.is_empty());
    let third = aggregator.rotate(started, Duration::ZERO, counters(4, 1));
    assert_eq!((third.samples, third.rows.len()), (0, 0));
    assert!(aggregator.modules().file(module(&second)).is_none());
}
