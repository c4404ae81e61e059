//! With musl's dynamic loader, which unlike glibc's knows no lazy binding and no reserve of static TLS.
//! `.ci/musl` provides for all that it needs; static programs are in `static_pie`.

use std::path::Path;
use std::process::Command;

use crate::elf::{CUSTOM_LABELS, Linked, THREAD_CONTEXT};
use crate::package::{Build, Linker, Package, Profile, run};
use crate::shared_object::plug_in;
use crate::{EXECUTABLE, EXPORT, check_exported, found};

pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
/// Debian's name for a C compiler driver that links with musl.
const DRIVER: &str = "-Clinker=musl-gcc";

/// Whether rustc has a standard library for the target; says so when not.
pub(crate) fn is_installed() -> bool {
    let folder = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .expect("rustc runs");
    let is_installed = Path::new(String::from_utf8_lossy(&folder.stdout).trim()).is_dir();
    if !is_installed {
        println!(
            "skipped: rustc has no standard library for {TARGET} (`rustup target add {TARGET}`, or run .ci/musl)"
        );
    }
    is_installed
}

fn dynamic(linker: Linker, profile: Profile) -> Build {
    Build {
        linker,
        profile,
        target: Some(TARGET),
        rustflags: Some("-Ctarget-feature=-crt-static"),
        rustc_arguments: &[DRIVER],
        ..Build::default()
    }
}

fn can_link_dynamically() -> bool {
    let is_possible = Command::new("musl-gcc").arg("--version").output().is_ok();
    if !is_possible {
        println!("skipped: musl-gcc is not installed");
    }
    is_installed() && is_possible
}

#[test]
fn dynamic_programs_with_musl() {
    if !can_link_dynamically() {
        return;
    }
    let package = Package::new("linking-musl-dynamic", EXECUTABLE);
    let script = Package::new("linking-musl-script", EXECUTABLE).with_build_script(EXPORT);
    for (package, linker) in [
        // As with glibc, LLD needs no build script.
        (&package, Linker::Lld),
        (&script, Linker::Gnu),
        (&script, Linker::Mold),
    ] {
        if !linker.is_installed() {
            continue;
        }
        for profile in [Profile::Debug, Profile::Stripped] {
            let linked = check_exported(package, &dynamic(linker, profile))
                .expect("a linker that was named");
            assert_eq!(linked.is_pie_and_dynamic(), (true, true));
            // The name of musl itself: glibc's is `libc.so.6`.
            assert_eq!(linked.needed(), ["libc.so"]);
            println!("{}, {profile:?}, musl, dynamic: exported", linker.name());
        }
    }
}

#[test]
fn a_shared_object_with_musl_is_found() {
    if !can_link_dynamically() {
        return;
    }
    let name = "linking-musl-plug-in";
    let package = plug_in(name);
    for linker in [Linker::Lld, Linker::Mold] {
        if !linker.is_installed() {
            continue;
        }
        let build = dynamic(linker, Profile::Release);
        let object = package.build_target(&build, &["--lib"], "liblinking_musl_plug_in.so");
        let linked = Linked::read(&object);
        linked.assert_exports_all();
        for symbol in [THREAD_CONTEXT, CUSTOM_LABELS] {
            assert_eq!(linked.tls_descriptors(symbol).len(), 1, "{symbol}");
        }
        crate::access::check_canonical_access(&linked);
        let host = format!("{name}-host");
        let host = package.build_target(&build, &["--bin", &host], &host);
        let (out, _) = run(&host, &[&object], &[]);
        assert_eq!(
            out,
            found(&object, "dynamic").repeat(3),
            "{}",
            linker.name()
        );
        println!("{}, musl, shared object: found", linker.name());
    }
}
