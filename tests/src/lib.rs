//! Tests that cross crates, processes and linkers; each file beside this folder is one.

use std::process::Command;

const CASE: &str = "OTEL_PROFILING_TEST_CASE";

/// Runs `case` in a process of its own: observer, provider and process context are global, and installed once.
///
/// The test `name` (with its modules) starts its own executable again for itself alone, with `environment`; there,
/// `case` runs. What the environment says about OpenTelemetry otherwise is left out.
///
/// # Panics
/// If the case fails.
#[track_caller]
pub fn in_own_process(name: &str, environment: &[(&str, &str)], case: impl FnOnce()) {
    if std::env::var_os(CASE).is_some_and(|running| running == name) {
        case();
        return;
    }
    let output = Command::new(std::env::current_exe().expect("the test's own path"))
        .args([name, "--exact", "--nocapture"])
        .env_remove("OTEL_SERVICE_NAME")
        .env_remove("OTEL_RESOURCE_ATTRIBUTES")
        .env(CASE, name)
        .envs(environment.iter().copied())
        .output()
        .expect("the test runs itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The guide's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/propagation.md")]
mod propagation {}

/// Programs that must not compile, with any compiler; `misuse.rs` compares the messages of one.
#[cfg(doctest)]
mod misuse {
    macro_rules! refused {
        ($($name:ident: $file:literal, $error:literal;)*) => {$(
            #[doc = concat!("```compile_fail,", $error, "\n", include_str!($file), "\n```")]
            mod $name {}
        )*};
    }

    refused! {
        guard_across_threads: "../misuse/guard_across_threads.rs", "E0277";
        guard_across_await: "../misuse/guard_across_await.rs", "";
        borrowed_past_publication: "../misuse/borrowed_past_publication.rs", "E0505";
    }
}
