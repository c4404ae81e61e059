//! `ebpf-reader diff`: what it prints and writes, and what it refuses. The profiles are made by the library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Ended, Stdio};
use std::time::{Duration, SystemTime};

use ebpf_reader::output::Output;
use ebpf_reader::profile::{
    Context, Frame, Function, Location, Process, Profile, Row, Thread, TraceId,
};
use ebpf_reader::sample::Activity;

/// Requests of one route: fast ones spend most of their time in `parse`, slow ones in `query`.
fn profile(slow: u64) -> Profile {
    let mut profile = Profile::default();
    profile.started = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    profile.duration = Duration::from_secs(1);
    profile.period_ns = 10_000_000;
    let mut process = Process::default();
    (process.pid, process.name) = (7, "shop".to_owned());
    profile.processes = vec![process];
    profile.threads = vec![Thread {
        process: 0,
        tid: 7,
        name: "worker".to_owned(),
    }];
    profile.contexts = ["fast", "slow"]
        .iter()
        .zip(1..)
        .map(|(latency, id)| Context {
            trace_id: Some(TraceId([id; 16])),
            span_id: None,
            labels: vec![
                ("http.route".to_owned(), "/x".to_owned()),
                ("latency".to_owned(), (*latency).to_owned()),
            ],
        })
        .collect();
    profile.functions = ["main", "parse", "query\u{1b}[2J"]
        .map(|name| Function {
            name: name.to_owned(),
            file: String::new(),
        })
        .to_vec();
    profile.locations = (0..3)
        .map(|function| Location {
            mapping: None,
            address: 0x1000,
            frames: vec![Frame {
                function,
                line: None,
            }],
        })
        .collect();
    profile.stacks = vec![vec![1, 0], vec![2, 0]];
    let row = |context, stack, samples| Row {
        thread: 0,
        context,
        stack,
        activity: Activity::OnCpu,
        samples,
        ns: samples * 10_000_000,
    };
    profile.rows = vec![row(0, 0, 8), row(0, 1, 2), row(1, 0, 5), row(1, 1, slow)];
    profile.samples = 15 + slow;
    profile.with_context = profile.samples;
    profile
}

fn written(folder: &Path, name: &str, slow: u64) -> PathBuf {
    let path = folder.join(name);
    Output::create(&path)
        .unwrap()
        .write(&profile(slow))
        .unwrap();
    path
}

fn diff(arguments: &[&str]) -> Ended {
    Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .arg("diff")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let ended = diff(arguments);
    let messages = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{messages}");
    String::from_utf8(ended.stdout).unwrap()
}

/// Expects a failure that is told in one line on standard error, and nothing on standard output.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let ended = diff(arguments);
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success(), "{error}");
    assert!(ended.stdout.is_empty());
    assert_eq!(error.lines().count(), 1, "{error}");
    error.trim_end().to_owned()
}

#[test]
fn two_files_of_different_formats() {
    let folder = tempfile::tempdir().unwrap();
    let before = written(folder.path(), "before.pb.gz", 5);
    let after = written(folder.path(), "after.otlp", 45);
    let svg = folder.path().join("diff.svg");
    let [before, after, svg_path] = [&before, &after, &svg].map(|path| path.to_str().unwrap());
    // Before: parse 13 of 20, query 7 of 20; after: parse 13 of 60, query 47 of 60.
    let table = printed(&[before, after, "-o", svg_path]);
    let lines: Vec<_> = table.lines().collect();
    let expected =
        "parse                         65.0     21.7     -43.3      65.0     21.7     -43.3";
    assert_eq!(lines[2], expected);
    let expected =
        "query\\u{1b}[2J                35.0     78.3     +43.3      35.0     78.3     +43.3";
    assert_eq!(lines[3], expected);
    assert_eq!(lines.last(), Some(&"before: 200.0 ms, after: 600.0 ms"));
    let drawn = fs::read_to_string(&svg).unwrap();
    assert!(
        drawn.contains("parse (") && drawn.contains("-43.33%)"),
        "{drawn}"
    );

    let json: serde_json::Value = serde_json::from_str(&printed(&[
        before,
        after,
        "--json",
        "--attribute",
        "latency=fast",
    ]))
    .unwrap();
    assert_eq!(json["before_ns"], 100_000_000);
    assert_eq!(
        json["functions"][0]["self_after"],
        json["functions"][0]["self_before"]
    );
    let drawn = printed(&[before, after, "-o", "-", "--format", "svg"]);
    assert!(drawn.starts_with("<?xml"), "{drawn}");
}

#[test]
fn two_values_of_an_attribute() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "x.otlp.gz", 5);
    let path = path.to_str().unwrap();
    let arguments = [
        path,
        "--attribute",
        "http.route=/x",
        "--between",
        "latency=fast,slow",
    ];
    let table = printed(&arguments);
    let expected =
        "\nparse                         80.0     50.0     -30.0      80.0     50.0     -30.0\n";
    assert!(table.contains(expected), "{table}");
    assert!(
        printed(&[&arguments[..], &["--rows", "1"]].concat()).contains("\n(2 more functions)\n")
    );
}

#[test]
fn what_cannot_be_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "x.pb.gz", 5);
    let path = path.to_str().unwrap();
    let other = folder.path().join("other.pb.gz");
    fs::write(&other, "no profile").unwrap();
    let error = refused(&[path, other.to_str().unwrap()]);
    assert!(
        error.contains("other.pb.gz: it is not a profile in pprof's format"),
        "{error}"
    );
    let error = refused(&[path, "/missing.otlp"]);
    assert!(
        error.starts_with("error: cannot read /missing.otlp: No such file"),
        "{error}"
    );
    let error = refused(&[path, "--between", "latency=fast,slower"]);
    assert_eq!(
        error,
        "error: there are no samples of latency=slower to compare"
    );
    let error = refused(&[path, path, "-o", "x.folded"]);
    assert_eq!(error, "error: a comparison is written as .svg or .json");
    // The command line itself.
    for arguments in [
        &[path][..],
        &[path, path, "--between", "a=b,c"],
        &[path, "--between", "a"],
    ] {
        let ended = diff(arguments);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
    }
}
