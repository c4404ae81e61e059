//! Wrong use that the compiler refuses, and how it says so.
//!
//! The words are the compiler's, and change with it, so they are compared for one version only. That the
//! same programs do not compile with any version is tested by `otel-profiling-tests`.

use std::process::Command;

/// The compiler whose words stand in `misuse/*.stderr`. With another one, write them anew by
/// `TRYBUILD=overwrite cargo test -p otel-profiling --test misuse`, read them, and change this.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn what_must_not_compile() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.expect("the compiler runs").stdout;
    if !version.starts_with(COMPILER.as_bytes()) && std::env::var_os("TRYBUILD").is_none() {
        println!("skipped: the expected messages are those of {COMPILER}*");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
