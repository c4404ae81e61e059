//! Pushing to receivers: small ones in this process that answer as they are told, and a real OpenTelemetry Collector.

mod collector;
mod encrypted;
mod grpc;
mod http;
mod message;
mod receiver;
mod unreachable;

use std::time::{Duration, Instant};

use ebpf_reader::push::{Config, Counters, Exporter, Protocol};

/// How long a busy machine may take for what should take no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration for a receiver here: short pauses.
fn config(protocol: Protocol, endpoint: &str) -> Config {
    Config::new()
        .protocol(protocol)
        .endpoint(endpoint)
        .pauses(Duration::from_millis(20), Duration::from_millis(100))
}

/// Waits until the counters are as expected.
#[track_caller]
fn wait_for(exporter: &Exporter, what: &str, expected: impl Fn(&Counters) -> bool) -> Counters {
    let start = Instant::now();
    loop {
        let counters = exporter.counters();
        if expected(&counters) {
            return counters;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {counters:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
