//! What a profiler would find in this very process, and what to do if it is nothing.
//!
//! The symbols are looked up in `.dynsym` of the module that contains this crate's code, and this
//! thread's slots are computed as a reader does it from outside: they must be those that publishing
//! writes. The process context is searched in `/proc/self/maps`.
//!
//! ```no_run
//! match otel_profiling::self_check() {
//!     Ok(report) => println!("visible to profilers: {report}"),
//!     Err(error) => eprintln!("{error}"), // names the line that mends it
//! }
//! ```
//!
//! The check reads `/proc` and takes the dynamic loader's lock. It belongs at the start of a program, not
//! into signal handlers or hot paths.

mod error;
mod report;

#[cfg(target_os = "linux")]
mod mapping;
#[cfg(target_os = "linux")]
mod memory;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod dynamic;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod module;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod symbol_table;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod tls;

pub use error::SelfCheckError;
pub use report::{ProcessContext, Report, Symbols, TlsPlacement};

/// Checks everything that a profiler needs: [`symbols`], and with the feature `process-context` also
/// [`process_context`].
///
/// # Errors
///
/// The first reason for which a profiler would find nothing, or the wrong thing.
pub fn self_check() -> Result<Report, SelfCheckError> {
    Ok(Report {
        symbols: symbols()?,
        process_context: if cfg!(feature = "process-context") {
            Some(process_context()?)
        } else {
            None
        },
    })
}

/// Checks that profilers find the thread context, and the custom labels with the feature `custom-labels`.
///
/// # Errors
///
/// [`SelfCheckError::NotExported`] is the usual one: it names what to add to build.rs.
pub fn symbols() -> Result<Symbols, SelfCheckError> {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    return symbol_table::check();
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    Err(SelfCheckError::Unsupported)
}

/// Checks that profilers find and can read the process context, whoever in this process publishes it.
///
/// # Errors
///
/// [`SelfCheckError::NoProcessContext`] when none is published, which is right for a program that wants
/// none.
pub fn process_context() -> Result<ProcessContext, SelfCheckError> {
    #[cfg(target_os = "linux")]
    return mapping::check();
    #[cfg(not(target_os = "linux"))]
    Err(SelfCheckError::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbols_of_this_test_program_are_found() {
        let found = symbols();
        #[cfg(all(
            target_os = "linux",
            any(target_arch = "x86_64", target_arch = "aarch64"),
            not(miri)
        ))]
        {
            let found = found.expect("build.rs has the linker export them");
            assert!(found.in_executable);
            assert_eq!(found.placement, TlsPlacement::Static);
            let names = if cfg!(feature = "custom-labels") {
                3
            } else {
                1
            };
            assert_eq!(found.names.len(), names);
            assert!(found.also_defined_in.is_empty());
            // On another thread too: its block lies elsewhere.
            let other = std::thread::spawn(symbols).join().expect("no panic");
            assert_eq!(other.expect("as above"), found);
        }
        #[cfg(not(all(
            target_os = "linux",
            any(target_arch = "x86_64", target_arch = "aarch64"),
            not(miri)
        )))]
        assert!(matches!(found, Err(SelfCheckError::Unsupported)));
    }

    #[test]
    fn messages_are_one_line_and_say_what_to_do() {
        let module = std::path::PathBuf::from("/srv/app");
        let not_exported = SelfCheckError::NotExported {
            symbol: "otel_thread_ctx_v1",
            module: module.clone(),
        };
        let is_static = SelfCheckError::NoDynamicSymbols { module };
        for (error, fix) in [
            (
                &not_exported,
                "add `otel_profiling::build::export_symbols();` to build.rs",
            ),
            (&is_static, "link it "),
            (
                &SelfCheckError::NoProcessContext,
                "call `otel_profiling::process_context::publish`",
            ),
        ] {
            let message = error.to_string();
            assert!(message.contains(fix), "{message}");
            assert!(
                !message.contains('\n') && !message.contains("  "),
                "{message}"
            );
        }
    }
}
