//! A profile's numbers as one JSON object, for tools.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::profile::{By, Filter, Profile, Usage};

/// What `filter` shows of a profile, as one JSON object.
pub fn json(profile: &Profile, filter: &Filter) -> String {
    let profile = profile.select(filter);
    let groups = |by: &By| {
        let (groups, _) = profile.usage_by(by);
        groups
            .into_iter()
            .map(|group| Labelled {
                value: group.name,
                time: group.usage.into(),
            })
            .collect()
    };
    let report = Report {
        samples: profile.samples,
        with_context: profile.with_context,
        lost: profile.lost,
        unreadable: profile.unreadable,
        truncated: profile.truncated,
        merged: profile.merged,
        started_unix_ns: profile.started.and_then(|started| {
            let since = started.duration_since(std::time::UNIX_EPOCH).ok()?;
            u64::try_from(since.as_nanos()).ok()
        }),
        duration_ns: u64::try_from(profile.duration.as_nanos()).unwrap_or(u64::MAX),
        period_ns: profile.period_ns,
        off_cpu: profile.has_off_cpu(),
        total: profile.total().into(),
        without_context: profile.usage_by(&By::Trace).1.into(),
        processes: processes(&profile),
        traces: profile
            .traces()
            .iter()
            .map(|usage| Trace {
                trace_id: usage.trace_id.to_string(),
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
                blocked_ns: usage.blocked_ns,
                preempted_ns: usage.preempted_ns,
            })
            .collect(),
        spans: profile
            .spans()
            .iter()
            .map(|usage| Span {
                trace_id: usage.trace_id.to_string(),
                span_id: usage.span_id.map(|id| id.to_string()),
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
                blocked_ns: usage.blocked_ns,
                preempted_ns: usage.preempted_ns,
            })
            .collect(),
        labels: profile
            .label_names()
            .into_iter()
            .map(|name| (name, groups(&By::Attribute(name.to_owned()))))
            .collect(),
    };
    // Strings, numbers and lists of them: there is nothing that JSON could not hold.
    serde_json::to_string(&report).unwrap_or_default()
}

fn processes(profile: &Profile) -> Vec<Process<'_>> {
    let mut usages = vec![Usage::default(); profile.processes.len()];
    for row in &profile.rows {
        let thread = profile.threads.get(row.thread);
        if let Some(usage) = thread.and_then(|thread| usages.get_mut(thread.process)) {
            usage.add(row);
        }
    }
    profile
        .processes
        .iter()
        .zip(usages)
        .map(|(process, usage)| {
            let published = process.context.iter();
            let resource = published.flat_map(|context| &context.resource);
            Process {
                pid: process.pid,
                name: &process.name,
                executable: &process.executable,
                resource: pairs(resource),
                origin: pairs(&process.origin),
                time: usage.into(),
            }
        })
        .collect()
}

fn pairs<'a>(pairs: impl IntoIterator<Item = &'a (String, String)>) -> BTreeMap<&'a str, &'a str> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

#[derive(Serialize)]
struct Report<'a> {
    samples: u64,
    with_context: u64,
    lost: u64,
    unreadable: u64,
    truncated: u64,
    merged: u64,
    started_unix_ns: Option<u64>,
    duration_ns: u64,
    period_ns: u64,
    off_cpu: bool,
    total: Time,
    without_context: Time,
    processes: Vec<Process<'a>>,
    traces: Vec<Trace>,
    spans: Vec<Span>,
    labels: BTreeMap<&'a str, Vec<Labelled>>,
}

/// Samples of threads that ran, and times in nanoseconds.
#[derive(Serialize)]
pub(super) struct Time {
    samples: u64,
    cpu_ns: u64,
    blocked_ns: u64,
    preempted_ns: u64,
}

impl From<Usage> for Time {
    fn from(usage: Usage) -> Self {
        Self {
            samples: usage.samples,
            cpu_ns: usage.cpu_ns,
            blocked_ns: usage.blocked_ns,
            preempted_ns: usage.preempted_ns,
        }
    }
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    name: &'a str,
    executable: &'a str,
    resource: BTreeMap<&'a str, &'a str>,
    origin: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    time: Time,
}

#[derive(Serialize)]
struct Trace {
    trace_id: String,
    samples: u64,
    cpu_ns: u64,
    blocked_ns: u64,
    preempted_ns: u64,
}

#[derive(Serialize)]
struct Span {
    trace_id: String,
    span_id: Option<String>,
    samples: u64,
    cpu_ns: u64,
    blocked_ns: u64,
    preempted_ns: u64,
}

#[derive(Serialize)]
struct Labelled {
    value: String,
    #[serde(flatten)]
    time: Time,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{two_traces, with_off_cpu};

    fn parsed(profile: &Profile, filter: &Filter) -> serde_json::Value {
        serde_json::from_str(&json(profile, filter)).unwrap()
    }

    #[test]
    fn one_json_object() {
        let value = parsed(&two_traces(), &Filter::all());
        assert_eq!(value["samples"], 7);
        assert_eq!(value["with_context"], 5);
        assert_eq!(value["lost"], 3);
        assert_eq!(value["unreadable"], 1);
        assert_eq!(value["off_cpu"], false);
        assert_eq!(value["started_unix_ns"], 1_700_000_000_000_000_000_u64);
        assert_eq!(value["without_context"]["samples"], 2);
        assert_eq!(value["traces"].as_array().unwrap().len(), 2);
        assert_eq!(
            value["traces"][0],
            serde_json::json!({
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "samples": 4, "cpu_ns": 40_000_000,
                "blocked_ns": 0, "preempted_ns": 0,
            })
        );
        assert_eq!(value["spans"][0]["span_id"], "00f067aa0ba902b7");
        assert_eq!(value["processes"][0]["name"], "app");
        assert_eq!(value["processes"][0]["cpu_ns"], 70_000_000);
        assert_eq!(value["labels"]["http.route"][0]["value"], "/slow");
        assert_eq!(value["labels"]["http.route"][0]["samples"], 4);
    }

    #[test]
    fn a_selection_with_times_off_the_cpu() {
        let filter = Filter::all().attribute("http.route", "/slow");
        let value = parsed(&with_off_cpu(), &filter);
        assert_eq!(value["off_cpu"], true);
        assert_eq!(value["total"]["cpu_ns"], 40_000_000);
        assert_eq!(value["total"]["blocked_ns"], 300_000_000);
        assert_eq!(value["traces"].as_array().unwrap().len(), 1);
        assert_eq!(value["traces"][0]["blocked_ns"], 300_000_000);
    }
}
