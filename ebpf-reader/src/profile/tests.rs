//! A small profile with known numbers, for the tests of everything that shows profiles.

use std::time::{Duration, SystemTime};

use super::*;

pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) const SPAN: &str = "00f067aa0ba902b7";
pub(crate) const BUILD_ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// Seven samples of 10 ms: four in one trace, one of them in equal code of another trace, two without a trace.
pub(crate) fn two_traces() -> Profile {
    let context = |trace: Option<&str>, span: Option<&str>, labels: &[(&str, &str)]| Context {
        trace_id: trace.map(|id| id.parse().unwrap()),
        span_id: span.map(|id| id.parse().unwrap()),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let mapping = |start, end, name: &str, build_id: Option<&str>| Mapping {
        start,
        end,
        offset: 0x1000,
        name: name.to_owned(),
        module: None,
        build_id: build_id.map(|digits| BuildId::from_hex(digits).unwrap()),
    };
    let location = |mapping, address, frames: &[(usize, Option<u32>)]| Location {
        mapping,
        address,
        frames: frames
            .iter()
            .map(|&(function, line)| Frame { function, line })
            .collect(),
    };
    let function = |name: &str, file: &str| Function {
        name: name.to_owned(),
        file: file.to_owned(),
    };
    let row = |context, stack, samples| Row {
        thread: 0,
        context,
        stack,
        activity: Activity::OnCpu,
        samples,
        ns: samples * 10_000_000,
    };
    Profile {
        started: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        duration: Duration::from_secs(2),
        period_ns: 10_000_000,
        samples: 7,
        with_context: 5,
        unreadable: 1,
        truncated: 0,
        lost: 3,
        merged: 0,
        processes: vec![Process {
            pid: 42,
            name: "app".to_owned(),
            executable: "/opt/app".to_owned(),
            ..Process::default()
        }],
        threads: vec![Thread {
            process: 0,
            tid: 43,
            name: "worker".to_owned(),
        }],
        contexts: vec![
            context(Some(TRACE), Some(SPAN), &[("http.route", "/slow")]),
            context(Some(OTHER_TRACE), None, &[]),
            context(None, None, &[("job", "gc")]),
        ],
        mappings: vec![
            mapping(0x4000, 0x8000, "/opt/app", Some(BUILD_ID)),
            mapping(0x10000, 0x20000, "/opt/lib.so", None),
        ],
        locations: vec![
            location(Some(0), 0x4010, &[(1, Some(12)), (0, Some(7))]),
            location(Some(1), 0x10010, &[]),
            location(Some(0), 0x4020, &[(0, None)]),
        ],
        functions: vec![
            function("main", "src/main.rs"),
            function("handle<[u8; 4]>", "src/handler.rs"),
        ],
        stacks: vec![vec![0], vec![1, 2]],
        rows: vec![row(0, 0, 4), row(1, 0, 1), row(2, 1, 2)],
    }
}

/// The same with times off the CPU: 300 ms blocked in the first trace, twice, and 1 ms preempted without a trace.
pub(crate) fn with_off_cpu() -> Profile {
    let mut profile = two_traces();
    let off_cpu = |context, stack, activity, samples, ns| Row {
        thread: 0,
        context,
        stack,
        activity,
        samples,
        ns,
    };
    profile.rows.extend([
        off_cpu(0, 0, Activity::Blocked, 2, 300_000_000),
        off_cpu(2, 1, Activity::Preempted, 1, 1_000_000),
    ]);
    profile.samples += 3;
    profile.with_context += 2;
    profile
}

#[test]
fn cpu_time_by_trace_and_by_span() {
    let profile = two_traces();
    let traces: Vec<_> = profile
        .traces()
        .iter()
        .map(|usage| (usage.trace_id.to_string(), usage.samples, usage.cpu_ns))
        .collect();
    assert_eq!(
        traces,
        [
            (TRACE.to_owned(), 4, 40_000_000),
            (OTHER_TRACE.to_owned(), 1, 10_000_000)
        ]
    );
    let spans: Vec<_> = profile
        .spans()
        .iter()
        .map(|usage| (usage.span_id, usage.samples))
        .collect();
    assert_eq!(spans, [(Some(SPAN.parse().unwrap()), 4), (None, 1)]);
}

#[test]
fn an_unnamed_place_keeps_its_file_and_offset() {
    let profile = two_traces();
    assert_eq!(
        profile.names(&profile.locations[0]),
        ["handle<[u8; 4]>", "main"]
    );
    assert_eq!(profile.names(&profile.locations[1]), ["lib.so+0x1010"]);
    let nowhere = Location {
        address: 0x99,
        ..Location::default()
    };
    assert_eq!(profile.names(&nowhere), ["[unknown] 0x99"]);
}

#[test]
fn a_process_is_called_by_its_service_too() {
    let mut profile = two_traces();
    assert_eq!(profile.processes[0].title(), "app");
    let resource = [("service.name", "checkout"), ("service.version", "1.2")];
    profile.processes[0].context = Some(ProcessContext {
        resource: resource
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..ProcessContext::default()
    });
    assert_eq!(profile.processes[0].title(), "app, service checkout 1.2");
    let table = crate::report::Table::new(&profile).to_string();
    assert!(
        table.ends_with("\nprocess 42: app, service checkout 1.2"),
        "{table}"
    );
}
