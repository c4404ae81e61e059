//! Why a profiler would find nothing, each with the line that mends it.

use std::io;
use std::path::PathBuf;

/// Why a profiler would find nothing in this process, or the wrong thing.
///
/// Each message is one line: the cause, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfCheckError {
    /// There is no thread-local block on this target.
    #[error(
        "nothing is published on this target: otel-profiling publishes on Linux, x86-64 and aarch64, only"
    )]
    Unsupported,

    /// The symbol is not in `.dynsym` of the executable.
    #[error(
        "profilers cannot find `{symbol}`: the linker did not export it from {}; add \
         `otel_profiling::build::export_symbols();` to build.rs, with otel-profiling under \
         [build-dependencies]",
        module.display()
    )]
    NotExported {
        /// The symbol that is missing.
        symbol: &'static str,
        /// The executable.
        module: PathBuf,
    },

    /// The symbol is not in `.dynsym` of the shared object that contains this crate.
    #[error(
        "profilers cannot find `{symbol}`: the shared object {} hides it; add \
         `otel_profiling::build::export_symbols_of_cdylib()?;` to build.rs, with otel-profiling under \
         [build-dependencies], and link with LLD or mold",
        module.display()
    )]
    HiddenInSharedObject {
        /// The symbol that is missing.
        symbol: &'static str,
        /// The shared object.
        module: PathBuf,
    },

    /// The executable is static at a fixed address and so has no `.dynsym` at all.
    #[error(
        "profilers cannot find the symbols: {} is a fixed static executable, which has no dynamic symbols; \
         {STATIC_FIX}",
        module.display()
    )]
    NoDynamicSymbols {
        /// The executable.
        module: PathBuf,
    },

    /// The symbol is exported, but a reader would refuse it.
    #[error(
        "profilers refuse `{symbol}` of {}: it is {found}; make sure that no other library or \
         `#[no_mangle]` item of the program has this name",
        module.display()
    )]
    WrongSymbol {
        /// The symbol.
        symbol: &'static str,
        /// Where it is defined.
        module: PathBuf,
        /// What is wrong with it.
        found: String,
    },

    /// Another module's definition is used instead of this crate's.
    #[error(
        "`{symbol}` of {} is interposed by {}: both write the same slot; keep otel-profiling in one of the \
         two{}",
        module.display(),
        by.display(),
        custom_labels_hint(symbol)
    )]
    Interposed {
        /// The symbol.
        symbol: &'static str,
        /// The shared object that contains this crate.
        module: PathBuf,
        /// The module whose definition is used.
        by: PathBuf,
    },

    /// The shared object exports the symbol but nothing tells a reader where a thread's copy is.
    #[error(
        "profilers cannot locate `{symbol}`: {} has no TLSDESC relocation for it; link the shared object \
         without `-Bsymbolic`",
        module.display()
    )]
    NoAccessRelocation {
        /// The symbol.
        symbol: &'static str,
        /// The shared object.
        module: PathBuf,
    },

    /// A reader would compute another address than the one that this thread uses.
    #[error(
        "profilers look for `{symbol}` of {} at {expected:#x} on this thread, but it is at {actual:#x}; \
         please report this together with the linker's name and version",
        module.display()
    )]
    AddressMismatch {
        /// The symbol.
        symbol: &'static str,
        /// Where it is defined.
        module: PathBuf,
        /// What a reader computes.
        expected: u64,
        /// What this thread uses.
        actual: u64,
    },

    /// The process publishes no process context.
    #[error(
        "no process context is published: call `otel_profiling::process_context::publish`, or wrap the \
         tracer provider with otel-profiling-tracer, which does it"
    )]
    NoProcessContext,

    /// Readers refuse the process context.
    #[error(
        "profilers refuse the process context at {address:#x}: {reason}; if another library publishes \
         it, turn that one off"
    )]
    InvalidProcessContext {
        /// Where its mapping starts.
        address: u64,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// More than one process context: readers take any of them.
    #[error(
        "{count} process contexts are published, and profilers take any of them; turn off all libraries \
         that publish one but one"
    )]
    SeveralProcessContexts {
        /// How many were found.
        count: usize,
    },

    /// The process cannot look at itself.
    #[error(
        "the check itself failed: cannot read {what} ({source}); make /proc available to the process"
    )]
    Unreadable {
        /// What could not be read.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// rustc makes position-independent static executables on x86-64 only.
const STATIC_FIX: &str = if cfg!(target_arch = "x86_64") {
    "link it static-pie (without `-C relocation-model=static`) and add \
     `otel_profiling::build::export_symbols();` to build.rs"
} else {
    "link it dynamically (`-C target-feature=-crt-static`)"
};

fn custom_labels_hint(symbol: &str) -> &'static str {
    if symbol == crate::abi::thread_context::SYMBOL {
        ""
    } else {
        ", or turn off its feature `custom-labels`"
    }
}
