//! Starts a writer as a process of its own, and samples it with eBPF.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ebpf_reader::sample::{Event, Sampler as _};
use ebpf_reader::sampler::EbpfSampler;
use ebpf_reader::sampler::ebpf::Options;
use ebpf_reader::{Error, process};

use crate::check::Tally;

const CASE: &str = "OTEL_PROFILING_TEST_CASE";

/// What a writer prints when its threads run.
const READY: &str = "the writers are at work";

/// Per CPU; as high as leaves the writers most of the time, and the reader able to keep up without optimization.
const FREQUENCY_HZ: u64 = 10_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// Takes `samples` samples of `writer`, which starts threads and returns, in a process of its own: `case`
/// is the name of the calling test. `None` in that process, and where eBPF is not allowed.
pub(crate) fn sample(case: &str, samples: u64, writer: fn()) -> Option<Tally> {
    if std::env::var_os(CASE).is_some_and(|running| running == case) {
        // The reader goes first where CPUs are few.
        rustix::process::nice(10).expect("being nicer is always allowed");
        writer();
        println!("{READY}");
        // Until the reader closes it, or is gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    }
    // Two at the same time would share the CPUs.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    let mut sampler = sampler()?;
    let writer = Writer::start(case);
    let start = Instant::now();
    sampler
        .follow(
            writer.0.id(),
            process::locate(writer.0.id()).expect("the symbols are exported"),
        )
        .expect("the writer runs");
    let mut tally = Tally::default();
    while tally.samples < samples {
        assert!(
            start.elapsed() < PATIENCE,
            "too few samples in {PATIENCE:?}: {tally:?}"
        );
        sampler
            .poll(Duration::from_millis(100), &mut |event| match event {
                Event::Sample(sample) if tally.samples < samples => tally.add(sample),
                Event::Sample(_) => {}
                Event::Exit { .. } => panic!("the writer ended: {tally:?}"),
                _ => {}
            })
            .expect("sampling works");
    }
    tally.lost = sampler.counters().lost_samples;
    report(&format!(
        "{case}: {} samples in {:.1} s, {} with thread context ({} torn), {} with custom labels ({} torn), \
         {} unreadable, {} lost",
        tally.samples,
        start.elapsed().as_secs_f32(),
        tally.with_thread_context,
        tally.torn_thread_contexts,
        tally.with_custom_labels,
        tally.torn_custom_labels,
        tally.unreadable,
        tally.lost,
    ));
    Some(tally)
}

fn sampler() -> Option<EbpfSampler> {
    let sampler = match EbpfSampler::new(&Options::new(FREQUENCY_HZ)) {
        // The machine allows less.
        Err(Error::Frequency { max_hz, .. }) => EbpfSampler::new(&Options::new(max_hz)),
        other => other,
    };
    match sampler {
        Ok(sampler) => Some(sampler),
        Err(Error::Permission { .. }) => {
            report("skipped: needs CAP_BPF and CAP_PERFMON");
            None
        }
        Err(error @ Error::Unsupported { .. }) => {
            report(&format!("skipped: {}", error.one_line()));
            None
        }
        Err(error) => panic!("{}", error.one_line()),
    }
}

/// Prints past the test harness, which hides what tests that pass print.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A writer, and what it prints: its test harness fails when nobody is there to read it.
struct Writer(Child, BufReader<ChildStdout>);

impl Writer {
    fn start(case: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the test's own path"))
            .args([case, "--exact", "--nocapture"])
            .env(CASE, case)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test runs itself");
        let output = child.stdout.take().expect("it is piped");
        let mut writer = Self(child, BufReader::new(output));
        let ready = (&mut writer.1)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.ends_with(READY));
        assert!(ready, "the writer ended before it began");
        writer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
