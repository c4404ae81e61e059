//! The report of a recording: CPU time by trace, as a table or as JSON.

use std::fmt;

use serde::Serialize;

use crate::profile::Profile;

/// Shows a profile as a table of traces.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    profile: &'a Profile,
    rows: usize,
}

impl<'a> Table<'a> {
    /// A table of all traces.
    pub fn new(profile: &'a Profile) -> Self {
        Self {
            profile,
            rows: usize::MAX,
        }
    }

    /// Shows at most `rows` traces, those with most CPU time, and how many others there are.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = self.profile;
        let traces = profile.traces();
        let (shown, rest) = traces.split_at(self.rows.min(traces.len()));
        writeln!(
            f,
            "{:<32}  {:>8}  {:>10}  {:>7}",
            "TRACE ID", "SAMPLES", "CPU ms", "SHARE"
        )?;
        let mut row = |name: &str, samples: u64| {
            let (milliseconds, share) = (
                millis(profile.cpu_ns(samples)),
                share(samples, profile.samples),
            );
            writeln!(
                f,
                "{name:<32}  {samples:>8}  {milliseconds:>10.1}  {share:>5.1} %"
            )
        };
        for usage in shown {
            row(&usage.trace_id.to_string(), usage.samples)?;
        }
        if !rest.is_empty() {
            row(
                &format!("({} more traces)", rest.len()),
                rest.iter().map(|usage| usage.samples).sum(),
            )?;
        }
        row(
            "(without context)",
            profile.samples.saturating_sub(profile.with_context),
        )?;
        row("(all)", profile.samples)?;
        writeln!(f)?;
        write!(
            f,
            "{} samples in {:.1} s, {:.1} % without context, {} lost, {} unreadable",
            profile.samples,
            profile.duration.as_secs_f64(),
            share(
                profile.samples.saturating_sub(profile.with_context),
                profile.samples
            ),
            profile.lost,
            profile.unreadable,
        )?;
        if profile.truncated > 0 {
            write!(f, ", {} truncated", profile.truncated)?;
        }
        Ok(())
    }
}

/// A profile as one JSON object.
pub fn json(profile: &Profile) -> String {
    let report = Json {
        samples: profile.samples,
        with_context: profile.with_context,
        lost: profile.lost,
        unreadable: profile.unreadable,
        truncated: profile.truncated,
        duration_ns: u64::try_from(profile.duration.as_nanos()).unwrap_or(u64::MAX),
        period_ns: profile.period_ns,
        processes: profile
            .processes
            .iter()
            .map(|process| JsonProcess {
                pid: process.pid,
                name: &process.name,
                resource: process
                    .context
                    .iter()
                    .flat_map(|context| &context.resource)
                    .map(|(key, value)| (key.clone(), value.clone().into()))
                    .collect(),
            })
            .collect(),
        traces: profile
            .traces()
            .iter()
            .map(|usage| JsonTrace {
                trace_id: usage.trace_id.to_string(),
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
            })
            .collect(),
        spans: profile
            .spans()
            .iter()
            .map(|usage| JsonSpan {
                trace_id: usage.trace_id.to_string(),
                span_id: usage.span_id.map(|id| id.to_string()),
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
            })
            .collect(),
    };
    // Strings, numbers and lists of them: there is nothing that JSON could not hold.
    serde_json::to_string(&report).unwrap_or_default()
}

#[derive(Serialize)]
struct Json<'a> {
    samples: u64,
    with_context: u64,
    lost: u64,
    unreadable: u64,
    truncated: u64,
    duration_ns: u64,
    period_ns: u64,
    processes: Vec<JsonProcess<'a>>,
    traces: Vec<JsonTrace>,
    spans: Vec<JsonSpan>,
}

#[derive(Serialize)]
struct JsonProcess<'a> {
    pid: u32,
    name: &'a str,
    resource: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct JsonTrace {
    trace_id: String,
    samples: u64,
    cpu_ns: u64,
}

#[derive(Serialize)]
struct JsonSpan {
    trace_id: String,
    span_id: Option<String>,
    samples: u64,
    cpu_ns: u64,
}

fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    #[test]
    fn the_table() {
        let table = Table::new(&two_traces()).to_string();
        assert_eq!(
            table,
            "\
TRACE ID                           SAMPLES      CPU ms    SHARE
4bf92f3577b34da6a3ce929d0e0e4736         4        40.0   57.1 %
0af7651916cd43dd8448eb211c80319c         1        10.0   14.3 %
(without context)                        2        20.0   28.6 %
(all)                                    7        70.0  100.0 %

7 samples in 2.0 s, 28.6 % without context, 3 lost, 1 unreadable"
        );
    }

    #[test]
    fn a_short_table_counts_the_rest() {
        let table = Table::new(&two_traces()).rows(1).to_string();
        assert!(
            table.contains("\n(1 more traces)                          1        10.0   14.3 %\n"),
            "{table}"
        );
        assert!(!table.contains("0af7"));
    }

    #[test]
    fn what_was_cut_off_is_told() {
        let mut profile = two_traces();
        profile.truncated = 2;
        let table = Table::new(&profile).to_string();
        assert!(table.ends_with(", 1 unreadable, 2 truncated"), "{table}");
    }

    #[test]
    fn nothing_was_sampled() {
        let table = Table::new(&Profile::default()).to_string();
        assert!(
            table.contains("0 samples in 0.0 s, 0.0 % without context, 0 lost"),
            "{table}"
        );
    }

    #[test]
    fn one_json_object() {
        let value: serde_json::Value = serde_json::from_str(&json(&two_traces())).unwrap();
        assert_eq!(value["samples"], 7);
        assert_eq!(value["with_context"], 5);
        assert_eq!(value["lost"], 3);
        assert_eq!(value["unreadable"], 1);
        assert_eq!(value["traces"].as_array().unwrap().len(), 2);
        assert_eq!(
            value["traces"][0],
            serde_json::json!({
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "samples": 4, "cpu_ns": 40_000_000,
            })
        );
        assert_eq!(value["spans"][0]["span_id"], "00f067aa0ba902b7");
        assert_eq!(value["processes"][0]["name"], "app");
    }
}
