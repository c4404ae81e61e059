use super::*;

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

fn label(key: &str, value: &str) -> Label {
    Label {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
    }
}

/// A sample of a process that does not exist.
fn sample(thread_context: Option<ThreadContext>, custom_labels: Vec<Label>) -> Sample {
    Sample {
        pid: u32::MAX,
        tid: 7,
        thread_name: "worker".to_owned(),
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
    let first = sample(record(1, 1, &[]), Vec::new());
    let other_trace = sample(record(2, 1, &[]), Vec::new());
    let other_span = sample(record(1, 2, &[]), Vec::new());
    let other_attributes = sample(record(1, 1, &[0, 1, b'x']), Vec::new());
    let other_labels = sample(record(1, 1, &[]), vec![label("a", "b")]);
    let none = sample(None, Vec::new());
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
    let ids = || {
        vec![
            label("otel_traceid", trace),
            label("otel_spanid", span),
            label("k", "v"),
        ]
    };
    let profile = aggregate([
        Event::Sample(sample(None, ids())),
        Event::Sample(sample(record(0, 0, &[]), ids())),
        Event::Sample(sample(record(1, 2, &[]), ids())),
        Event::Sample(sample(None, vec![label("otel_traceid", "not hexadecimal")])),
        Event::Sample(Sample {
            unreadable: true,
            ..sample(None, vec![label("otel_spanid", span)])
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
    let aggregator = Aggregator::new(settings());
    let published = Published {
        process: 0,
        thread_context: record(
            1,
            1,
            &[0, 1, b'a', 1, 1, b'b', 9, 1, b'c', 0, 1, b'd', 1, 200],
        ),
        custom_labels: vec![label("user", "ignored"), label("x", "1"), label("x", "2")],
    };
    let process = ProcessContext {
        attribute_keys: vec!["http.route".to_owned(), "user".to_owned()],
        ..ProcessContext::default()
    };
    let expected = [("http.route", "d"), ("user", "b"), ("x", "1")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        aggregator.context(&published, Some(&process)).labels,
        expected
    );
}

#[test]
fn a_program_executed_later_is_another_process_of_the_profile() {
    let child = Sample {
        pid: u32::MAX - 1,
        ..sample(record(1, 1, &[]), Vec::new())
    };
    let parent = || Event::Sample(sample(record(1, 1, &[]), Vec::new()));
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

#[test]
fn return_addresses_are_looked_up_inside_the_call() {
    let profile = aggregate([Event::Sample(sample(None, Vec::new()))]);
    let addresses: Vec<_> = profile.stacks[0]
        .iter()
        .map(|&location| profile.locations[location].address)
        .collect();
    assert_eq!(addresses, [0x10, 0x1f]);
}
