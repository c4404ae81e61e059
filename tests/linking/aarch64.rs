//! The same on aarch64, cross-compiled and emulated. `.ci/aarch64` provides for all that it needs.

use crate::elf::{CUSTOM_LABELS, Linked, THREAD_CONTEXT};
use crate::package::{Build, Linker, Package, emulate};
use crate::shared_object::plug_in;
use crate::{EXECUTABLE, EXPORT, FIX, found};

#[test]
fn programs_and_shared_objects_are_found() {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    const RUNNER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER";
    let Ok(runner) = std::env::var(RUNNER) else {
        println!("skipped: {RUNNER} is not set; run .ci/aarch64");
        return;
    };
    let build = |linker, rustflags| Build {
        linker,
        rustflags,
        target: Some(TARGET),
        ..Build::default()
    };
    let package = Package::new("linking-arm-missing", EXECUTABLE);
    let program = package.build(&build(Linker::Gnu, None));
    let (out, _) = emulate(&runner, &program, &[], &[]);
    assert!(out.starts_with("error: ") && out.contains(FIX), "{out}");

    // rustc has no static-pie for this target.
    let program = package.build(&build(Linker::Gnu, Some("-Ctarget-feature=+crt-static")));
    assert_eq!(Linked::read(&program).is_pie_and_dynamic(), (false, false));
    let (out, _) = emulate(&runner, &program, &[], &[]);
    assert!(out.contains("link it dynamically"), "{out}");

    // With LLD the build script is not needed on this architecture either.
    let script = |name| Package::new(name, EXECUTABLE).with_build_script(EXPORT);
    for (package, linker) in [
        (package, Linker::Lld),
        (script("linking-arm-lld"), Linker::Lld),
        (script("linking-arm-gnu"), Linker::Gnu),
    ] {
        if !linker.is_installed() {
            continue;
        }
        let program = package.build(&build(linker, None));
        Linked::read(&program).assert_exports_all();
        let (out, _) = emulate(&runner, &program, &[], &[]);
        assert_eq!(out, found(&program, "static"), "{}", linker.name());
        println!("aarch64, {}: exported", linker.name());
    }

    if Linker::Lld.is_installed() {
        let package = plug_in("linking-arm-plug-in");
        let build = build(Linker::Lld, None);
        let object = package.build_target(&build, &["--lib"], "liblinking_arm_plug_in.so");
        let linked = Linked::read(&object);
        linked.assert_exports_all();
        for symbol in [THREAD_CONTEXT, CUSTOM_LABELS] {
            assert_eq!(linked.tls_descriptors(symbol).len(), 1, "{symbol}");
        }
        let host = "linking-arm-plug-in-host";
        let host = package.build_target(&build, &["--bin", host], host);
        for (tunables, placement) in [
            ("", "static"),
            ("glibc.rtld.optional_static_tls=0", "dynamic"),
        ] {
            let (out, _) = emulate(&runner, &host, &[&object], &[("GLIBC_TUNABLES", tunables)]);
            assert_eq!(out, found(&object, placement).repeat(3));
            println!("aarch64, shared object, {placement} TLS: found");
        }
    }
}
