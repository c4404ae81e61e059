//! `/metrics`: the health of serving itself, in Prometheus's text format.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use super::health::Health;
use super::ring::Ring;
use crate::push;

/// Content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub(super) fn text(health: &Health, ring: &Ring, push: Option<&push::Counters>) -> String {
    let mut out = Text(String::new());
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    out.labelled(
        "ebpf_reader_build_info",
        "gauge",
        "Version of the program.",
        &[(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1)],
    );
    out.counter(
        "samples_total",
        "Samples that were taken.",
        get(&health.samples),
    );
    out.counter(
        "samples_with_context_total",
        "Samples with a trace id.",
        get(&health.with_context),
    );
    out.counter(
        "samples_lost_total",
        "Samples that could not be delivered.",
        get(&health.lost),
    );
    out.counter(
        "samples_unreadable_total",
        "Samples whose thread published something that could not be read.",
        get(&health.unreadable),
    );
    out.counter(
        "samples_truncated_total",
        "Samples of which attributes, labels or the user stack were cut off.",
        get(&health.truncated),
    );
    out.counter(
        "events_lost_total",
        "Starts and ends of processes that could not be delivered.",
        get(&health.lost_events),
    );
    out.counter(
        "processes_refused_total",
        "Processes that are not followed because there were too many.",
        get(&health.refused_processes),
    );
    out.counter(
        "windows_total",
        "Windows that were made.",
        get(&health.windows),
    );
    out.counter(
        "windows_late_total",
        "Windows that got longer because names of functions were looked up slowly.",
        get(&health.late_windows),
    );
    out.counter(
        "windows_dropped_for_memory_total",
        "Windows that were dropped before their time because the ring was full.",
        ring.dropped_for_memory(),
    );
    out.counter(
        "symbol_failures_total",
        "Files in which no names of functions could be looked up.",
        get(&health.symbol_failures),
    );
    out.gauge(
        "targets",
        "Processes that are followed.",
        get(&health.targets),
    );
    out.gauge("windows", "Windows that are kept.", whole(ring.len()));
    out.gauge(
        "ring_bytes",
        "Bytes that the windows take up.",
        whole(ring.bytes()),
    );
    out.gauge(
        "ring_limit_bytes",
        "Bytes that they may take up.",
        whole(ring.memory()),
    );
    if let Some(resident) = resident_bytes() {
        out.labelled(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of this process.",
            &[("", resident)],
        );
    }
    out.counter(
        "http_requests_total",
        "Requests that were answered.",
        get(&health.requests),
    );
    out.counter(
        "http_requests_refused_total",
        "Requests and connections that were refused, for want of a token or of room.",
        get(&health.refused_requests),
    );
    if let Some(push) = push {
        out.counter("push_sent_total", "Messages that arrived.", push.sent);
        out.counter(
            "push_sent_bytes_total",
            "Bytes of these messages.",
            push.sent_bytes,
        );
        out.labelled(
            "ebpf_reader_push_failures_total",
            "counter",
            "Attempts that failed, and messages that were lost: refused by the receiver or dropped for newer ones.",
            &[
                ("kind=\"attempt\"", push.failed_attempts),
                ("kind=\"refused\"", push.refused),
                ("kind=\"dropped\"", push.dropped),
                ("kind=\"rejected_profile\"", push.rejected_profiles),
            ],
        );
        out.gauge("push_queue_messages", "Messages that wait.", push.queued);
        out.gauge(
            "push_queue_bytes",
            "Bytes of messages that wait.",
            push.queued_bytes,
        );
    }
    out.0
}

/// Resident memory of this process, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

struct Text(String);

impl Text {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.labelled(
            &format!("ebpf_reader_{name}"),
            "counter",
            help,
            &[("", value)],
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.labelled(
            &format!("ebpf_reader_{name}"),
            "gauge",
            help,
            &[("", value)],
        );
    }

    fn labelled(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, u64)]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (label, value) in values {
            let _ = match label.is_empty() {
                true => writeln!(self.0, "{name} {value}"),
                false => writeln!(self.0, "{name}{{{label}}} {value}"),
            };
        }
    }
}
