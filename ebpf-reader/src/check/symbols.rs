//! Rules of the symbols in a file: what its tables say about them, and how code gets at them.

use object::elf;
use otel_profiling::abi::custom_labels::{self, VERSION, VERSION_SYMBOL};
use otel_profiling::abi::thread_context;

use super::ledger::Ledger;
use super::module::Module;
use super::{Rule, plural};
use crate::elf::{Access, Kind, Named, Pointer, Symbol};

/// The rules of one pointer's symbol.
#[derive(Debug)]
pub(super) struct SymbolRules {
    pub(super) symbol: Rule,
    kind: Rule,
    binding: Rule,
    visibility: Rule,
    size: Rule,
    hash: Rule,
    pub(super) access: Rule,
    pub(super) address: Rule,
}

impl SymbolRules {
    /// Those of a pointer.
    pub(super) const fn of(pointer: Pointer) -> &'static Self {
        match pointer {
            Pointer::ThreadContext => &Self {
                symbol: Rule::ContextSymbol,
                kind: Rule::ContextType,
                binding: Rule::ContextBinding,
                visibility: Rule::ContextVisibility,
                size: Rule::ContextSize,
                hash: Rule::ContextHash,
                access: Rule::ContextAccess,
                address: Rule::ContextAddress,
            },
            Pointer::CustomLabels => &Self {
                symbol: Rule::LabelsSymbol,
                kind: Rule::LabelsType,
                binding: Rule::LabelsBinding,
                visibility: Rule::LabelsVisibility,
                size: Rule::LabelsSize,
                hash: Rule::LabelsHash,
                access: Rule::LabelsAccess,
                address: Rule::LabelsAddress,
            },
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> [Rule; 8] {
        [
            self.symbol,
            self.kind,
            self.binding,
            self.visibility,
            self.size,
            self.hash,
            self.access,
            self.address,
        ]
    }
}

/// What is told of a file without a hash table.
const NO_TABLE: &str = "no hash table";

/// Judges all files together. `what` is what they make up: a program with its shared objects, or one file.
pub(super) fn judge(ledger: &mut Ledger, modules: &[Module], what: &str) {
    let mut defined = [false; 2];
    for (pointer, defined) in Pointer::ALL.into_iter().zip(&mut defined) {
        for module in modules {
            *defined |= judge_one(ledger, module, pointer);
        }
    }
    let [context, labels] = defined;
    if !context {
        missing_context(ledger, modules, what, labels);
    }
    if !labels {
        let why = format!(
            "{} is not defined; Parca Agent needs it (crate feature `custom-labels`)",
            custom_labels::SYMBOL
        );
        ledger.skip(Rule::LabelsSymbol, why);
        ledger.skip_all(
            &SymbolRules::of(Pointer::CustomLabels).all(),
            "no such symbol",
        );
        ledger.skip(Rule::LabelsVersion, "no custom labels");
    }
    for pointer in Pointer::ALL {
        ledger.skip_all(&SymbolRules::of(pointer).all(), "not in .dynsym");
    }
    ledger.skip(Rule::LabelsVersion, "not in .dynsym");
}

fn missing_context(ledger: &mut Ledger, modules: &[Module], what: &str, labels: bool) {
    let rule = Rule::ContextSymbol;
    let is_nameless = modules
        .iter()
        .any(|module| module.is_executable && module.elf.is_nameless());
    if is_nameless {
        ledger.fail(
            rule,
            "a stripped static executable at a fixed address: nobody can find a symbol in it",
            static_fix(thread_context::SYMBOL),
        );
    } else if labels {
        ledger.skip(
            rule,
            format!(
                "{} is not defined: custom labels alone",
                thread_context::SYMBOL
            ),
        );
    } else {
        ledger.fail(
            rule,
            format!("{what} does not define it"),
            "add otel-profiling-tracer and call otel_profiling_tracer::wrap(provider); if the program does that, \
             have the linker export the symbols: otel_profiling::build::export_symbols(); in its build.rs",
        );
    }
    ledger.skip_all(
        &SymbolRules::of(Pointer::ThreadContext).all(),
        "no such symbol",
    );
}

/// Judges what one file says about one pointer; `false` if it does not define it.
fn judge_one(ledger: &mut Ledger, module: &Module, pointer: Pointer) -> bool {
    let rules = SymbolRules::of(pointer);
    let named = module.elf.named(pointer);
    let name = &module.name;
    let Some(symbol) = named.exported.or(named.in_dynsym) else {
        if named.in_symtab.is_none() {
            return false;
        }
        let (found, fix) = not_exported(module, pointer.symbol());
        ledger.fail(rules.symbol, found, fix);
        return true;
    };
    ledger.pass_with(rules.symbol, name.clone());
    kind(ledger, rules.kind, name, &symbol);
    binding(ledger, rules.binding, name, &symbol);
    visibility(ledger, rules.visibility, name, &symbol);
    if symbol.size == pointer.size() {
        ledger.pass(rules.size);
    } else {
        ledger.fail(
            rules.size,
            format!("{name}: {}", plural(symbol.size, "byte")),
            "define it as one pointer (.size 8)",
        );
    }
    hash(ledger, rules.hash, module, &named);
    access(ledger, rules.access, module, pointer);
    if pointer == Pointer::CustomLabels {
        version(ledger, module);
    }
    true
}

/// A symbol that is only in `.symtab`: what to say and what to do.
fn not_exported(module: &Module, symbol: &str) -> (String, String) {
    let name = &module.name;
    if module.elf.dynamic.is_none() {
        return (
            format!(
                "{name}: only in .symtab: a static executable at a fixed address has no .dynsym"
            ),
            static_fix(symbol),
        );
    }
    let found = format!("{name}: defined, but not exported");
    let fix = if module.is_executable {
        format!(
            "otel_profiling::build::export_symbols(); in build.rs, or the linker flag \
             -Wl,--export-dynamic-symbol={symbol}"
        )
    } else {
        format!(
            "otel_profiling::build::export_symbols_of_cdylib(); in build.rs, or a version script with \
             global: {symbol};"
        )
    };
    (found, fix)
}

fn static_fix(symbol: &str) -> String {
    format!(
        "link it static-pie (-static-pie; rustc: -C relocation-model=pie) with \
         -Wl,--export-dynamic-symbol={symbol}, or link it dynamically"
    )
}

fn kind(ledger: &mut Ledger, rule: Rule, name: &str, symbol: &Symbol) {
    if symbol.is_tls() {
        ledger.pass(rule);
        return;
    }
    let found = match symbol.kind {
        elf::STT_NOTYPE => "STT_NOTYPE".to_owned(),
        elf::STT_OBJECT => "STT_OBJECT".to_owned(),
        elf::STT_FUNC => "STT_FUNC".to_owned(),
        other => format!("type {other}"),
    };
    ledger.fail(
        rule,
        format!("{name}: {found}"),
        "define it thread-local: in assembly in .tbss with .type …, @tls_object; in C with __thread",
    );
}

fn binding(ledger: &mut Ledger, rule: Rule, name: &str, symbol: &Symbol) {
    match symbol.binding {
        elf::STB_GLOBAL => ledger.pass(rule),
        elf::STB_WEAK => ledger.pass_with(rule, "weak"),
        elf::STB_GNU_UNIQUE => ledger.pass_with(rule, "unique"),
        other => {
            let found = match other {
                elf::STB_LOCAL => "local".to_owned(),
                other => format!("binding {other}"),
            };
            ledger.fail(
                rule,
                format!("{name}: {found}"),
                "bind it globally: in assembly .globl; in C without static",
            );
        }
    }
}

fn visibility(ledger: &mut Ledger, rule: Rule, name: &str, symbol: &Symbol) {
    let found = match symbol.visibility {
        elf::STV_DEFAULT => return ledger.pass(rule),
        elf::STV_INTERNAL => "internal",
        elf::STV_HIDDEN => "hidden",
        _ => "protected",
    };
    ledger.fail(
        rule,
        format!("{name}: {found}"),
        "give it default visibility: no .hidden or .protected in assembly; in C \
         __attribute__((visibility(\"default\")))",
    );
}

fn hash(ledger: &mut Ledger, rule: Rule, module: &Module, named: &Named) {
    let tables = match &module.elf.dynamic {
        Some(dynamic) => match (dynamic.has_gnu_hash, dynamic.has_hash) {
            (true, true) => "DT_GNU_HASH and DT_HASH",
            (true, false) => "DT_GNU_HASH",
            (false, true) => "DT_HASH",
            (false, false) => NO_TABLE,
        },
        None => NO_TABLE,
    };
    if named.exported.is_some() {
        ledger.pass_with(rule, tables);
    } else {
        ledger.fail(
            rule,
            match tables {
                NO_TABLE => format!("{}: {NO_TABLE}", module.name),
                _ => format!("{}: {tables} does not lead to it", module.name),
            },
            "link it again with -Wl,--hash-style=gnu, and let no tool change symbols afterwards",
        );
    }
}

fn access(ledger: &mut Ledger, rule: Rule, module: &Module, pointer: Pointer) {
    let mut found: Vec<&str> = Vec::new();
    let mut add = |name| {
        if !found.contains(&name) {
            found.push(name);
        }
    };
    let mut is_local_dynamic = false;
    for reference in module
        .references
        .iter()
        .filter(|reference| reference.pointer == pointer)
    {
        match reference.access {
            Access::Descriptor => add("TLSDESC"),
            Access::InitialExec => add("initial exec"),
            Access::GeneralDynamic if reference.is_named => add("general dynamic"),
            // The offset beside the module's number is constant in the file.
            // For local dynamic it is zero: then code adds the symbol's own.
            Access::GeneralDynamic => match module.word(reference.vaddr.wrapping_add(8)) {
                Some(offset @ 1..) if Some(offset) == module.elf.tls_offset(pointer) => {
                    add("general dynamic");
                }
                Some(0) => is_local_dynamic = true,
                _ => {}
            },
        }
    }
    match found.as_slice() {
        [] if module.is_executable => ledger.pass_with(rule, "local exec"),
        [] if is_local_dynamic => ledger.fail(
            rule,
            format!("{}: local dynamic", module.name),
            "compile what uses it with -mtls-dialect=gnu2 and without -ftls-model=local-dynamic",
        ),
        [] => ledger.skip(rule, format!("{} does not use it itself", module.name)),
        found => ledger.pass_with(rule, found.join(", ")),
    }
}

fn version(ledger: &mut Ledger, module: &Module) {
    let rule = Rule::LabelsVersion;
    let name = &module.name;
    let named = module.elf.custom_labels_version;
    let Some(symbol) = named.exported.or(named.in_dynsym) else {
        let (found, fix) = match named.in_symtab {
            Some(_) => not_exported(module, VERSION_SYMBOL),
            None => (
                format!("{name}: {VERSION_SYMBOL} is missing"),
                format!(
                    "define {VERSION_SYMBOL} beside it: readers take the labels for another version"
                ),
            ),
        };
        ledger.fail(rule, found, fix);
        return;
    };
    let value = module.constant(&symbol);
    let fix = format!(
        "define {VERSION_SYMBOL} as an object of 4 bytes (STT_OBJECT) with the value {VERSION}"
    );
    if symbol.kind != elf::STT_OBJECT {
        ledger.fail(
            rule,
            format!("{name}: not an object (type {})", symbol.kind),
            fix,
        );
    } else if symbol.size != size_of::<u32>() as u64 {
        ledger.fail(
            rule,
            format!("{name}: {}", plural(symbol.size, "byte")),
            fix,
        );
    } else if value != Some(VERSION) {
        let found = match value {
            Some(value) => format!("{name}: the value {value}"),
            None => format!("{name}: its value cannot be read"),
        };
        ledger.fail(rule, found, fix);
    } else {
        ledger.pass_with(rule, VERSION.to_string());
    }
}

/// Whether a file is a main executable, rather than a shared object.
pub(super) fn is_executable(file: &crate::elf::Elf) -> bool {
    file.kind == Kind::Fixed
        || file.interpreter.is_some()
        || file
            .dynamic
            .as_ref()
            .is_none_or(|dynamic| dynamic.has_debug)
}
