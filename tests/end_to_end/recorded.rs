//! One recording of the service under load, and everything that it can be compared with.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use demo::comparison::Comparison;
use demo::load::{self, Caller, Load};
use demo::process::Service;
use ebpf_reader::Error;
use ebpf_reader::record::{self, Backend, Options, Progress, Recording};
use opentelemetry::trace::{SpanId, TraceId};

use crate::service;

/// What to do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) backend: Backend,
    pub(crate) frequency_hz: u64,
    /// Whether functions get their names.
    pub(crate) symbols: bool,
    /// How long requests are sent.
    pub(crate) load: Duration,
    /// Whether the service ends before anybody stops the recording.
    pub(crate) service_ends_first: bool,
}

/// What came of it.
pub(crate) struct Recorded {
    pub(crate) recording: Recording,
    pub(crate) comparison: Comparison,
    /// Who called, and what.
    pub(crate) callers: Vec<Caller>,
    /// The service's spans.
    pub(crate) spans: Vec<(TraceId, SpanId)>,
}

/// Records the service under load. `case` is the name of the calling test. `None` where that is not allowed.
pub(crate) fn record(case: &str, plan: Plan) -> Option<Recorded> {
    // Two at the same time would share the CPUs.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    let mut service = Some(service::start(case));
    let pid = service.as_ref().map_or(0, Service::pid);
    let options = Options::new()
        .pid(pid)
        .frequency_hz(plan.frequency_hz)
        .backend(plan.backend)
        .symbols(plan.symbols);
    let callers = load::callers();
    let load = Load {
        connections: 6,
        duration: plan.load,
        max_requests: usize::MAX,
    };
    let stop = AtomicBool::new(false);
    let end = |service: Service| service.stop().expect("the service ends as it should");
    let run_load = |service: Service| {
        let answered = load.drive(service.address(), &callers);
        let ended = if plan.service_ends_first {
            Ok(end(service))
        } else {
            Err(service)
        };
        stop.store(!plan.service_ends_first, Ordering::Relaxed);
        (answered.expect("all requests are answered"), ended)
    };
    let (recording, client) = thread::scope(|scope| {
        let mut client = None;
        let recording = record::run(&options, &stop, &mut |progress| match progress {
            Progress::Started => {
                client = service
                    .take()
                    .map(|service| scope.spawn(|| run_load(service)));
            }
            Progress::Warning(warning) => eprintln!("warning: {}", warning.one_line()),
            _ => {}
        });
        (
            recording,
            client.map(|client| client.join().expect("the load is driven")),
        )
    });
    let recording = match recording {
        Ok(recording) => recording,
        Err(Error::Permission { .. }) if plan.backend == Backend::Ebpf => {
            return skipped("needs CAP_BPF and CAP_PERFMON");
        }
        Err(Error::Permission { needs, .. }) => return skipped(&format!("needs {needs}")),
        Err(error @ Error::Unsupported { .. }) => return skipped(&error.one_line()),
        Err(error) => panic!("{}", error.one_line()),
    };
    let (answered, ended) = client.expect("the recording started");
    let (ground_truth, lines) = ended.unwrap_or_else(end);
    let comparison = Comparison::new(&recording.profile, &ground_truth, &callers);
    report(&format!(
        "{case}: {answered} requests in {:?}\n{comparison}",
        plan.load
    ));
    Some(Recorded {
        recording,
        comparison,
        callers,
        spans: service::spans(&lines),
    })
}

fn skipped<T>(why: &str) -> Option<T> {
    report(&format!("skipped: {why}"));
    None
}

/// Prints past the test harness, which hides what tests that pass print.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
