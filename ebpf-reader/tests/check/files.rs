//! Rules of the symbols in a file: good files with a few bytes changed, and files that were linked otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebpf_reader::check::{self, Report, Rule, Target, Verdict};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader as _, SectionHeader as _};

use super::build::{EXPORT, writer};
use super::{assert_breaks, options, with};

const CONTEXT: &str = "otel_thread_ctx_v1";
const LABELS: &str = "custom_labels_current_set";
const VERSION: &str = "custom_labels_abi_version";

/// The rules that a test of this file breaks, and the two of addresses in `processes`.
pub(crate) const BROKEN: &[Rule] = &[
    Rule::ContextSymbol,
    Rule::ContextType,
    Rule::ContextBinding,
    Rule::ContextVisibility,
    Rule::ContextSize,
    Rule::ContextHash,
    Rule::ContextAccess,
    Rule::ContextAddress,
    Rule::LabelsSymbol,
    Rule::LabelsType,
    Rule::LabelsBinding,
    Rule::LabelsVisibility,
    Rule::LabelsSize,
    Rule::LabelsHash,
    Rule::LabelsAccess,
    Rule::LabelsAddress,
    Rule::LabelsVersion,
];

fn check(path: &Path) -> Report {
    check::run(&Target::File(path.to_owned()), &options()).unwrap()
}

/// Where things lie in a file.
struct Positions {
    symbol: usize,
    /// The entry of the symbol in the chains of DT_GNU_HASH.
    chain: usize,
    /// The object's bytes.
    value: usize,
}

fn positions(file: &[u8], name: &str) -> Positions {
    let header = elf::FileHeader64::<LE>::parse(file).unwrap();
    let sections = header.sections(LE, file).unwrap();
    let symbols = sections.symbols(LE, file, elf::SHT_DYNSYM).unwrap();
    let (index, symbol) = symbols
        .enumerate()
        .find(|(_, symbol)| symbols.strings().get(symbol.st_name.get(LE)) == Ok(name.as_bytes()))
        .unwrap();
    let table = sections
        .iter()
        .find(|section| section.sh_type(LE) == elf::SHT_DYNSYM)
        .unwrap();
    let hash = sections
        .iter()
        .find(|section| section.sh_type(LE) == elf::SHT_GNU_HASH)
        .unwrap();
    let at = hash.sh_offset(LE) as usize;
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (buckets, base, bloom) = (word(at), word(at + 4), word(at + 8));
    let home = sections
        .iter()
        .nth(usize::from(symbol.st_shndx.get(LE)))
        .unwrap();
    Positions {
        symbol: table.sh_offset(LE) as usize + index.0 * 24,
        chain: at + 16 + bloom * 8 + buckets * 4 + (index.0 - base) * 4,
        value: (symbol.st_value.get(LE).wrapping_sub(home.sh_addr(LE)) + home.sh_offset(LE))
            as usize,
    }
}

/// A copy of the good writer with something changed.
fn changed(name: &str, what: &str, change: impl FnOnce(&mut [u8], Positions)) -> PathBuf {
    let good = writer(&EXPORT);
    let mut bytes = fs::read(&good).unwrap();
    let positions = positions(&bytes, name);
    change(&mut bytes, positions);
    let path = good.with_file_name(format!("{name}-{what}"));
    fs::write(&path, bytes).unwrap();
    path
}

// Offsets in a symbol: name 4, info 1, other 1, section 2, value 8, size 8.
const INFO: usize = 4;
const OTHER: usize = 5;
const SIZE: usize = 16;

#[test]
fn a_good_file_passes_all_that_applies_to_a_file() {
    let report = check(&writer(&EXPORT));
    assert!(report.passed(), "{report:#?}");
    assert_eq!(with(&report, Verdict::Passed).len(), 15);
    let finding = report.finding(Rule::RecordIds).unwrap();
    assert_eq!(finding.found, "needs a running process");
}

#[test]
fn changed_symbols() {
    let cases = [
        (
            CONTEXT,
            Rule::ContextType,
            Rule::ContextBinding,
            Rule::ContextVisibility,
            Rule::ContextSize,
            Rule::ContextHash,
        ),
        (
            LABELS,
            Rule::LabelsType,
            Rule::LabelsBinding,
            Rule::LabelsVisibility,
            Rule::LabelsSize,
            Rule::LabelsHash,
        ),
    ];
    for (name, kind, binding, visibility, size, hash) in cases {
        let broken = |rule: Rule, found: &str, fix: &str, change: &dyn Fn(&mut [u8], Positions)| {
            let path = changed(name, rule.name(), change);
            assert_breaks(&check(&path), rule, found, fix);
        };
        broken(kind, "STT_OBJECT", "thread-local", &|file, at| {
            file[at.symbol + INFO] = elf::STB_GLOBAL << 4 | elf::STT_OBJECT;
        });
        broken(binding, "local", ".globl", &|file, at| {
            file[at.symbol + INFO] = elf::STB_LOCAL << 4 | elf::STT_TLS;
        });
        for (other, found) in [
            (elf::STV_HIDDEN, "hidden"),
            (elf::STV_PROTECTED, "protected"),
        ] {
            broken(visibility, found, "default visibility", &|file, at| {
                file[at.symbol + OTHER] = other;
            });
        }
        broken(size, "4 bytes", ".size 8", &|file, at| {
            file[at.symbol + SIZE] = 4;
        });
        broken(
            hash,
            "DT_GNU_HASH does not lead to it",
            "--hash-style=gnu",
            &|file, at| {
                file[at.chain + 2] ^= 0xff;
            },
        );
        // Weak is as good as global.
        let weak = changed(name, "weak", |file, at| {
            file[at.symbol + INFO] = elf::STB_WEAK << 4 | elf::STT_TLS;
        });
        assert!(check(&weak).passed());
    }
}

