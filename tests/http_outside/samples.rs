//! Samples the service with eBPF, and compares each sample's trace id with the function that it was taken in.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ebpf_reader::Error;
use ebpf_reader::profile::{Profile, TraceId};
use ebpf_reader::record::{self, End, Options, Progress};

use crate::process::{Inside, Process};
use crate::service::{Findings, trace_id};

/// Per CPU; the reader keeps up without optimization.
const FREQUENCY_HZ: u64 = 4999;

/// How long is recorded at least. Nearly every sample has a context of its own: the reader has room for those of some
/// five seconds.
const TIME: Duration = Duration::from_secs(3);
/// How long is recorded at most, where the machine has more to do; what there is by then may do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Samples with a trace id that are enough.
const ENOUGH: u64 = 20_000;

const WORK_EVEN: &str = "http_outside::service::work_even";
const WORK_ODD: &str = "http_outside::service::work_odd";
/// The handler's own code: its future, and the functions that work for it.
const HANDLER: [&str; 5] = [
    WORK_EVEN,
    WORK_ODD,
    "http_outside::service::work",
    "http_outside::service::serve::{",
    "<http_outside::service::Frames as http_body::Body>::",
];

/// What came of a recording.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// From outside.
    pub(crate) seen: Seen,
    /// From inside.
    pub(crate) inside: Inside,
}

/// What was seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    unreadable: u64,
    lost: u64,
    /// Samples for whose contexts the reader had no room: they show none.
    merged: u64,
    /// Samples in the handler or a body.
    handler: u64,
    /// Those of them without a trace id.
    nothing: u64,
    /// Samples in the function that works for requests with even numbers.
    even: u64,
    /// Samples in the function that works for requests with odd numbers.
    odd: u64,
    /// Samples in one of the two with a trace id that belongs to the other, or to no request.
    pub(crate) others: u64,
}

impl Recorded {
    #[track_caller]
    pub(crate) fn assert_each_request_has_its_own_id(&self) {
        let Self { seen, inside } = self;
        assert_eq!(seen.merged, 0, "{self:?}");
        assert_eq!(seen.others, 0, "{self:?}");
        assert_eq!(seen.nothing, 0, "{self:?}");
        assert_eq!(seen.unreadable, 0, "{self:?}");
        assert_eq!(seen.lost, 0, "{self:?}");
        assert!(seen.even > 2000 && seen.odd > 2000, "{self:?}");
        assert_eq!(inside.others, 0, "{self:?}");
        assert_eq!(inside.nothing, 0, "{self:?}");
        assert!(inside.steps > 25_000, "{self:?}");
    }
}

/// Records the service that `serve` runs in a process of its own. `case` is the name of the calling test. `None` where
/// that is not allowed.
pub(crate) fn record(case: &str, serve: impl FnOnce(&Arc<Findings>)) -> Option<Recorded> {
    // Two at the same time would share the CPUs.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    let process = Process::start(case, serve);
    let options = Options::new()
        .pid(process.pid())
        .frequency_hz(FREQUENCY_HZ)
        .duration(PATIENCE);
    let (stop, mut took) = (AtomicBool::new(false), Duration::ZERO);
    let recording = record::run(&options, &stop, &mut |progress| match progress {
        Progress::Sampling {
            elapsed,
            with_context,
            ..
        } => {
            took = elapsed;
            stop.store(elapsed >= TIME && with_context >= ENOUGH, Ordering::Relaxed);
        }
        Progress::Warning(warning) => report(&format!("warning: {}", warning.one_line())),
        _ => {}
    });
    let recording = match recording {
        Ok(recording) => recording,
        Err(Error::Permission { .. }) => return skipped("needs CAP_BPF and CAP_PERFMON"),
        Err(error @ Error::Unsupported { .. }) => return skipped(&error.one_line()),
        Err(error) => panic!("{}", error.one_line()),
    };
    assert!(
        matches!(recording.end, End::Stopped | End::Duration),
        "{:?}, after {took:?}",
        recording.end
    );
    let recorded = Recorded {
        seen: Seen::of(&recording.profile),
        inside: process.stop(),
    };
    report(&format!("{case}: {took:.1?}, {recorded:?}"));
    Some(recorded)
}

impl Seen {
    fn of(profile: &Profile) -> Self {
        let mut seen = Self {
            unreadable: profile.unreadable,
            lost: profile.lost,
            merged: profile.merged,
            ..Self::default()
        };
        for row in &profile.rows {
            let names: Vec<String> = profile.stacks[row.stack]
                .iter()
                .flat_map(|&location| profile.names(&profile.locations[location]))
                .collect();
            let within = |function: &str| names.iter().any(|name| name.starts_with(function));
            if !HANDLER.into_iter().any(within) {
                continue;
            }
            let trace_id = profile.contexts[row.context].trace_id;
            seen.handler += row.samples;
            if trace_id.is_none() {
                seen.nothing += row.samples;
            }
            for (function, samples, even) in [
                (WORK_EVEN, &mut seen.even, true),
                (WORK_ODD, &mut seen.odd, false),
            ] {
                if within(function) {
                    *samples += row.samples;
                    if trace_id.is_some_and(|trace_id| is_even(trace_id) != Some(even)) {
                        seen.others += row.samples;
                    }
                }
            }
        }
        seen
    }
}

/// Whether the trace id is that of a request with an even number. `None` if it is no request's.
fn is_even(TraceId(id): TraceId) -> Option<bool> {
    let [.., a, b, c, d, e, f, g, h] = id;
    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]).checked_sub(1)?;
    (trace_id(number) == id).then_some(number.is_multiple_of(2))
}

fn skipped<T>(why: &str) -> Option<T> {
    report(&format!("skipped: {why}"));
    None
}

/// Prints past the test harness, which hides what tests that pass print.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
