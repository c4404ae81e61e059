//! The corpora of the fuzz targets as ordinary tests: every file goes through the parser that it was made for.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks.rs"]
mod checks;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut files = 0;
    for entry in
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // Told where the check fails, and nowhere else.
        println!("{}", path.display());
        check(&bytes);
        // A file that is cut short at any place is one that was being written.
        for end in 0..bytes.len().min(512) {
            check(&bytes[..end]);
        }
        files += 1;
    }
    assert!(files > 2, "{} has {files} files", folder.display());
}

#[test]
fn elf() {
    run("elf", checks::elf);
}

#[test]
fn record() {
    run("record", checks::record);
}

#[test]
fn label_set() {
    run("label_set", checks::label_set);
}

#[test]
fn process_context() {
    run("process_context", checks::process_context);
}

#[test]
fn maps() {
    run("maps", checks::maps);
}
