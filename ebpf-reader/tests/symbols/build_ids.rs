//! Build ids in recorded profiles: those of the files, by the word of binutils, in both formats that have them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ebpf_reader::profile::Profile;
use ebpf_reader::read;

use super::{run, source};

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_ID: &str = "00ff00ff00ff00ff";

/// The build id of a file as binutils shows it; `None` if it has none.
fn shown(path: &Path) -> Option<String> {
    let output = Command::new("readelf").arg("-n").arg(path).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("Build ID: "));
    line.map(|(_, id)| id.trim().to_owned())
}

/// Records a program into a file of that name.
fn record(folder: &Path, program: &str, profile: &str) -> Profile {
    let path = folder.join(profile);
    let output = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["record", "--ptrace", "--freq", "499", "-o"])
        .arg(&path)
        .args(["--", program])
        .current_dir(folder)
        .output()
        .unwrap();
    read::read(&path)
        .unwrap_or_else(|error| panic!("{error} {}", String::from_utf8_lossy(&output.stderr)))
}

/// The build ids in a profile, by the path of the file.
fn build_ids(profile: &Profile) -> BTreeMap<&str, Option<String>> {
    let mappings = profile.mappings.iter().filter(|it| !it.name.is_empty());
    mappings
        .map(|it| {
            (
                it.name.as_str(),
                it.build_id.as_ref().map(ToString::to_string),
            )
        })
        .collect()
}

#[test]
fn mappings_have_the_build_ids_of_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let spin = source("spin.c");
    let build = |name: &str, id: &str| {
        let id = format!("-Wl,--build-id={id}");
        run(folder, "cc", &["-O1", &id, "-o", name, &spin, "-ldl"])
    };
    if !build("spin", &format!("0x{ID}")) || !run(folder, "readelf", &["-n", "spin"]) {
        return;
    }
    let pprof = record(folder, "./spin", "first.pb.gz");
    let program = folder.join("spin");
    let name = program.to_str().unwrap();
    assert_eq!(shown(&program).as_deref(), Some(ID));
    let found = build_ids(&pprof);
    assert_eq!(found[name].as_deref(), Some(ID), "{found:?}");
    // Also of the libraries, as far as there were samples in them.
    for (path, id) in found.iter().filter(|(path, _)| path.starts_with('/')) {
        assert_eq!(*id, shown(Path::new(path)), "{path}");
    }
    if let Ok(output) = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none", "-raw", "first.pb.gz"])
        .current_dir(folder)
        .output()
    {
        let raw = String::from_utf8_lossy(&output.stdout);
        assert!(raw.contains(&format!("{name} {ID}")), "{raw}");
    } else {
        eprintln!("skipped: needs go");
    }

    let otlp = record(folder, "./spin", "first.otlp");
    let of_otlp = build_ids(&otlp);
    assert_eq!(of_otlp[name].as_deref(), Some(ID), "{of_otlp:?}");
    for (path, id) in &of_otlp {
        assert!(found.get(path).is_none_or(|found| found == id), "{path}");
    }

    // Another build in the same place, and one without an id.
    assert!(build("spin", &format!("0x{OTHER_ID}")));
    let rebuilt = record(folder, "./spin", "second.otlp.gz");
    assert_eq!(build_ids(&rebuilt)[name].as_deref(), Some(OTHER_ID));
    assert!(build("spin", "none"));
    assert_eq!(
        build_ids(&record(folder, "./spin", "third.pb.gz"))[name],
        None
    );
    let both = Profile::merge(&[&pprof, &rebuilt]);
    let of_program = both.mappings.iter().filter(|it| it.name == name);
    let mut ids: Vec<_> = of_program
        .filter_map(|it| it.build_id.as_ref().map(ToString::to_string))
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids, [OTHER_ID, ID]);
}
