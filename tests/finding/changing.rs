//! Processes that change while they are read, files that do, and processes that see other files.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ebpf_reader::process;
use ebpf_reader::record::{self, Backend, Options, Progress};

use crate::compile::{Compiler, DESCRIPTORS, GENERAL_DYNAMIC, folder, host, object, program};
use crate::reader::Turn;
use crate::writer::Writer;

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn files_that_were_deleted_or_replaced() {
    let mut turn = Turn::take();
    if !Compiler::Gcc.is_installed() {
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let original = program(Compiler::Gcc, &path("original"), &["-fPIE", "-pie"]);
    let other = program(
        Compiler::Gcc,
        &path("other"),
        &["-fPIE", "-pie", "-DBEFORE=4000"],
    );
    let host = host(Compiler::Gcc, &path("host"), &[]);
    let copy = |name: &str, of: &Path| {
        fs::copy(of, path(name)).expect("room for it");
        path(name)
    };
    let small = object(Compiler::Gcc, &path("small.so"), &[DESCRIPTORS]);
    let large = ["-DBEFORE=4000", GENERAL_DYNAMIC];
    let large = object(Compiler::Gcc, &path("large.so"), &large);

    let mut writers = Vec::new();
    let deleted = copy("deleted", &original);
    writers.push(Writer::start(
        "deleted",
        &deleted,
        &["unlink", &text(&deleted)],
    ));

    let replaced = copy("replaced", &original);
    writers.push(Writer::start("replaced", &replaced, &[]));
    fs::rename(copy("new", &other), &replaced).expect("the same folder");

    let deleted = copy("deleted.so", &small);
    let file = text(&deleted);
    writers.push(Writer::start(
        "deleted object",
        &host,
        &["open", &file, "unlink", &file],
    ));

    let replaced = copy("replaced.so", &small);
    writers.push(Writer::start(
        "replaced object",
        &host,
        &["open", &text(&replaced)],
    ));
    fs::rename(copy("new.so", &large), &replaced).expect("the same folder");
    turn.read_all(&writers);
}

/// A process in other mount and pid namespaces, whose program lies in a file system that only it sees.
#[test]
fn other_namespaces() {
    let mut turn = Turn::take();
    if !Compiler::Gcc.is_installed() {
        return;
    }
    if !Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        crate::report("skipped: needs unshare and CAP_SYS_ADMIN");
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let with_symbols = program(Compiler::Gcc, &path("program"), &["-fPIE", "-pie"]);
    let host = host(Compiler::Gcc, &path("host"), &[]);
    let object = object(Compiler::Gcc, &path("object.so"), &[DESCRIPTORS]);
    let inside = path("inside");
    fs::create_dir(&inside).expect("a writable folder");

    let start = |name: &str, script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["sh", "-c", script, "sh"])
            .args([&inside, &with_symbols, &host, &object]);
        let mut writer = Writer::run(name, &mut command);
        writer.pid = *process::descendants(writer.pid)
            .first()
            .expect("the first process of the namespace");
        assert!(!inside.join("program").exists());
        writer
    };
    let mount = "mount -t tmpfs none \"$1\" && cp \"$2\" \"$1/program\" && cp \"$3\" \"$1/host\" && cp \"$4\" \"$1\" &&";
    let writers = [
        start("its own program", &format!("{mount} exec \"$1/program\"")),
        start(
            "its own object",
            &format!("{mount} exec \"$1/host\" open \"$1/object.so\""),
        ),
    ];
    turn.read_all(&writers);
}

#[test]
fn what_comes_after_the_reader() {
    let mut turn = Turn::take();
    if !Compiler::Gcc.is_installed() {
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let with_symbols = program(Compiler::Gcc, &path("program"), &["-fPIE", "-pie"]);
    let host = host(Compiler::Gcc, &path("host"), &[]);
    let fast = object(Compiler::Gcc, &path("fast.so"), &[DESCRIPTORS]);
    let slow = object(Compiler::Gcc, &path("slow.so"), &[GENERAL_DYNAMIC]);
    let mut musl = None;
    if Compiler::Musl.is_installed() {
        let host = crate::compile::host(Compiler::Musl, &path("musl-host"), &[]);
        let object = object(Compiler::Musl, &path("musl.so"), &[DESCRIPTORS]);
        musl = Some((host, object));
    }
    for reader in turn.readers() {
        let mut writers = vec![
            Writer::start_waiting("loaded later", &host, &["wait", "open", &text(&fast)]),
            Writer::start_waiting(
                "loaded later, dynamic",
                &host,
                &["wait", "open", &text(&slow)],
            ),
            Writer::start_waiting("executed", &host, &["wait", "exec", &text(&with_symbols)]),
            Writer::start_waiting(
                "executed, loads an object",
                &with_symbols,
                &["wait", "exec", &text(&host), "open", &text(&slow)],
            ),
        ];
        if let Some((host, object)) = &musl {
            let arguments = ["wait", "open", &text(object)];
            writers.push(Writer::start_waiting(
                "loaded later, musl",
                host,
                &arguments,
            ));
        }
        for writer in &writers {
            reader.follow(writer.pid);
        }
        for writer in &mut writers {
            writer.go_on();
        }
        writers.push(Writer::start("started later", &with_symbols, &[]));
        if let Some(writer) = writers.last() {
            reader.follow(writer.pid);
        }
        reader.expect_right(&writers);
    }
}

/// The same through a recording, which looks again by itself.
#[test]
fn a_recording_looks_again() {
    let _turn = Turn::take();
    if !Compiler::Gcc.is_installed() {
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let host = host(Compiler::Gcc, &path("host"), &[]);
    let object = object(Compiler::Gcc, &path("object.so"), &[DESCRIPTORS]);
    let arguments = ["wait", "open", &text(&object)];
    let mut writer = Writer::start_waiting("loaded later", &host, &arguments);
    // A process without the symbols is followed if another one has them. That one publishes nothing.
    let with_symbols = program(Compiler::Gcc, &path("program"), &["-fPIE", "-pie"]);
    let other = Writer::start_waiting("has them", &with_symbols, &["wait"]);
    let options = Options::new()
        .pid(writer.pid)
        .pid(other.pid)
        .backend(Backend::Ptrace)
        .symbols(false);
    let stop = AtomicBool::new(false);
    let (started, start) = mpsc::channel();
    let recording = thread::scope(|scope| {
        let mut on_progress = |progress: Progress| {
            // The pauses between looks have grown by then.
            if let Progress::Sampling {
                elapsed,
                with_context,
                ..
            } = progress
            {
                if elapsed > Duration::from_millis(500) {
                    let _ = started.send(());
                }
                if with_context > 3 || elapsed > Duration::from_secs(60) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        let recording = scope.spawn({
            let (options, stop) = (&options, &stop);
            move || record::run(options, stop, &mut on_progress)
        });
        start.recv().expect("the recording starts");
        writer.go_on();
        recording.join().expect("no panic").expect("it runs")
    });
    assert!(
        recording.profile.with_context > 3,
        "{:?}",
        recording.profile.rows
    );
}
