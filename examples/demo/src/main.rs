//! Which traces of a service use the CPU? Seen from outside by eBPF, next to what the service itself
//! measured.
//!
//! Starts the service as a process of its own, drives load against it, records it with the reader's
//! library, and prints the comparison.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use demo::comparison::Comparison;
use demo::load::{self, Caller, Load};
use demo::process::Service;
use demo::service;
use ebpf_reader::Error;
use ebpf_reader::output::Output;
use ebpf_reader::record::{self, Backend, End, Options, Progress, Recording};
use opentelemetry_sdk::trace::SdkTracerProvider;

/// The argument with which this program starts itself again, as the service.
const SERVE: &str = "serve";

const LOAD: Load = Load {
    connections: 6,
    duration: Duration::from_secs(8),
    max_requests: 100_000,
};

/// Samples a second of each busy CPU.
const EBPF_HZ: u64 = 997;
/// Fewer: here every sample stops a thread.
const PTRACE_HZ: u64 = 199;

const HELP: &str = "Starts a service, records it from outside for some seconds of requests, and compares the CPU time of \
                    each trace with the service's own account.\n\n\
                    Usage: demo\n       demo serve    the service alone, until standard input ends";

fn main() -> ExitCode {
    let result = match env::args().nth(1).as_deref() {
        Some(SERVE) => service::run(SdkTracerProvider::builder().build()),
        Some("--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(anyhow::anyhow!(
            "{:?} is not understood: the demo takes no arguments",
            other
        )),
        None => demo(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> anyhow::Result<()> {
    let files = files()?;
    let mut command = Command::new(env::current_exe()?);
    // What a service is called is configured where it is started.
    command.arg(SERVE).env("OTEL_SERVICE_NAME", "demo");
    let service = Service::start(command)?;
    println!(
        "An axum service runs as process {}. For {} seconds it gets requests of a few traces over {} connections.",
        service.pid(),
        LOAD.duration.as_secs(),
        LOAD.connections
    );
    let callers = load::callers();
    let recording = match record_under_load(&service, &callers, Backend::Ebpf, EBPF_HZ) {
        Err(refused @ (Error::Permission { .. } | Error::Unsupported { .. })) => {
            let why = match refused {
                Error::Permission { .. } => "it needs CAP_BPF and CAP_PERFMON".to_owned(),
                other => other.one_line(),
            };
            println!(
                "No eBPF here ({why}): sampling it with ptrace instead, {PTRACE_HZ} times a second."
            );
            record_under_load(&service, &callers, Backend::Ptrace, PTRACE_HZ)
        }
        recording => recording,
    }
    .map_err(|error| anyhow::anyhow!(error.one_line()))?;
    let (ground_truth, _) = service.stop()?;

    println!(
        "\n{}\n",
        Comparison::new(&recording.profile, &ground_truth, &callers)
    );
    for (name, path, output) in files {
        output.write(&recording.profile)?;
        println!("{name:<12} {}", path.display());
    }
    Ok(())
}

/// Records the service from before the first request until after the last one.
fn record_under_load(
    service: &Service,
    callers: &[Caller],
    backend: Backend,
    hz: u64,
) -> Result<Recording, Error> {
    let options = Options::new()
        .pid(service.pid())
        .frequency_hz(hz)
        .backend(backend);
    let stop = AtomicBool::new(false);
    let load = || {
        let answered = LOAD.drive(service.address(), callers);
        stop.store(true, Ordering::Relaxed);
        answered
    };
    thread::scope(|scope| {
        let mut client = None;
        let recording = record::run(&options, &stop, &mut |progress| match progress {
            Progress::Started => {
                if backend == Backend::Ebpf {
                    println!("Sampling it with eBPF, {hz} times a second on each CPU.");
                }
                client = Some(scope.spawn(load));
            }
            Progress::Warning(warning) => eprintln!("warning: {}", warning.one_line()),
            _ => {}
        })?;
        match client.map(ScopedJoinHandle::join) {
            Some(Ok(Ok(_))) | None => {}
            Some(Ok(Err(error))) => return Err(Error::io("send requests to the service", error)),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
        match recording.end {
            End::Failed(error) => Err(error),
            _ => Ok(recording),
        }
    })
}

/// What it is, where it lies, and how it is written.
type File = (&'static str, PathBuf, Output);

/// The files to write: beside cargo's own in `target`, where this program lies, else among temporary files.
fn files() -> anyhow::Result<[File; 2]> {
    let program = env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .filter(|target| target.join("CACHEDIR.TAG").exists());
    if let Some(Ok(files)) = target.map(|target| files_in(&target.join("demo"))) {
        return Ok(files);
    }
    files_in(&env::temp_dir().join(format!("otel-profiling-demo-{}", process::id())))
}

fn files_in(folder: &Path) -> anyhow::Result<[File; 2]> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let file = |what, name| {
        let path = folder.join(name);
        let output = Output::create(&path)?;
        // As short as can be, for who wants to open it.
        let path = match env::current_dir().map(|here| path.strip_prefix(here).map(Path::to_owned))
        {
            Ok(Ok(below)) => below,
            _ => path,
        };
        Ok::<_, Error>((what, path, output))
    };
    Ok([
        file("pprof:", "cpu.pb.gz")?,
        file("flame graph:", "cpu.svg")?,
    ])
}
