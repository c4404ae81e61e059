//! A shared object that contains otel-profiling, as a plug-in would.

/// Prints what a profiler would find, as seen from this module on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn check() {
    match otel_profiling::self_check::symbols() {
        Ok(found) => println!("found {found}"),
        Err(error) => println!("error: {error}"),
    }
}
