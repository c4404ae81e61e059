//! Writers in Rust, which publish with otel-profiling itself.

use std::process::Command;

use crate::package::{Build, Linker, Package, workspace};
use crate::reader::Turn;
use crate::shared_objects::{Block, NO_SURPLUS, expect};
use crate::writer::Writer;

const BODY: &str = include_str!("programs/body.rs");

#[test]
fn programs_and_plug_ins_in_rust() {
    let package = Package::new("finding-rust", include_str!("programs/main.rs"))
        .with_build_script("otel_profiling::build::export_symbols();");
    package.write("src/body.rs", BODY);
    let mut commands = vec![(
        "Rust, position-independent",
        Command::new(package.build(&Build::default())),
        Block::Static,
    )];
    if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        let program = package.build(&Build {
            target: Some("x86_64-unknown-linux-gnu"),
            rustflags: Some("-Ctarget-feature=+crt-static"),
            ..Build::default()
        });
        commands.push(("Rust, static-pie", Command::new(program), Block::Static));
    }
    if Linker::Lld.is_installed() {
        let name = "finding-plug-in";
        let package = Package::with_manifest(
            name,
            &format!(
                "otel-profiling = {{ path = {:?}, default-features = false, features = [\"custom-labels\"] }}\n\
                 \n[lib]\ncrate-type = [\"cdylib\"]\n\
                 \n[[bin]]\nname = \"{name}-host\"\npath = \"src/host.rs\"\n",
                workspace()
            ),
        )
        .with_build_script(
            "otel_profiling::build::export_symbols_of_cdylib().expect(\"OUT_DIR is writable\");",
        );
        package.write("src/body.rs", BODY);
        package.write("src/lib.rs", include_str!("programs/lib.rs"));
        package.write("src/host.rs", include_str!("programs/host.rs"));
        let build = Build {
            linker: Linker::Lld,
            ..Build::default()
        };
        let object = package.build_target(&build, &["--lib"], "libfinding_plug_in.so");
        let host = format!("{name}-host");
        let host = package.build_target(&build, &["--bin", &host], &host);
        let load = || {
            let mut command = Command::new(&host);
            command.arg(&object);
            command
        };
        let in_static = if cfg!(target_env = "gnu") {
            Block::Static
        } else {
            Block::Dynamic
        };
        commands.push(("Rust, plug-in", load(), in_static));
        let mut command = load();
        command.env(NO_SURPLUS.0, NO_SURPLUS.1);
        commands.push(("Rust, plug-in, dynamic", command, Block::Dynamic));
    }
    let mut turn = Turn::take();
    let writers: Vec<Writer> = commands
        .into_iter()
        .map(|(name, mut command, block)| {
            let writer = Writer::run(name, &mut command).in_rust();
            expect(&writer, block, 1);
            writer
        })
        .collect();
    turn.read_all(&writers);
}
