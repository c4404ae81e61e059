//! Continuous profiling of a machine: takes samples all the time, keeps the last minutes in bounded memory, shows
//! them by HTTP, and pushes them.
//!
//! ```text
//! sampler ──► Aggregator ──window, 10 s──► names of functions ──► Ring ──► pages, pprof, metrics
//!             (thread "ebpf-reader")       (thread "windows")      └─────► push::Exporter
//! ```
//!
//! Samples are counted in windows. A window that is over gets the names of its functions in a thread of its own, so
//! that looking them up does not keep samples waiting, and goes into the [`Ring`], which drops the oldest windows when
//! they are too old or too many bytes. Requests read from the ring; one for the next seconds cuts the current window
//! short at its beginning and at its end.

mod health;
mod http;
mod metrics;
mod options;
mod ring;
mod tree;
mod usage;
mod windows;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use http::{Listen, ParseListenError, Token, TokenError};
pub use options::Options;
pub use ring::{Ring, Window};

use self::health::Health;
use self::http::Server;
use self::ring::Store;
use self::windows::Cutter;
use crate::error::Error;
use crate::push::Exporter;
use crate::record::{self, Progress};

/// What serving tells while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Requests are answered from now on, at this address.
    Listening(String),
    /// Profiles are pushed to this address.
    Pushing(String),
    /// Pushing does not work at the moment, or works again.
    Push(String),
    /// All processes that were to be sampled have ended; what is known is still served.
    TargetsExited,
    /// Something is missing in what is served.
    Warning(Error),
}

/// Serves until `stop` becomes true.
///
/// # Errors
/// If it cannot start: the address is taken or may not be used, the sampler cannot sample; or if sampling breaks down.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    on_notice: &mut dyn FnMut(Notice),
) -> Result<(), Error> {
    let exporter = options
        .push
        .clone()
        .map(Exporter::start)
        .transpose()
        .map_err(|source| Error::Push { source })?
        .map(Arc::new);
    let store = Arc::new(Store::new(Ring::new(options.keep, options.memory)));
    let health = Arc::new(Health::default());
    let server = Server::start(options, &store, &health, exporter.clone())?;
    let mut cutter = Cutter::start(options, &store, &health, exporter.clone())?;
    let mut recording = options.recording.clone();
    // Names are looked up for each window.
    recording.symbols = false;
    recording.duration = None;

    let mut told = Told::default();
    let mut started = false;
    let result =
        record::run_in_windows(
            &recording,
            &mut cutter,
            stop,
            &mut |progress| match progress {
                Progress::Started => {
                    started = true;
                    on_notice(Notice::Listening(server.address().to_owned()));
                    if let Some(exporter) = &exporter {
                        on_notice(Notice::Pushing(exporter.endpoint().to_owned()));
                    }
                }
                Progress::Sampling { processes, .. } => {
                    health.set_targets(processes);
                    while let Some(warning) = store.take_warning() {
                        on_notice(Notice::Warning(warning));
                    }
                    told.push(exporter.as_deref(), on_notice);
                }
                Progress::Warning(warning) => told.warning(warning, on_notice),
                Progress::Symbolizing => {}
            },
        );
    let recording = result?;
    cutter.finish();
    match recording.end {
        record::End::Failed(error) => return Err(error),
        record::End::TargetsExited if started => {
            health.set_targets(0);
            on_notice(Notice::TargetsExited);
            while !stop.load(Ordering::Relaxed) {
                told.push(exporter.as_deref(), on_notice);
                std::thread::sleep(windows::TICK);
            }
        }
        _ => {}
    }
    drop(server);
    if let Some(exporter) = exporter.and_then(Arc::into_inner) {
        exporter.shutdown(options.push_patience);
    }
    Ok(())
}

/// Different warnings that are told. Programs that come and go can cause any number.
const MAX_WARNINGS: usize = 500;

/// What was told: a state of pushing, and a warning, are told once.
#[derive(Default)]
struct Told {
    error: Option<String>,
    warnings: HashSet<String>,
}

impl Told {
    /// The same file is without names in each window.
    fn warning(&mut self, warning: Error, on_notice: &mut dyn FnMut(Notice)) {
        if self.warnings.len() < MAX_WARNINGS && self.warnings.insert(warning.one_line()) {
            on_notice(Notice::Warning(warning));
        }
    }

    fn push(&mut self, exporter: Option<&Exporter>, on_notice: &mut dyn FnMut(Notice)) {
        let Some(exporter) = exporter else {
            return;
        };
        let error = exporter.counters().last_error;
        if error.as_deref().map(kind) == self.error.as_deref().map(kind) {
            return;
        }
        on_notice(Notice::Push(match &error {
            Some(error) => format!("pushing to {}: {error}", exporter.endpoint()),
            None => format!("pushing to {} works again", exporter.endpoint()),
        }));
        self.error = error;
    }
}

/// An error without what is another each time: receivers number their refusals.
fn kind(error: &str) -> String {
    let words = error.split_whitespace().map(|word| {
        let is_id = word.len() > 16 && word.contains(|c: char| c.is_ascii_digit());
        if is_id { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_differ_in_an_id_are_of_one_kind() {
        let refusal =
            |id| format!("HTTP status 500: series with id {id} failed: limit exceeded (5000/5000)");
        let first = refusal("739f7c99-9e28-498e-a7ce-37fca7ee7f81");
        assert_eq!(
            kind(&first),
            kind(&refusal("804ba136-5d21-4efb-990d-8c8d5382fcb7"))
        );
        assert_ne!(kind(&first), kind(&first.replace("500:", "429:")));
    }
}
