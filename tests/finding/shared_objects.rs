//! Symbols in shared objects: linked, preloaded, loaded at run time; in static and dynamic thread-local
//! storage; by each access model.

use std::path::Path;
use std::process::Command;

use ebpf_reader::process::{ElfFiles, Locator};
use ebpf_reader::sample::{MAX_PLACES, Place};

use crate::compile::{
    Compiler, DESCRIPTORS, GENERAL_DYNAMIC, INITIAL_EXEC, LARGE, folder, has_linker, host, object,
    program,
};
use crate::reader::Turn;
use crate::writer::Writer;

/// Where a shared object's block is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Static,
    Dynamic,
}

/// Expects all places of both pointers to be of one kind.
pub(crate) fn expect(writer: &Writer, block: Block, count: usize) {
    let mut locator = Locator::new(writer.pid);
    let locations = locator
        .refresh(&mut ElfFiles::new())
        .expect("it can be read");
    for places in [locations.thread_context, locations.custom_labels] {
        let blocks: Vec<_> = places
            .iter()
            .map(|place| match place {
                Place::Static { .. } => Block::Static,
                Place::Dynamic { .. } => Block::Dynamic,
            })
            .collect();
        assert_eq!(blocks, vec![block; count], "{}: {locator:#?}", writer.name);
    }
}

/// Starts the writers, which have one place each, and reads them. All of them are compiled by now: they keep
/// the CPUs busy.
fn read_cases(turn: &mut Turn, cases: Vec<(String, Command, Block)>) {
    let writers: Vec<Writer> = cases
        .into_iter()
        .map(|(name, mut command, block)| {
            let writer = Writer::run(&name, &mut command);
            expect(&writer, block, 1);
            writer
        })
        .collect();
    turn.read_all(&writers);
}

/// Makes glibc put what is loaded later into dynamic storage.
pub(crate) const NO_SURPLUS: (&str, &str) = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=0");

#[test]
fn loaded_at_run_time() {
    let mut turn = Turn::take();
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let mut cases: Vec<(String, Command, Block)> = Vec::new();
    for (compiler, of_compiler) in [
        (
            Compiler::Gcc,
            &[
                ("descriptors", &[DESCRIPTORS][..], Block::Static),
                ("descriptors, large", &[DESCRIPTORS, LARGE], Block::Dynamic),
                ("general dynamic", &[GENERAL_DYNAMIC], Block::Dynamic),
                ("initial exec", &[INITIAL_EXEC], Block::Static),
                (
                    "descriptors, own",
                    &[DESCRIPTORS, "-fuse-ld=lld", "-Wl,-Bsymbolic"],
                    Block::Static,
                ),
                (
                    "general dynamic, own, lld",
                    &[GENERAL_DYNAMIC, "-fuse-ld=lld", "-Wl,-Bsymbolic"],
                    Block::Dynamic,
                ),
                (
                    "general dynamic, own, mold",
                    &[GENERAL_DYNAMIC, "-fuse-ld=mold", "-Wl,-Bsymbolic"],
                    Block::Dynamic,
                ),
            ][..],
        ),
        (
            Compiler::Musl,
            &[
                ("musl, descriptors", &[DESCRIPTORS][..], Block::Dynamic),
                ("musl, general dynamic", &[GENERAL_DYNAMIC], Block::Dynamic),
            ],
        ),
    ] {
        if !compiler.is_installed() {
            continue;
        }
        let host = host(compiler, &path(&format!("{compiler:?}")), &[]);
        for (name, flags, block) in of_compiler {
            let linker = flags.iter().find_map(|flag| flag.strip_prefix("-fuse-ld="));
            let linker = linker.map(|linker| if linker == "lld" { "ld.lld" } else { linker });
            if linker.is_some_and(|linker| !has_linker(linker)) {
                continue;
            }
            let object = object(compiler, &path(name), flags);
            let load = || {
                let mut command = Command::new(&host);
                command.arg("open").arg(&object);
                command
            };
            cases.push(((*name).to_owned(), load(), *block));
            if *name == "descriptors" {
                let mut command = load();
                command.env(NO_SURPLUS.0, NO_SURPLUS.1);
                let name = "descriptors, without a reserve".to_owned();
                cases.push((name, command, Block::Dynamic));
            }
        }
    }
    read_cases(&mut turn, cases);
}

