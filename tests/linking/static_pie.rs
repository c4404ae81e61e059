//! Static executables: found as static-pie, and told what to do at a fixed address.

use crate::elf::Linked;
use crate::package::{Build, Linker, Package, run};
use crate::{EXECUTABLE, EXPORT, check_exported, musl};

#[test]
fn static_pie_with_the_c_library_inside() {
    let package = Package::new("linking-static", EXECUTABLE).with_build_script(EXPORT);
    let target = "x86_64-unknown-linux-gnu";
    check_static(&package, target, "-Ctarget-feature=+crt-static");

    // At a fixed address there is no `.dynsym`; the self check says what to do.
    let program = package.build(&Build {
        target: Some(target),
        rustflags: Some("-Ctarget-feature=+crt-static"),
        rustc_arguments: &["-Crelocation-model=static"],
        ..Build::default()
    });
    assert_eq!(Linked::read(&program).is_pie_and_dynamic(), (false, false));
    let (out, _) = run(&program, &[], &[]);
    assert!(out.contains("link it static-pie"), "{out}");
}

#[test]
fn static_pie_with_musl() {
    if !musl::is_installed() {
        return;
    }
    let package = Package::new("linking-musl", EXECUTABLE).with_build_script(EXPORT);
    check_static(&package, musl::TARGET, "-Ctarget-feature=+crt-static");
}

fn check_static(package: &Package, target: &'static str, rustflags: &'static str) {
    for linker in [Linker::Default, Linker::Gnu, Linker::Mold] {
        if !linker.is_installed() {
            continue;
        }
        let build = Build {
            linker,
            target: Some(target),
            rustflags: Some(rustflags),
            ..Build::default()
        };
        if let Some(linked) = check_exported(package, &build) {
            assert_eq!(linked.is_pie_and_dynamic(), (true, false), "{build:?}");
            println!("{}, static-pie: exported", linker.name());
        }
    }
}
