//! The report of a recording: CPU time by trace or by the values of a label, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::profile::Profile;

/// Shows a profile as a table: a row for each trace, or for each value of a label.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    profile: &'a Profile,
    label: Option<&'a str>,
    rows: usize,
}

/// Columns of the first cell of a row, at least.
const WIDTH: usize = 32;

impl<'a> Table<'a> {
    /// A table of all traces.
    pub fn new(profile: &'a Profile) -> Self {
        Self {
            profile,
            label: None,
            rows: usize::MAX,
        }
    }

    /// A table of all values of the label `name`: an attribute of the thread context, or a custom label.
    pub fn by_label(profile: &'a Profile, name: &'a str) -> Self {
        Self {
            label: Some(name),
            ..Self::new(profile)
        }
    }

    /// Shows at most `rows` rows, those with most CPU time, and how many others there are.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = self.profile;
        let (heading, others, usages): (String, _, Vec<(String, u64)>) = match self.label {
            None => {
                let traces = profile.traces().into_iter();
                let traces = traces.map(|usage| (usage.trace_id.to_string(), usage.samples));
                ("TRACE ID".to_owned(), "(without context)", traces.collect())
            }
            Some(name) => {
                let values = profile.by_label(name).into_iter();
                let values = values.map(|usage| (printable(&usage.value), usage.samples));
                (printable(name), "(without the label)", values.collect())
            }
        };
        let with: u64 = usages.iter().map(|(_, samples)| samples).sum();
        let (shown, rest) = usages.split_at(self.rows.min(usages.len()));
        writeln!(
            f,
            "{heading:<WIDTH$}  {:>8}  {:>10}  {:>7}",
            "SAMPLES", "CPU ms", "SHARE"
        )?;
        let mut row = |name: &str, samples: u64| {
            let (milliseconds, share) = (
                millis(profile.cpu_ns(samples)),
                share(samples, profile.samples),
            );
            writeln!(
                f,
                "{name:<WIDTH$}  {samples:>8}  {milliseconds:>10.1}  {share:>5.1} %"
            )
        };
        for (name, samples) in shown {
            row(name, *samples)?;
        }
        if !rest.is_empty() {
            row(
                &format!("({} more)", rest.len()),
                rest.iter().map(|(_, samples)| samples).sum(),
            )?;
        }
        row(others, profile.samples.saturating_sub(with))?;
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
        labels: profile
            .label_names()
            .into_iter()
            .map(|name| {
                let values = profile.by_label(name).into_iter().map(|usage| JsonLabel {
                    value: usage.value,
                    samples: usage.samples,
                    cpu_ns: usage.cpu_ns,
                });
                (name, values.collect())
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
    labels: BTreeMap<&'a str, Vec<JsonLabel>>,
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
struct JsonLabel {
    value: String,
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

/// Text of another process, for a terminal: control characters are shown, not obeyed.
fn printable(text: &str) -> String {
    let show = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(show).collect()
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
            table.contains("\n(1 more)                                 1        10.0   14.3 %\n"),
            "{table}"
        );
        assert!(!table.contains("0af7"));
    }

    #[test]
    fn a_table_by_label() {
        let mut profile = two_traces();
        profile.contexts[0].labels = vec![("http.route".to_owned(), "/users\u{1b}[2J".to_owned())];
        let samples: u64 = profile
            .rows
            .iter()
            .filter(|row| row.context == 0)
            .map(|row| row.samples)
            .sum();
        let table = Table::by_label(&profile, "http.route").to_string();
        let first = format!(
            "http.route                         SAMPLES      CPU ms    SHARE\n\
                             /users\\u{{1b}}[2J                   {samples:>8}"
        );
        assert!(table.starts_with(&first), "{table}");
        assert!(
            table.contains(&format!(
                "\n(without the label)               {:>8}",
                7 - samples
            )),
            "{table}"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&profile)).unwrap();
        assert_eq!(json["labels"]["http.route"][0]["samples"], samples);
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