#[test]
fn linked_and_preloaded() {
    let mut turn = Turn::take();
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let mut cases = Vec::new();
    for compiler in [Compiler::Gcc, Compiler::Musl] {
        if !compiler.is_installed() {
            continue;
        }
        // Linked with a `publish` that does nothing, which the preloaded one goes before.
        let nothing = object(
            compiler,
            &path(&format!("{compiler:?}-nothing.so")),
            &["-DEXTERN", "-DNO_USE"],
        );
        let flags = ["-DLINKED", &text(&nothing)];
        let preloading = host(compiler, &path(&format!("{compiler:?}-preload")), &flags);
        let small: [(&str, &[&str]); 3] = [
            ("descriptors", &[DESCRIPTORS]),
            ("general dynamic", &[GENERAL_DYNAMIC]),
            ("initial exec", &[INITIAL_EXEC]),
        ];
        for (model, flags) in small {
            let object = object(
                compiler,
                &path(&format!("{compiler:?}{}.so", flags[0])),
                flags,
            );
            let block = if model == "general dynamic" {
                Block::Dynamic
            } else {
                Block::Static
            };
            let program = host(
                compiler,
                &path(&format!("{compiler:?}-{model}")),
                &["-DLINKED", &text(&object)],
            );
            let name = format!("{compiler:?}, linked, {model}");
            cases.push((name, Command::new(program), block));
            let name = format!("{compiler:?}, preloaded, {model}");
            let mut command = Command::new(&preloading);
            command.env("LD_PRELOAD", &object);
            cases.push((name, command, block));
        }
        // Defined in an object that does not use them, and used by the executable.
        let object = object(
            compiler,
            &path(&format!("{compiler:?}-unused.so")),
            &[DESCRIPTORS, "-DPUBLISH=unused", "-DNO_USE"],
        );
        let program = host(
            compiler,
            &path(&format!("{compiler:?}-user")),
            &["-DLINKED", "-DEXTERN", "block.c", &text(&object)],
        );
        let name = format!("{compiler:?}, used from outside");
        cases.push((name, Command::new(program), Block::Static));
    }
    read_cases(&mut turn, cases);
}

#[test]
fn several_modules_with_the_symbols() {
    let mut turn = Turn::take();
    if !Compiler::Gcc.is_installed() || !has_linker("ld.lld") {
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let own = ["-fuse-ld=lld", "-Wl,-Bsymbolic", DESCRIPTORS];
    let objects: Vec<String> = (0..MAX_PLACES + 1)
        .map(|n| text(&object(Compiler::Gcc, &path(&format!("{n}.so")), &own)))
        .collect();
    let mut writers = Vec::new();

    // One thread publishes in the executable, the other one in an object that has its own.
    let both = program(Compiler::Gcc, &path("both"), &["-fPIE", "-pie"]);
    writers.push(Writer::start(
        "executable and object",
        &both,
        &["again", &objects[0]],
    ));
    expect(&writers[0], Block::Static, 2);

    // An object that takes what the executable has.
    let interposed = object(Compiler::Gcc, &path("interposed.so"), &[DESCRIPTORS]);
    writers.push(Writer::start(
        "interposed",
        &both,
        &["again", &text(&interposed)],
    ));
    expect(&writers[1], Block::Static, 1);

    // Two objects, in dynamic storage.
    let host = host(Compiler::Gcc, &path("host"), &[]);
    let arguments = ["open", &objects[0], "again", &objects[1]];
    let mut command = Command::new(&host);
    command.args(arguments).env(NO_SURPLUS.0, NO_SURPLUS.1);
    writers.push(Writer::run("two objects", &mut command));
    expect(&writers[2], Block::Dynamic, 2);
    turn.read_all(&writers);

    // More than are looked at.
    let arguments: Vec<&str> = objects.iter().flat_map(|object| ["open", object]).collect();
    let writer = Writer::start("too many", &host, &arguments);
    let mut locator = Locator::new(writer.pid);
    locator
        .refresh(&mut ElfFiles::new())
        .expect("it can be read");
    assert_eq!(locator.left_out(), 2, "one for each pointer: {locator:#?}");
}
