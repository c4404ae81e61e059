//! Shared objects that contain otel-profiling, loaded at run time.

use crate::elf::{CUSTOM_LABELS, Linked, THREAD_CONTEXT};
use crate::package::{Build, Linker, Package, Profile, run, workspace};
use crate::{STUB, found};

/// A package with a `cdylib`, which exports the symbols, and two programs that load it.
pub(crate) fn plug_in(name: &str) -> Package {
    hiding_plug_in(name).with_build_script(
        "otel_profiling::build::export_symbols_of_cdylib().expect(\"OUT_DIR is writable\");",
    )
}

/// The same without a build script.
fn hiding_plug_in(name: &str) -> Package {
    let package = Package::with_manifest(
        name,
        &format!(
            "otel-profiling = {{ path = {:?}, default-features = false, features = [\"custom-labels\"] }}\n\
             \n[lib]\ncrate-type = [\"cdylib\"]\n\
             \n[[bin]]\nname = \"{name}-host\"\npath = \"src/host.rs\"\n\
             \n[[bin]]\nname = \"{name}-publishing-host\"\npath = \"src/publishing_host.rs\"\n",
            workspace()
        ),
    );
    for (path, program) in [
        ("src/lib.rs", include_str!("programs/shared_object.rs")),
        ("src/host.rs", include_str!("programs/host.rs")),
        (
            "src/publishing_host.rs",
            include_str!("programs/publishing_host.rs"),
        ),
    ] {
        package.write(path, program);
    }
    package
}

#[test]
fn a_shared_object_loaded_at_run_time_is_found() {
    for linker in [Linker::Default, Linker::Mold] {
        if !linker.is_installed() {
            continue;
        }
        let name = format!(
            "linking-plug-in-{}",
            if linker == Linker::Mold {
                "mold"
            } else {
                "default"
            }
        );
        let package = plug_in(&name);
        let build = Build {
            linker,
            profile: Profile::Release,
            ..Build::default()
        };
        let file = format!("lib{}.so", name.replace('-', "_"));
        let object = package.build_target(&build, &["--lib"], &file);
        let linked = Linked::read(&object);
        if !linker.wrote(&linked.comment()) {
            println!(
                "skipped: rustc's default linker is not LLD here, and GNU ld takes no second version script"
            );
            continue;
        }
        linked.assert_exports_all();
        assert!(!linked.needed().iter().any(|name| name.contains(STUB)));
        for symbol in [THREAD_CONTEXT, CUSTOM_LABELS] {
            assert_eq!(linked.tls_descriptors(symbol).len(), 1, "{symbol}");
        }
        #[cfg(target_arch = "x86_64")]
        crate::access::check_canonical_access(&linked);

        let host_build = Build {
            profile: Profile::Release,
            ..Build::default()
        };
        let host_name = format!("{name}-host");
        let host = package.build_target(&host_build, &["--bin", &host_name], &host_name);
        let (out, _) = run(&host, &[&object], &[]);
        assert_eq!(out, found(&object, "static").repeat(3), "{}", linker.name());
        let tunables = [("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=0")];
        let (out, _) = run(&host, &[&object], &tunables);
        if cfg!(target_env = "gnu") {
            assert_eq!(
                out,
                found(&object, "dynamic").repeat(3),
                "{}",
                linker.name()
            );
        }

        let host_name = format!("{name}-publishing-host");
        let host = package.build_target(&host_build, &["--bin", &host_name], &host_name);
        if Linked::read(&host).exported(THREAD_CONTEXT).is_none() {
            println!("skipped: the program exports nothing that could interpose");
            continue;
        }
        let (out, _) = run(&host, &[&object], &[]);
        let lines: Vec<_> = out.lines().collect();
        let interposed = format!("is interposed by {}", host.display());
        assert!(
            lines.len() == 4 && lines[..3].iter().all(|line| line.contains(&interposed)),
            "{out}"
        );
        assert!(
            lines[3].ends_with(&format!("defined by {} too", object.display())),
            "{out}"
        );
    }
}

#[test]
fn a_shared_object_that_hides_the_symbols_says_so() {
    let package = hiding_plug_in("linking-hiding");
    let build = Build::default();
    let object = package.build_target(&build, &["--lib"], "liblinking_hiding.so");
    assert_eq!(Linked::read(&object).exported(THREAD_CONTEXT), None);
    let host = package.build_target(
        &build,
        &["--bin", "linking-hiding-host"],
        "linking-hiding-host",
    );
    let (out, _) = run(&host, &[&object], &[]);
    let fix = "add `otel_profiling::build::export_symbols_of_cdylib()?;` to build.rs";
    assert!(
        out.lines().count() == 3 && out.lines().all(|line| line.contains(fix)),
        "{out}"
    );
}
