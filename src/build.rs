//! For build scripts: has the final link export the symbols that profilers look for.
//!
//! Not needed with LLD, rustc's default linker on x86_64-unknown-linux-gnu since Rust 1.90. With GNU ld or
//! mold, on aarch64, on musl, or for a static program (`-C target-feature=+crt-static`), add this crate to
//! the build dependencies (default features are not needed there) and call [`export_symbols`]:
//!
//! ```toml
//! [build-dependencies]
//! otel-profiling = { version = "0.1", default-features = false }
//! ```
//!
//! ```no_run
//! // in `main` of build.rs
//! otel_profiling::build::export_symbols();
//! ```
//!
//! [`self_check`](crate::self_check()) tells at run time whether it is needed.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

use crate::abi::{custom_labels, thread_context};

/// What readers look for. All of them, whatever the features: a build dependency's features are not those
/// of the program, and linkers ignore a name that nothing defines.
const SYMBOLS: [&str; 3] = [
    thread_context::SYMBOL,
    custom_labels::SYMBOL,
    custom_labels::VERSION_SYMBOL,
];

/// Has every executable of the calling package (programs, examples, tests, benches) export the symbols.
///
/// Prints `cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=…` for each. It works with GNU ld (binutils
/// 2.35 or later), mold and LLD, and is harmless where it is not needed. A fixed static executable has no
/// dynamic symbols, whatever the linker is told. On x86-64 rustc's static executables are static-pie, which
/// have them, unless `-C relocation-model=static` is given; on aarch64 they are fixed, so link
/// dynamically there (`-C target-feature=-crt-static`).
///
/// Prints nothing for a target without the thread-local block (see the crate's documentation). For a
/// `cdylib` call [`export_symbols_of_cdylib`].
pub fn export_symbols() {
    if is_supported() {
        print!("{}", link_arguments());
    }
}

/// Has the calling package's `cdylib` export the symbols.
///
/// rustc hides everything but the `cdylib`'s own `extern` functions by a version script. This writes a
/// second one into the build script's `OUT_DIR` and passes it with `cargo:rustc-link-arg-cdylib`. LLD and
/// mold merge the two; **GNU ld refuses** ("anonymous version tag cannot be combined with other version
/// tags"): have the package linked by LLD (`-C link-arg=-fuse-ld=lld`) or mold then.
///
/// # Errors
///
/// When the file cannot be written, which includes a call from outside a build script.
pub fn export_symbols_of_cdylib() -> io::Result<()> {
    if !is_supported() {
        return Ok(());
    }
    let folder = env::var_os("OUT_DIR").ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "OUT_DIR is not set: call this from a build script",
        )
    })?;
    let file = Path::new(&folder).join("otel-profiling-symbols.ver");
    fs::write(&file, version_script())?;
    println!(
        "cargo:rustc-link-arg-cdylib=-Wl,--version-script={}",
        file.display()
    );
    Ok(())
}

/// Whether the package is being built for a target with the thread-local block.
fn is_supported() -> bool {
    let variable = |name| env::var(name).unwrap_or_default();
    is_supported_target(
        &variable("CARGO_CFG_TARGET_OS"),
        &variable("CARGO_CFG_TARGET_ARCH"),
        &variable("CARGO_CFG_TARGET_POINTER_WIDTH"),
    )
}

fn is_supported_target(os: &str, arch: &str, pointer_width: &str) -> bool {
    os == "linux" && matches!(arch, "x86_64" | "aarch64") && pointer_width == "64"
}

fn link_arguments() -> String {
    SYMBOLS
        .iter()
        .map(|name| format!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={name}\n"))
        .collect()
}

fn version_script() -> String {
    format!("{{ global: {}; }};\n", SYMBOLS.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_argument_for_each_symbol() {
        assert_eq!(
            link_arguments().lines().collect::<Vec<_>>(),
            [
                "cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=otel_thread_ctx_v1",
                "cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=custom_labels_current_set",
                "cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=custom_labels_abi_version",
            ]
        );
    }

    #[test]
    fn nothing_for_other_targets() {
        assert!(is_supported_target("linux", "x86_64", "64"));
        assert!(is_supported_target("linux", "aarch64", "64"));
        assert!(!is_supported_target("linux", "x86_64", "32"));
        assert!(!is_supported_target("linux", "riscv64", "64"));
        assert!(!is_supported_target("macos", "aarch64", "64"));
        // Outside a build script.
        assert!(!is_supported_target("", "", ""));
    }
}