#[test]
fn the_version_of_the_labels() {
    let broken = |what: &str, found: &str, change: &dyn Fn(&mut [u8], Positions)| {
        let path = changed(VERSION, what, change);
        assert_breaks(
            &check(&path),
            Rule::LabelsVersion,
            found,
            "an object of 4 bytes",
        );
    };
    broken("value", "the value 2", &|file, at| file[at.value] = 2);
    broken("size", "8 bytes", &|file, at| file[at.symbol + SIZE] = 8);
    broken("kind", "not an object", &|file, at| {
        file[at.symbol + INFO] = elf::STB_GLOBAL << 4 | elf::STT_FUNC;
    });
    let path = writer(&EXPORT[..2]);
    assert_breaks(
        &check(&path),
        Rule::LabelsVersion,
        "not exported",
        "--export-dynamic-symbol",
    );
}

#[test]
fn symbols_that_are_not_exported() {
    let path = writer(&EXPORT[1..]);
    assert_breaks(
        &check(&path),
        Rule::ContextSymbol,
        "defined, but not exported",
        "otel_profiling::build::export_symbols(); in build.rs, or the linker flag \
         -Wl,--export-dynamic-symbol=otel_thread_ctx_v1",
    );
    let path = writer(&[EXPORT[0], EXPORT[2]]);
    assert_breaks(
        &check(&path),
        Rule::LabelsSymbol,
        "defined, but not exported",
        "-Wl,--export-dynamic-symbol=custom_labels_current_set",
    );
}

#[test]
fn static_executables() {
    let fixed = ["-static", "-no-pie", "-DNO_LABELS"];
    let path = writer(&[&fixed[..], &EXPORT].concat());
    assert_breaks(
        &check(&path),
        Rule::ContextSymbol,
        "only in .symtab",
        "static-pie",
    );
    let path = writer(&[&fixed[..], &EXPORT, &["-s"]].concat());
    assert_breaks(
        &check(&path),
        Rule::ContextSymbol,
        "nobody can find",
        "static-pie",
    );
    // What the fix says helps.
    let path = writer(&[&["-static-pie", "-s"][..], &EXPORT].concat());
    assert!(check(&path).passed(), "{:#?}", check(&path));
}

#[test]
fn access_models_of_shared_objects() {
    let shared = |arguments: &[&str]| writer(&[&["-shared", "-fPIC"][..], arguments].concat());
    for (without, rule) in [
        ("-DNO_LABELS", Rule::ContextAccess),
        ("-DNO_CONTEXT", Rule::LabelsAccess),
    ] {
        let path = shared(&[without, "-ftls-model=local-dynamic"]);
        assert_breaks(&check(&path), rule, "local dynamic", "-mtls-dialect=gnu2");
        let mut models = vec![("-ftls-model=initial-exec", "initial exec")];
        if cfg!(target_arch = "x86_64") {
            models.push(("-mtls-dialect=gnu2", "TLSDESC"));
            models.push(("-mtls-dialect=gnu", "general dynamic"));
        } else {
            models.push(("-mtls-dialect=desc", "TLSDESC"));
            models.push(("-mtls-dialect=trad", "general dynamic"));
        }
        for (argument, found) in models {
            let report = check(&shared(&[without, argument]));
            assert!(report.passed(), "{argument}: {report:#?}");
            assert_eq!(report.finding(rule).unwrap().found, found);
        }
    }
}

#[test]
fn a_program_that_publishes_nothing_is_told_what_is_missing() {
    let report = check(Path::new("/bin/true"));
    assert_breaks(
        &report,
        Rule::ContextSymbol,
        "the file does not define it",
        "otel_profiling_tracer::wrap(provider)",
    );
    let labels = report.finding(Rule::LabelsSymbol).unwrap();
    assert_eq!(labels.verdict, Verdict::NotApplicable);
    assert!(labels.found.contains("(crate feature `custom-labels`)"));
}

#[test]
fn a_stripped_file_without_section_headers_is_read_all_the_same() {
    let good = writer(&EXPORT);
    let path = good.with_file_name("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&path)
        .arg(&good)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(check(&path).passed());
    let mut bytes = fs::read(&path).unwrap();
    // e_shoff, then e_shnum and e_shstrndx.
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    fs::write(&path, bytes).unwrap();
    let report = check(&path);
    assert!(report.passed(), "{report:#?}");
}
