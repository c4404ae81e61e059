//! `ebpf-reader check`: what it prints, and its exit status.

use std::io::{Read as _, Seek as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::build::{EXPORT, Running, writer};

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .arg("check")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_exit_status_tells_passed_failed_and_not_checked_apart() {
    let good = writer(&EXPORT);
    let output = check(&[good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    assert!(text(&output.stdout).ends_with("15 passed, 0 failed, 27 not applicable\n"));

    let output = check(&["/bin/true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
    let table = text(&output.stdout);
    assert!(
        table.contains("\ncontext.symbol     FAILED the file does not define it\n"),
        "{table}"
    );
    assert!(
        table.contains(
            "fix: add otel-profiling-tracer and call otel_profiling_tracer::wrap(provider)"
        )
    );
    assert!(!table.contains('\u{1b}') && table.lines().all(|line| line.chars().count() <= 110));

    for (arguments, expected) in [
        (&["4294967294"][..], "there is no process 4294967294"),
        (
            &["/does/not/exist"],
            "cannot open \"/does/not/exist\": No such file",
        ),
        (
            &["/etc/passwd"],
            "cannot read the ELF file of \"/etc/passwd\": not a 64-bit",
        ),
        (&["/dev/null"], "cannot read the ELF file"),
        (&["/tmp"], "\"/tmp\""),
        (&["--", "/does/not/exist"], "cannot start /does/not/exist"),
        (&["--", "true"], "it ended before it published anything"),
    ] {
        let output = check(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert!(
            error.starts_with("error: ") && error.contains(expected),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_command_is_started_checked_and_ended() {
    let good = writer(&EXPORT);
    // A child of the command is found, too.
    let script = format!("{}; :", good.display());
    for command in [&[good.to_str().unwrap()][..], &["sh", "-c", &script]] {
        let mut errors = tempfile::tempfile().unwrap();
        let mut reader = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
            .args(["check", "--json", "--duration", "0.1", "--wait", "60", "--"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().unwrap())
            .spawn()
            .unwrap();
        // The writer ends when this does.
        let input = reader.stdin.take();
        let mut report = String::new();
        let mut output = reader.stdout.take().unwrap();
        output.read_to_string(&mut report).unwrap();
        let status = reader.wait().unwrap();
        drop(input);
        let mut told = String::new();
        errors.rewind().unwrap();
        errors.read_to_string(&mut told).unwrap();
        assert_eq!(status.code(), Some(0), "{told} {report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["failed"], 0);
        assert!(
            report["target"].as_str().unwrap().contains("(writer"),
            "{report}"
        );
        // What it prints went to standard error.
        assert_eq!(told, "ready\n");
    }
}

#[test]
fn a_command_that_publishes_nothing_is_checked_when_the_time_is_over() {
    let output = check(&["--wait", "0.2", "--duration", "0.05", "--", "sleep", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("with its shared objects, does not define it"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn json_says_all_of_it() {
    let running = Running::start(&writer(&EXPORT), "labels.names");
    let pid = running.pid().to_string();
    let output = check(&["--json", "--duration", "0.05", "--for", "parca", &pid]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failed"], 1);
    let rules = report["rules"].as_array().unwrap();
    let failed: Vec<&Value> = rules
        .iter()
        .filter(|rule| rule["verdict"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["name"], "labels.names");
    assert_eq!(failed[0]["specification"], "Parca Agent");
    assert!(failed[0]["fix"].as_str().unwrap().contains("another name"));
    assert!(
        rules
            .iter()
            .all(|rule| rule["demand"].is_string() && rule["section"].is_string())
    );
    assert_eq!(report["view"]["reader"], "parca");
    assert_eq!(report["view"]["threads"][0]["sees"][1][0], "cpu");
}

#[test]
fn what_a_target_says_is_shown_and_not_obeyed() {
    let running = Running::start(&writer(&EXPORT), "view.cut");
    let output = check(&[
        "--duration",
        "0.05",
        "--for",
        "parca",
        &running.pid().to_string(),
    ]);
    let table = text(&output.stdout);
    assert!(table.contains("What Parca Agent sees"), "{table}");
    assert!(
        table.contains(r"\u{1b}]0;title") && !table.contains('\u{1b}'),
        "{table}"
    );
}

#[test]
fn a_thread_is_no_process() {
    let running = Running::start(&writer(&EXPORT), "");
    let mut threads = std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
    let thread = threads.find_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        (name != running.pid().to_string()).then_some(name)
    });
    let output = check(&[&thread.unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is a thread of process"));
}
