//! The command line: what it refuses, what it prints and where, and its exit status.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn reader(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Expects a failure that is told in one line on standard error, and nothing on standard output.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = reader(arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{error}");
    assert!(output.stdout.is_empty());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("error: "), "{error}");
    error.trim_end().to_owned()
}

/// A process to be named, which publishes nothing; ended when dropped.
struct Sleep(Child);

impl Sleep {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn nothing_to_record() {
    let error = refused(&["record"]);
    assert_eq!(
        error,
        "error: nothing to record: name a process with -p PID, a cgroup with --cgroup, a command after --, or all with -a"
    );
}

#[test]
fn an_unknown_pid() {
    let error = refused(&["record", "-p", "4294967294"]);
    assert_eq!(error, "error: there is no process 4294967294");
}

#[test]
fn a_process_without_the_symbols() {
    let sleep = Sleep::start();
    let error = refused(&["record", "-p", &sleep.pid()]);
    assert!(error.contains(&format!(
        "process {} (sleep) does not export otel_thread_ctx_v1",
        sleep.pid()
    )));
    assert!(error.contains("call otel_profiling::build::export_symbols() in its build.rs"));
}

#[test]
fn impossible_frequencies() {
    for mode in [&["--ptrace"][..], &[]] {
        for frequency in ["0", "1000000000"] {
            let mut arguments = vec!["record", "--freq", frequency];
            arguments.extend(mode);
            arguments.extend(["--", "sleep", "60"]);
            let error = refused(&arguments);
            assert!(
                error.contains(&format!(
                    "a sampling frequency of {frequency} Hz is not possible: choose 1 to "
                )),
                "{error}"
            );
        }
    }
}

#[test]
fn outputs_are_checked_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept.svg");
    fs::write(&kept, "kept").unwrap();

    let error = refused(&["record", "-o", "profile.png", "--", "sleep", "60"]);
    assert!(
        error.ends_with("its name must end in .pb.gz, .otlp, .otlp.gz, .svg, .folded or .json"),
        "{error}"
    );
    let missing = folder.path().join("missing/profile.svg");
    let error = refused(&["record", "-o", path(&missing), "--", "sleep", "60"]);
    assert!(
        error.contains(&format!("cannot write {}: No such file", missing.display())),
        "{error}"
    );
    let error = refused(&["record", "-o", "/proc/profile.svg", "--", "sleep", "60"]);
    assert!(
        error.contains("cannot write /proc/profile.svg: "),
        "{error}"
    );

    let error = refused(&["record", "-o", "-", "--", "sleep", "60"]);
    assert_eq!(error, "error: -o - needs --format");
    let to_standard_output = ["record", "-o", "-", "--format", "svg", "--split-by", "x"];
    let error = refused(&[&to_standard_output[..], &["--", "sleep", "60"]].concat());
    assert_eq!(error, "error: --split-by writes files: name one with -o");

    // A recording that fails leaves what was there.
    refused(&["record", "-p", "4294967294", "-o", path(&kept)]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_command_that_cannot_be_started() {
    let error = refused(&["record", "--ptrace", "--", "/missing/program"]);
    assert!(
        error.starts_with("error: cannot start /missing/program: No such file"),
        "{error}"
    );
}

#[test]
fn a_command_without_the_symbols_is_recorded_and_reported_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("profile.pb.gz");
    let output = reader(&[
        "record",
        "--ptrace",
        "--json",
        "-o",
        path(&profile),
        "--",
        "sh",
        "-c",
        "echo printed; sleep 0.3; exit 3",
    ]);
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{messages}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["with_context"], 0);
    assert_eq!(report["traces"], serde_json::json!([]));
    assert!(profile.metadata().unwrap().len() > 0);
    let lines: Vec<_> = messages.lines().collect();
    assert!(lines.contains(&"printed"), "{messages}");
    assert!(
        lines.contains(&"note: all processes have ended"),
        "{messages}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("warning: ") && line.contains("does not export")),
        "{messages}"
    );
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("error: the command does not export otel_thread_ctx_v1"),
        "{messages}"
    );
}

/// Two threads of a shell that publish nothing, each of them using its CPU.
const BUSY: &str = "(exec -a other sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done') & \
                    i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; wait";

#[test]
fn formats_and_selections() {
    let folder = tempfile::tempdir().unwrap();
    let record = |arguments: &[&str]| {
        let command = ["--", "bash", "-c", BUSY];
        let output = reader(
            &[
                &["record", "--ptrace", "--freq", "499"],
                arguments,
                &command,
            ]
            .concat(),
        );
        let messages = String::from_utf8(output.stderr).unwrap();
        // It is recorded, and then found not to publish anything.
        assert!(messages.contains("does not export"), "{messages}");
        (output.stdout, messages)
    };

    let (stdout, _) = record(&["-o", "-", "--format", "folded"]);
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(!stdout.is_empty());
    for line in stdout.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        assert!(
            stack.starts_with("bash;") || stack.starts_with("sh;"),
            "{stdout}"
        );
        assert!(count.parse::<u64>().unwrap() > 0);
    }

    let file = folder.path().join("x.y");
    let (stdout, messages) = record(&[
        "-o",
        path(&file),
        "--format",
        "otlp",
        "--split-by",
        "process.executable.name",
        "--coverage",
    ]);
    let mut written: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert!(
        written.iter().any(|name| name == "x.y-bash"),
        "{written:?} {messages}"
    );
    let coverage = String::from_utf8(stdout).unwrap();
    assert!(coverage.starts_with("100.0 % of "), "{coverage}");
    assert!(
        coverage.contains("in process bash, thread bash\n"),
        "{coverage}"
    );

    let (stdout, _) = record(&["--json", "--attribute", "process.executable.name=nothing"]);
    let report: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(report["total"]["samples"], 0);
    assert!(report["period_ns"].as_u64() > Some(0));
}

#[test]
fn a_report_that_nobody_reads_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args([
            "record",
            "--ptrace",
            "--duration",
            "0.2",
            "--",
            env!("CARGO_BIN_EXE_ebpf-reader"),
        ])
        .args([
            "record",
            "--ptrace",
            "--duration",
            "60",
            "--",
            "sleep",
            "60",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(!messages.contains("panicked"), "{messages}");
    assert!(!messages.contains("cannot print"), "{messages}");
}
