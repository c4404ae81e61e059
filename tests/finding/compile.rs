//! Compiles the writers in C.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What the programs are compiled with, and so which C library they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    Gcc,
    Musl,
}

impl Compiler {
    fn driver(self) -> &'static str {
        match self {
            Self::Gcc => "gcc",
            Self::Musl => "musl-gcc",
        }
    }

    /// Whether it is installed; says so when not.
    pub(crate) fn is_installed(self) -> bool {
        let is_installed = Command::new(self.driver())
            .arg("--version")
            .output()
            .is_ok();
        if !is_installed {
            crate::report(&format!("skipped: needs {}", self.driver()));
        }
        is_installed
    }
}

/// The flag for access by TLS descriptors.
pub(crate) const DESCRIPTORS: &str = if cfg!(target_arch = "aarch64") {
    "-mtls-dialect=desc"
} else {
    "-mtls-dialect=gnu2"
};
/// The flag for legacy general dynamic access.
pub(crate) const GENERAL_DYNAMIC: &str = if cfg!(target_arch = "aarch64") {
    "-mtls-dialect=trad"
} else {
    "-mtls-dialect=gnu"
};
pub(crate) const INITIAL_EXEC: &str = "-ftls-model=initial-exec";
/// More thread-local storage than any C library has in reserve.
pub(crate) const LARGE: &str = "-DAFTER=100000";

/// A folder for what is compiled; gone with the value.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("otel-profiling-finding-")
        .tempdir()
        .expect("a temporary folder")
}

/// A program that has the symbols itself.
pub(crate) fn program(compiler: Compiler, into: &Path, flags: &[&str]) -> PathBuf {
    let mut all = vec!["-DLINKED", "program.c", "block.c"];
    all.extend(EXPORT);
    all.extend(flags);
    compile(compiler, into, &all)
}

/// A program that takes `publish` from a shared object that it loads, if `flags` do not say otherwise.
pub(crate) fn host(compiler: Compiler, into: &Path, flags: &[&str]) -> PathBuf {
    let mut all = vec!["program.c", "-fPIE", "-pie"];
    all.extend(flags);
    compile(compiler, into, &all)
}

/// A shared object that has the symbols.
pub(crate) fn object(compiler: Compiler, into: &Path, flags: &[&str]) -> PathBuf {
    let mut all = vec!["block.c", "-fPIC", "-shared"];
    all.extend(flags);
    compile(compiler, into, &all)
}

const EXPORT: [&str; 3] = [
    "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1",
    "-Wl,--export-dynamic-symbol=custom_labels_current_set",
    "-Wl,--export-dynamic-symbol=custom_labels_abi_version",
];

fn compile(compiler: Compiler, into: &Path, arguments: &[&str]) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("finding/writers");
    let output = Command::new(compiler.driver())
        .current_dir(sources)
        .args(["-Wall", "-Werror", "-O1", "-pthread", "-o"])
        .arg(into)
        .args(arguments)
        .output()
        .expect("the compiler runs");
    assert!(
        output.status.success(),
        "{compiler:?} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    into.to_owned()
}

/// Whether a linker can be used; says so when not.
pub(crate) fn has_linker(name: &str) -> bool {
    let is_installed = Command::new(name).arg("--version").output().is_ok();
    if !is_installed {
        crate::report(&format!("skipped: needs {name}"));
    }
    is_installed
}

/// Removes the symbol table.
pub(crate) fn strip(file: &Path) {
    let status = Command::new("strip")
        .arg(file)
        .status()
        .expect("strip runs");
    assert!(status.success());
}
