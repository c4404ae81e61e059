//! Makes linkers export the symbols of the thread-local block without any configuration by the user.
//!
//! Profilers look in `.dynsym`, where an executable's symbols only get if the linker is told so, and a
//! dependency cannot pass linker arguments to the final link. It can name a library to link with: this
//! script writes a shared object that refers to the symbols, which is enough for LLD, the default linker
//! on x86_64-unknown-linux-gnu. GNU ld and mold ignore it; `otel_profiling::build` is for them. The
//! linker drops the object again, no program depends on it at run time. See `docs/linking.md`.

#[path = "build/stub.rs"]
mod stub;

use std::env;
use std::io;
use std::path::PathBuf;

use stub::{EM_AARCH64, EM_X86_64, Kind};

/// Set to anything but `0` or nothing, it turns the shared object off.
const OPT_OUT: &str = "OTEL_PROFILING_NO_EXPORT_STUB";
const LIBRARY: &str = "otel_profiling_exports";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/stub.rs");
    println!("cargo:rerun-if-env-changed={OPT_OUT}");

    let Some(machine) = machine() else {
        return Ok(());
    };
    let mut symbols = vec![("otel_thread_ctx_v1", Kind::Tls)];
    if env::var_os("CARGO_FEATURE_CUSTOM_LABELS").is_some() {
        symbols.push(("custom_labels_current_set", Kind::Tls));
        symbols.push(("custom_labels_abi_version", Kind::Object));
    }
    // For this package's own tests: these arguments do not reach crates that depend on it.
    for (name, _) in &symbols {
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={name}");
    }
    if opted_out() || is_static() {
        return Ok(());
    }

    let folder = PathBuf::from(variable("OUT_DIR"));
    let file = format!("lib{LIBRARY}.so");
    let content = stub::shared_object(machine, &file, &symbols);
    std::fs::write(folder.join(&file), content)?;
    println!("cargo:rustc-link-search=native={}", folder.display());
    println!("cargo:rustc-link-lib=dylib={LIBRARY}");
    Ok(())
}

/// The target's ELF machine, or `None` where there is no thread-local block.
fn machine() -> Option<u16> {
    let is_supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64"
        && variable("CARGO_CFG_TARGET_ENDIAN") == "little";
    match variable("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" if is_supported => Some(EM_X86_64),
        "aarch64" if is_supported => Some(EM_AARCH64),
        _ => None,
    }
}

/// A static program that was linked with a shared object would crash at start.
fn is_static() -> bool {
    variable("CARGO_CFG_TARGET_FEATURE")
        .split(',')
        .any(|feature| feature == "crt-static")
}

fn opted_out() -> bool {
    !matches!(variable(OPT_OUT).as_str(), "" | "0")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
