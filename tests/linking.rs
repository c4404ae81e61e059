//! Whether profilers find the symbols in what linkers make of a program: profile by profile, linker by
//! linker.
//!
//! Each test builds fresh packages outside the workspace, looks into the linked file, and runs it.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[cfg(target_arch = "x86_64")]
#[path = "linking/aarch64.rs"]
mod aarch64;
#[cfg(target_arch = "x86_64")]
#[path = "linking/access.rs"]
mod access;
#[path = "linking/elf.rs"]
mod elf;
#[cfg(target_arch = "x86_64")]
#[path = "linking/musl.rs"]
mod musl;
#[path = "linking/package.rs"]
mod package;
#[path = "linking/shared_object.rs"]
mod shared_object;
#[cfg(target_arch = "x86_64")]
#[path = "linking/static_pie.rs"]
mod static_pie;

use std::path::Path;

use elf::{Linked, THREAD_CONTEXT};
use package::{Build, Linker, Package, Profile, run, workspace};

const EXECUTABLE: &str = include_str!("linking/programs/executable.rs");
const EXPORT: &str = "otel_profiling::build::export_symbols();";
const FIX: &str = "add `otel_profiling::build::export_symbols();` to build.rs";
const STUB: &str = "otel_profiling_exports";

/// How a program or shared object reports that all is well.
fn found(module: &Path, placement: &str) -> String {
    let names = "otel_thread_ctx_v1, custom_labels_current_set, custom_labels_abi_version";
    format!("found {names} in {} ({placement} TLS)\n", module.display())
}

/// Builds and runs `package`, and checks everything that must hold where the symbols are exported.
/// `None` if the default linker was asked for and is not LLD.
fn check_exported(package: &Package, build: &Build) -> Option<Linked> {
    let program = package.build(build);
    let linked = Linked::read(&program);
    let comment = linked.comment();
    if !build.linker.wrote(&comment) {
        assert_eq!(
            build.linker,
            Linker::Default,
            "another linker was used: {comment}"
        );
        println!("skipped: rustc's default linker is not LLD here");
        return None;
    }
    linked.assert_exports_all();
    assert!(
        !linked.needed().iter().any(|name| name.contains(STUB)),
        "{:?}",
        linked.needed()
    );
    let (out, _) = run(&program, &[], &[]);
    assert_eq!(out, found(&program, "static"), "{build:?}");
    Some(linked)
}

fn check_all_profiles(package: &Package, linker: Linker) {
    for profile in Profile::ALL {
        let build = Build {
            linker,
            profile,
            ..Build::default()
        };
        if check_exported(package, &build).is_some() {
            println!("{}, {profile:?}: exported", linker.name());
        }
    }
}

#[test]
fn the_default_linker_needs_no_build_script() {
    check_all_profiles(
        &Package::new("linking-default", EXECUTABLE),
        Linker::Default,
    );
}

#[test]
fn a_build_script_does_no_harm_with_the_default_linker() {
    let package = Package::new("linking-default-script", EXECUTABLE).with_build_script(EXPORT);
    check_exported(&package, &Build::default());
}

#[test]
fn gnu_ld_needs_a_build_script() {
    if Linker::Gnu.is_installed() {
        let package = Package::new("linking-gnu", EXECUTABLE).with_build_script(EXPORT);
        check_all_profiles(&package, Linker::Gnu);
    }
}

#[test]
fn mold_needs_a_build_script() {
    if Linker::Mold.is_installed() {
        let package = Package::new("linking-mold", EXECUTABLE).with_build_script(EXPORT);
        check_all_profiles(&package, Linker::Mold);
    }
}

#[test]
fn without_a_build_script_the_self_check_names_the_missing_line() {
    let package = Package::new("linking-missing", EXECUTABLE);
    for linker in [Linker::Gnu, Linker::Mold] {
        if !linker.is_installed() {
            continue;
        }
        let program = package.build(&Build {
            linker,
            ..Build::default()
        });
        let linked = Linked::read(&program);
        assert!(linker.wrote(&linked.comment()));
        assert_eq!(linked.exported(THREAD_CONTEXT), None);
        // The shared object that works for LLD does no harm here.
        assert!(
            !linked.needed().iter().any(|name| name.contains(STUB)),
            "{:?}",
            linked.needed()
        );
        let (out, _) = run(&program, &[], &[]);
        assert!(
            out.starts_with("error: ") && out.contains(FIX),
            "{}: {out}",
            linker.name()
        );
        assert_eq!(out.lines().count(), 1, "{out}");
    }
}

#[test]
fn the_automatic_export_can_be_turned_off() {
    let package = Package::new("linking-opt-out", EXECUTABLE);
    let program = package.build(&Build {
        opt_out: true,
        ..Build::default()
    });
    assert_eq!(Linked::read(&program).exported(THREAD_CONTEXT), None);
    let (out, _) = run(&program, &[], &[]);
    assert!(out.starts_with("error: ") && out.contains(FIX), "{out}");
}

#[test]
fn the_drop_in_tracer_alone_is_enough() {
    let package = Package::with_manifest(
        "linking-tracer",
        &format!(
            "otel-profiling-tracer = {{ path = {:?} }}\n\
             opentelemetry = \"0.33\"\n\
             opentelemetry_sdk = {{ version = \"0.33\", default-features = false, features = [\"trace\"] }}\n",
            workspace().join("otel-profiling-tracer")
        ),
    );
    package.write("src/main.rs", include_str!("linking/programs/tracer.rs"));
    let program = package.build(&Build::default());
    let linked = Linked::read(&program);
    if !Linker::Default.wrote(&linked.comment()) {
        println!("skipped: rustc's default linker is not LLD here");
        return;
    }
    linked.assert_exports_all();
    let (out, err) = run(&program, &[], &[]);
    assert_eq!((out.as_str(), err.as_str()), ("handled\n", ""));
}
