//! A real OpenTelemetry Collector, which prints what it is sent.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ebpf_reader::label_style::LabelStyle;
use ebpf_reader::profile::{Aggregator, Filter, Profile, Settings};
use ebpf_reader::push::{Exporter, Protocol};
use ebpf_reader::sample::{Counters, Event, Sample, ThreadContext};
use ebpf_reader::{otlp, pprof};

use crate::message::message;
use crate::{PATIENCE, config};

/// A running collector; ended when dropped.
pub(crate) struct Collector {
    child: Child,
    folder: tempfile::TempDir,
    grpc: u16,
    http: u16,
}

impl Collector {
    /// `None` where there is no Go to build it with.
    pub(crate) fn start() -> Option<Self> {
        let program = build()?;
        let folder = tempfile::tempdir().unwrap();
        let [grpc, http] = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        });
        let config = folder.path().join("config.yaml");
        let text = format!(
            "\
receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: 127.0.0.1:{grpc} }}
      http: {{ endpoint: 127.0.0.1:{http} }}
exporters:
  debug: {{ verbosity: detailed, use_internal_logger: false }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    profiles: {{ receivers: [otlp], exporters: [debug] }}
"
        );
        fs::write(&config, text).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config=file:{}", config.display()))
            .arg("--feature-gates=service.profilesSupport")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut collector = Self {
            child,
            folder,
            grpc,
            http,
        };
        collector.wait_for("Everything is ready");
        Some(collector)
    }

    pub(crate) fn endpoint(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Grpc => format!("http://127.0.0.1:{}", self.grpc),
            _ => format!("http://127.0.0.1:{}", self.http),
        }
    }

    /// What it printed so far.
    pub(crate) fn output(&self) -> String {
        let bytes = fs::read(self.folder.path().join("log")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.output().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "{text}: {}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the collector, once for all; `None` where Go is missing.
fn build() -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        println!("skipped: needs go, to build the OpenTelemetry Collector");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/collector/build");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the collector cannot be built");
    Some(PathBuf::from(
        String::from_utf8(output.stdout).unwrap().trim_end(),
    ))
}

#[test]
fn a_collector_shows_what_was_pushed() {
    let Some(mut collector) = Collector::start() else {
        return;
    };
    for (protocol, trace, samples) in [
        (Protocol::Grpc, 0x17, 1234),
        (Protocol::HttpProtobuf, 0x42, 4321),
    ] {
        let exporter = Exporter::start(config(protocol, &collector.endpoint(protocol))).unwrap();
        exporter.push(&message(trace, samples));
        assert!(exporter.shutdown(PATIENCE), "{protocol:?}");
        collector.wait_for(&format!("{}{trace:02x}", "ab".repeat(15)));
        collector.wait_for(&format!("[{samples}]"));
    }
    let output = collector.output();
    assert!(output.contains("service.name: Str(pushed)"), "{output}");
}

/// What was sampled arrives with the same trace id and number of samples as in pprof. One trace at a time: of a
/// table of links the collector prints one entry.
#[test]
fn a_collector_shows_the_numbers_of_a_profile() {
    let Some(mut collector) = Collector::start() else {
        return;
    };
    let (all, style) = (Filter::all(), LabelStyle::Otel);
    for (protocol, trace_id, samples) in [
        (Protocol::Grpc, [0x1a; 16], 1013),
        (Protocol::HttpProtobuf, [0x2b; 16], 2027),
    ] {
        let profile = profile(trace_id, samples);
        let trace = trace_id.map(|byte| format!("{byte:02x}")).concat();
        let pprof = pprof::encode(&profile, &all, style);
        assert!(pprof.string_table.contains(&trace));
        assert_eq!(pprof.sample.len(), 1);
        let count = pprof.sample[0].value[0];
        assert_eq!(count, i64::from(samples));

        let exporter = Exporter::start(config(protocol, &collector.endpoint(protocol))).unwrap();
        exporter.push(&otlp::encode(&profile, &all, style));
        assert!(exporter.shutdown(PATIENCE), "{protocol:?}");
        collector.wait_for(&trace);
        collector.wait_for(&format!("[{count}]"));
    }
}

/// So many samples of this very process in one trace.
fn profile(trace_id: [u8; 16], samples: u32) -> Profile {
    let mut aggregator = Aggregator::new(Settings {
        period_ns: 10_000_000,
        trace_label: String::new(),
        span_label: String::new(),
    });
    for _ in 0..samples {
        aggregator.event(Event::Sample(Sample {
            pid: std::process::id(),
            tid: std::process::id(),
            thread_context: Some(ThreadContext {
                trace_id,
                span_id: [7; 8],
                trace_flags: 1,
                attrs_data: Vec::new(),
            }),
            user_stack: vec![profile as fn([u8; 16], u32) -> Profile as usize as u64],
            ..Sample::default()
        }));
    }
    let (started, counters) = (SystemTime::now(), Counters::default());
    aggregator.rotate(started, Duration::from_secs(60), counters)
}
