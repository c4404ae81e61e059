//! Stacks of an ordinary release binary: an axum service, optimized and without frame pointers. Nearly all of its user
//! stacks reach the first function of their thread, and those of a route name its handler.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use ebpf_reader::Error;
use ebpf_reader::profile::{Profile, Row};
use ebpf_reader::record::{self, Options, Progress};
use ebpf_reader::sample::Activity;

/// Routes of the service, and what their handlers are called.
const HANDLERS: [(&str, &str); 2] = [
    ("/fibonacci/{n}", "http_example::number"),
    ("/sequence/{n}", "http_example::sequence"),
];

/// Builds the example as anybody builds it, in a folder of its own.
fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release-stacks");
    let built = Command::new(env!("CARGO"))
        .current_dir(workspace)
        // This repository has frame pointers turned on for what is built in it.
        .env("RUSTFLAGS", "")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["build", "--release", "--locked", "--quiet"])
        // With line tables alone, functions that were inlined have no path in their names.
        .args(["--config", "profile.release.debug='limited'"])
        .args(["--package", "http-example", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success(), "the example does not build");
    target.join("release/http-example")
}

/// Samples of those rows, and the part of them of which the stack has a function like this.
fn share(profile: &Profile, rows: &[&Row], is: &dyn Fn(&str) -> bool) -> (u64, f64) {
    let has = |row: &Row| {
        let mut names = profile.stacks[row.stack]
            .iter()
            .flat_map(|&location| profile.names(&profile.locations[location]));
        names.any(|name| is(&name))
    };
    let all: u64 = rows.iter().map(|row| row.samples).sum();
    let with: u64 = rows
        .iter()
        .filter(|row| has(row))
        .map(|row| row.samples)
        .sum();
    (all, with as f64 / all as f64)
}

#[test]
fn an_axum_service_without_frame_pointers() {
    let program = build();
    let options = Options::new().command([&program]).frequency_hz(499);
    let recording = record::run(&options, &AtomicBool::new(false), &mut |progress| {
        if let Progress::Warning(warning) = progress {
            eprintln!("warning: {}", warning.one_line());
        }
    });
    let profile = match recording {
        Ok(recording) => recording.profile,
        Err(Error::Permission { needs, .. }) => {
            eprintln!("skipped: needs {needs}");
            return;
        }
        Err(error) => panic!("{}", error.one_line()),
    };

    let rows: Vec<&Row> = profile
        .rows
        .iter()
        .filter(|row| row.activity == Activity::OnCpu)
        .collect();
    let begins = |name: &str| name == "main" || name.contains("thread_start");
    let (samples, whole) = share(&profile, &rows, &begins);
    assert!(samples > 200, "{samples} samples");
    assert!(whole >= 0.9, "{whole} of {samples} stacks are whole");

    for (route, handler) in HANDLERS {
        let of_route: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| {
                let context = &profile.contexts[row.context];
                let mut labels = context.labels.iter();
                labels.any(|(name, value)| name == "http.route" && value == route)
            })
            .collect();
        let (samples, named) = share(&profile, &of_route, &|name| name.starts_with(handler));
        assert!(samples > 50, "{samples} samples in {route}");
        assert!(named >= 0.9, "{handler} is in {named} of {samples} stacks");
        for (_, other) in HANDLERS.into_iter().filter(|&(_, other)| other != handler) {
            let (_, foreign) = share(&profile, &of_route, &|name| name.starts_with(other));
            assert_eq!(foreign, 0.0, "{other} in stacks of {route}");
        }
    }
    println!("{samples} stacks, {:.1} % of them whole", 100.0 * whole);
}
