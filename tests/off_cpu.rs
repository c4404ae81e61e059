//! A service that blocks its threads: the time that each trace waited, as seen from outside, is what the service
//! measured itself.
//!
//! Each request is a span on a thread of its own, and blocks it by sleeping, or by waiting for a lock that another
//! request holds. The service runs in a process of its own: the test starts itself again.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::record::{self, Options, Progress};
use opentelemetry::trace::{TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracerProvider;

const CASE: &str = "OTEL_PROFILING_TEST_CASE";
const READY: &str = "the service serves";
const WAITED: &str = "waited ";
/// Requests that sleep, and as many that wait for a lock.
const REQUESTS: u32 = 4;
/// Blocking calls of each: so many that one of which the kernel does not tell the end hardly counts.
const CALLS: u32 = 40;

/// What a thread did not run of a time.
struct Account {
    begin: Instant,
    cpu: Duration,
}

impl Account {
    fn open() -> Self {
        Self {
            begin: Instant::now(),
            cpu: cpu_time(),
        }
    }

    fn off_cpu(&self) -> Duration {
        self.begin.elapsed().saturating_sub(cpu_time() - self.cpu)
    }
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Handles requests until they are answered, and tells how long each trace waited.
fn serve() {
    let provider = otel_profiling_tracer::wrap(SdkTracerProvider::builder().build());
    let tracer = provider.tracer("off-cpu");
    println!("{READY}");
    // Recording has begun.
    let _ = std::io::stdin().lines().next();

    let lock = Mutex::new(());
    let request = |route: &'static str, block: &dyn Fn(u32)| {
        let span = tracer
            .span_builder(route)
            .with_attributes([KeyValue::new("http.route", route)])
            .start(&tracer);
        let context = Context::new().with_span(span);
        let trace_id = context.span().span_context().trace_id();
        let _current = context.attach();
        let account = Account::open();
        for call in 0..CALLS {
            block(call);
        }
        println!("{WAITED}{trace_id} {}", account.off_cpu().as_nanos());
    };
    thread::scope(|scope| {
        for number in 1..=REQUESTS {
            // 160 to 640 ms in all.
            let nap = Duration::from_millis(4) * number;
            let request = &request;
            scope.spawn(move || request("/sleep", &|_| thread::sleep(nap)));
        }
        // They wait for each other: whoever has the lock sleeps with it.
        for number in 1..=REQUESTS {
            let (lock, request) = (&lock, &request);
            scope.spawn(move || {
                request("/lock", &|_| {
                    let _turn = lock.lock().unwrap();
                    thread::sleep(Duration::from_millis(1) * number);
                });
            });
        }
    });
    // The end of the process ends the recording: what was counted by then counts.
    std::process::exit(0);
}

/// The service, and what it prints.
struct Service(Child, BufReader<ChildStdout>);

impl Service {
    /// Starts it for the test `case`. In that process it serves, and does not return.
    fn start(case: &str) -> Self {
        if std::env::var_os(CASE).is_some_and(|running| running == case) {
            serve();
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([case, "--exact", "--nocapture"])
            .env(CASE, case)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = (&mut output).lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line.ends_with(READY)),
            "it ended before it served"
        );
        Self(child, output)
    }

    /// How long each trace waited, by what the service says.
    fn waited(&mut self) -> BTreeMap<String, f64> {
        let lines = (&mut self.1).lines().map_while(Result::ok);
        lines
            .filter_map(|line| {
                let (trace_id, time) = line.strip_prefix(WAITED)?.split_once(' ')?;
                Some((trace_id.to_owned(), time.parse().unwrap()))
            })
            .collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_trace_waits_as_long_as_the_service_says() {
    let mut service = Service::start("each_trace_waits_as_long_as_the_service_says");
    let options = Options::new()
        .pid(service.0.id())
        .off_cpu(true)
        .symbols(false)
        .duration(Duration::from_secs(60));
    let input = &mut service.0.stdin;
    let recording = record::run(&options, &AtomicBool::new(false), &mut |progress| {
        if matches!(progress, Progress::Started) {
            writeln!(input.take().unwrap()).unwrap();
        }
    });
    let profile = match recording {
        Ok(recording) => recording.profile,
        Err(Error::Permission { needs, .. }) => {
            eprintln!("skipped: needs {needs}");
            return;
        }
        Err(error) => panic!("{}", error.one_line()),
    };
    let waited = service.waited();
    assert_eq!(waited.len(), 2 * REQUESTS as usize, "{waited:?}");

    let traces = profile.traces();
    for (trace_id, own) in &waited {
        let seen = traces
            .iter()
            .find(|usage| usage.trace_id.to_string() == *trace_id)
            .unwrap_or_else(|| panic!("{trace_id} is not in {traces:?}"));
        let blocked = seen.blocked_ns as f64;
        let off_cpu = blocked + seen.preempted_ns as f64;
        assert!(
            (off_cpu / own - 1.0).abs() < 0.1,
            "{trace_id}: {off_cpu} of {own} ns"
        );
        assert!(blocked > 0.8 * own, "{trace_id}: {blocked} of {own} ns");
    }
    assert_eq!(traces.len(), waited.len(), "traces that nobody has");
}
