//! `ebpf-reader record` on a real program that publishes its contexts with otel-profiling, through eBPF
//! and through ptrace: the report, and the pprof file.
//!
//! The program is this very test binary, started again: see [`writer`].

use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ebpf_reader::Error;
use ebpf_reader::pprof::proto;
use otel_profiling::process_context::{self, ProcessContext};
use otel_profiling::{AttributeKey, Record, SpanIds};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

/// The variable that makes this binary the program to be recorded.
const VARIABLE: &str = "RECORD_TEST_WRITER";

const LONG: ([u8; 16], Duration) = ([0x11; 16], Duration::from_millis(800));
const SHORT: ([u8; 16], Duration) = ([0x22; 16], Duration::from_millis(400));
const OUTSIDE: Duration = Duration::from_millis(300);

/// Also the way into the program: the tests start this binary with this test's name.
#[test]
fn writer() {
    if std::env::var_os(VARIABLE).is_some() {
        write();
        return;
    }
    // Elsewhere it publishes nothing.
    assert!(otel_profiling::published::thread_context().is_none());
}

fn write() {
    process_context::publish(&ProcessContext::new().resource("service.name", "record-test"))
        .unwrap();
    let route = AttributeKey::new("http.route").unwrap();
    for _ in 0..4 {
        for (trace_id, time) in [LONG, SHORT] {
            let ids = SpanIds::new(trace_id, [7; 8], 1).unwrap();
            Record::with_attributes(ids, &[(route, "/checkout")])
                .publish_while(|| use_the_cpu(time / 4));
        }
        use_the_cpu(OUTSIDE / 4);
    }
}

/// Uses CPU time: on a busy machine that takes longer than the time itself.
#[inline(never)]
fn use_the_cpu(time: Duration) {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            now.tv_sec.unsigned_abs(),
            u32::try_from(now.tv_nsec).unwrap(),
        )
    };
    let end = now() + time;
    while now() < end {
        for number in 0..10_000 {
            black_box(number);
        }
    }
}

fn record(mode: &[&str], profile: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["record", "--json", "--freq", "997", "-o"])
        .arg(profile)
        .args(mode)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .unwrap()
}

fn check(mode: &[&str]) {
    if let Err(Error::NoSymbols { .. }) = ebpf_reader::process::locate(std::process::id()) {
        eprintln!("skipped: needs a linker that exports the symbols by default, such as rust-lld");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.pb.gz");
    let output = record(mode, &path);
    let messages = String::from_utf8(output.stderr).unwrap();
    if messages.contains("needs CAP_BPF and CAP_PERFMON") {
        eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
        return;
    }
    assert!(output.status.success(), "{messages}");
    assert!(
        messages.contains("note: all processes have ended"),
        "{messages}"
    );
    check_report(&output.stdout);
    check_profile(&path);
}

fn check_report(report: &[u8]) {
    let report: serde_json::Value = serde_json::from_slice(report).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let traces = report["traces"].as_array().unwrap();
    let ids: Vec<_> = traces
        .iter()
        .map(|trace| trace["trace_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["11".repeat(16), "22".repeat(16)]);
    for (trace, (_, time)) in traces.iter().zip([LONG, SHORT]) {
        let share = number(&trace["cpu_ns"]) as f64 / time.as_nanos() as f64;
        assert!((0.7..1.3).contains(&share), "{share} of {time:?}");
    }
    let (samples, with_context) = (number(&report["samples"]), number(&report["with_context"]));
    assert_eq!(
        with_context,
        traces
            .iter()
            .map(|trace| number(&trace["samples"]))
            .sum::<u64>()
    );
    assert!(with_context < samples);
    assert_eq!(report["unreadable"], 0);
    assert_eq!(report["spans"][0]["span_id"], "07".repeat(8));
    assert_eq!(
        report["processes"][0]["resource"]["service.name"],
        "record-test"
    );
}

fn check_profile(path: &Path) {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    let profile = proto::Profile::decode(&bytes[..]).unwrap();
    let string = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let label = |sample: &proto::Sample, key: &str| {
        let found = sample.label.iter().find(|label| string(label.key) == key);
        found.map(|label| string(label.str).to_owned())
    };
    let functions = |sample: &proto::Sample| -> Vec<String> {
        let locations = sample
            .location_id
            .iter()
            .map(|id| &profile.location[usize::try_from(id - 1).unwrap()]);
        let lines = locations.flat_map(|location| &location.line);
        let functions =
            lines.map(|line| &profile.function[usize::try_from(line.function_id - 1).unwrap()]);
        functions
            .map(|function| string(function.name).to_owned())
            .collect()
    };
    let (mut named, mut in_loop) = (0, false);
    let mut with_context = 0;
    for sample in &profile.sample {
        assert_eq!(
            label(sample, "service.name").as_deref(),
            Some("record-test")
        );
        if label(sample, "trace_id").is_some() {
            assert_eq!(label(sample, "span_id"), Some("07".repeat(8)));
            assert_eq!(label(sample, "http.route").as_deref(), Some("/checkout"));
            // The ids are not repeated under the names that they have as custom labels.
            assert_eq!(label(sample, "otel_traceid"), None);
            with_context += sample.value[0];
            let functions = functions(sample);
            named += if functions.is_empty() {
                0
            } else {
                sample.value[0]
            };
            in_loop |= functions
                .iter()
                .any(|function| function == "record::use_the_cpu");
        }
    }
    // Without frame pointers the innermost function is all there is of most stacks.
    assert!(named * 10 > with_context * 9, "{named} of {with_context}");
    assert!(in_loop);
}

#[test]
fn with_ebpf() {
    check(&[]);
}

#[test]
fn with_ptrace() {
    check(&["--ptrace"]);
}
