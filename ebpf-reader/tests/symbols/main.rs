//! Names of functions in recordings of programs that make it hard: code made at run time, files that shrink, and
//! debug information that is meant to hurt whoever reads it; and the files' build ids.

mod build_ids;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a tool in a folder; `false` if it is not there.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> bool {
    match Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .status()
    {
        Ok(status) => {
            assert!(status.success(), "{program} {arguments:?}");
            true
        }
        Err(error) => {
            eprintln!("skipped: needs {program}: {error}");
            false
        }
    }
}

fn source(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/symbols");
    folder.join(name).to_str().unwrap().to_owned()
}

/// Records a command with the program itself, which looks names up in a process of its own: folded stacks, and
/// the messages.
fn record(folder: &Path, command: &[&str]) -> (String, String) {
    let profile: PathBuf = folder.join("profile.folded");
    let output = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["record", "--ptrace", "--freq", "499", "-o"])
        .arg(&profile)
        .arg("--")
        .args(command)
        .current_dir(folder)
        .output()
        .unwrap();
    // The programs publish nothing, which is an error; the profile is written all the same.
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code().is_some(), "{messages}");
    let stacks = std::fs::read_to_string(&profile);
    (stacks.unwrap_or_else(|_| panic!("{messages}")), messages)
}

/// Samples with a stack that contains `text`, and all of them.
fn samples(stacks: &str, text: &str) -> (u64, u64) {
    let (mut with, mut all) = (0, 0);
    for line in stacks.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        let count: u64 = count.parse().unwrap();
        all += count;
        with += if stack.contains(text) { count } else { 0 };
    }
    (with, all)
}

fn assert_mostly(stacks: &str, text: &str) {
    let (with, all) = samples(stacks, text);
    assert!(
        all > 50 && with * 10 >= all * 8,
        "{with} of {all}: {stacks}"
    );
}

#[test]
fn code_made_at_run_time_has_the_name_that_its_compiler_wrote() {
    let folder = tempfile::tempdir().unwrap();
    if run(folder.path(), "cc", &["-O1", "-o", "jit", &source("jit.c")]) {
        let (stacks, _) = record(folder.path(), &["./jit"]);
        assert_mostly(&stacks, "made at run time");
    }
}

#[test]
fn a_file_that_shrinks_costs_its_names_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let spin = source("spin.c");
    if run(folder.path(), "cc", &["-O1", "-o", "spin", &spin, "-ldl"])
        && run(
            folder.path(),
            "cc",
            &[
                "-O1",
                "-shared",
                "-fPIC",
                "-DLIBRARY",
                "-o",
                "lib.so",
                &spin,
            ],
        )
    {
        let (stacks, messages) = record(folder.path(), &["./spin", "./lib.so"]);
        assert_mostly(&stacks, "lib.so+0x");
        assert!(
            messages.contains("warning: cannot find functions in"),
            "{messages}"
        );
        // The other file is as it was.
        assert_mostly(&stacks, "main");
    }
}

/// Debug information in which a million functions are inlined into each other.
fn nested_without_end() -> (Vec<u8>, Vec<u8>) {
    // Tag, whether it has children, attributes with their forms.
    let abbreviations = vec![
        1, 0x11, 1, 0x10, 0x17, 0x11, 0x01, 0x12, 0x07, 0,
        0, // compile unit: stmt_list, low_pc, high_pc
        2, 0x2e, 1, 0x11, 0x01, 0x12, 0x07, 0x03, 0x08, 0, 0, // subprogram: the same, name
        3, 0x1d, 1, 0, 0, // inlined subroutine
        0,
    ];
    let everything = |entry: &mut Vec<u8>| {
        entry.extend(0_u64.to_le_bytes());
        entry.extend((1_u64 << 48).to_le_bytes());
    };
    let mut unit = vec![4, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0, 0];
    everything(&mut unit);
    unit.push(2);
    everything(&mut unit);
    unit.extend(b"invented\0");
    unit.extend(vec![3; 1_000_000]);
    let mut info = u32::try_from(unit.len()).unwrap().to_le_bytes().to_vec();
    info.extend(unit);
    (info, abbreviations)
}

#[test]
fn hostile_debug_information_costs_no_more_than_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (info, abbreviations) = nested_without_end();
    std::fs::write(path.join("info"), info).unwrap();
    std::fs::write(path.join("abbreviations"), abbreviations).unwrap();
    // With its own line numbers, which the invented functions refer to.
    let program = ["-O1", "-g", "-o", "spin", &source("spin.c"), "-ldl"];
    let sections = [
        "--update-section=.debug_info=info",
        "--update-section=.debug_abbrev=abbreviations",
        "--remove-section=.debug_aranges",
        "spin",
    ];
    if run(path, "cc", &program) && run(path, "objcopy", &sections) {
        let (stacks, messages) = record(path, &["./spin"]);
        // The worker died of it; the symbol table is as good as ever.
        assert_mostly(&stacks, "spin_with_a_name");
        assert!(!stacks.contains("invented"), "{stacks}");
        assert!(!messages.contains("overflow"), "{messages}");
    }
}
