//! The few warnings that this project gives: once, at start-up, and never lost.

/// Logs a warning to `tracing` if a subscriber is set already, else to standard error: a provider is
/// usually wrapped before the subscriber that uses it exists.
#[doc(hidden)]
pub fn log(message: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!(target: "otel_profiling", "{message}");
    } else {
        use std::io::Write;
        // Standard error may be closed; there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "warning: otel-profiling: {message}");
    }
}
