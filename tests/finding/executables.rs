//! Symbols in the main executable, however it is linked.

use std::fs::File;
use std::path::Path;

use ebpf_reader::elf::Elf;
use ebpf_reader::{Error, process};

use crate::compile::{Compiler, folder, program, strip};
use crate::reader::Turn;
use crate::writer::Writer;

const CASES: [(&str, Compiler, &[&str]); 7] = [
    ("position-independent", Compiler::Gcc, &["-fPIE", "-pie"]),
    ("fixed", Compiler::Gcc, &["-fno-pie", "-no-pie"]),
    (
        "static, fixed",
        Compiler::Gcc,
        &["-fno-pie", "-no-pie", "-static", "-DNO_DLOPEN"],
    ),
    (
        "static-pie",
        Compiler::Gcc,
        &["-fPIE", "-static-pie", "-DNO_DLOPEN"],
    ),
    ("musl", Compiler::Musl, &["-fPIE", "-pie"]),
    (
        "musl, static, fixed",
        Compiler::Musl,
        &["-fno-pie", "-no-pie", "-static"],
    ),
    (
        "musl, static-pie",
        Compiler::Musl,
        &["-fPIE", "-static-pie"],
    ),
];

#[test]
fn however_it_is_linked() {
    let mut turn = Turn::take();
    let folder = folder();
    let mut programs = Vec::new();
    for compiler in [Compiler::Gcc, Compiler::Musl] {
        if !compiler.is_installed() {
            continue;
        }
        for (name, _, flags) in CASES.iter().filter(|case| case.1 == compiler) {
            let file = folder.path().join(name);
            programs.push(program(compiler, &file, flags));
            if *name != "static, fixed" && *name != "musl, static, fixed" {
                let stripped = file.with_file_name(format!("{name}, stripped"));
                std::fs::copy(&file, &stripped).expect("room for it");
                strip(&stripped);
                programs.push(stripped);
            }
        }
    }
    // All of them are compiled by now: they keep the CPUs busy.
    let mut writers = Vec::new();
    for program in &programs {
        let name = program.display().to_string();
        writers.push(Writer::start(&name, program, &[]));
        // The same, started by naming its dynamic loader, which is then the program that the kernel knows.
        let elf = Elf::read(&File::open(program).expect("just made")).expect("understood");
        if let Some(loader) = elf.interpreter {
            let name = format!("{loader} {name}");
            let program = program.to_str().expect("UTF-8");
            writers.push(Writer::start(&name, Path::new(&loader), &[program]));
        }
    }
    turn.read_all(&writers);
}

#[test]
fn a_stripped_one_at_a_fixed_address_is_told_why_nobody_finds_it() {
    for compiler in [Compiler::Gcc, Compiler::Musl] {
        if !compiler.is_installed() {
            continue;
        }
        let folder = folder();
        let flags = ["-fno-pie", "-no-pie", "-static", "-DNO_DLOPEN", "-s"];
        let file = program(compiler, &folder.path().join("stripped"), &flags);
        let writer = Writer::start("stripped", &file, &[]);
        let error = process::locate(writer.pid).unwrap_err();
        assert!(matches!(error, Error::NamelessStatic { .. }), "{error}");
        assert!(error.to_string().contains("static-pie"), "{error}");
    }
}
