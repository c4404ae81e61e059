//! The rows of the table: the time of each trace, or of each value of an attribute, in the last windows.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::profile::{By, Filter, Profile, Row, SpanId, TraceId, Usage};
use crate::text::printable;

/// Names of labels to group by. More cannot be stepped through.
const MAX_NAMES: usize = 64;

/// What the samples of a row have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Trace(TraceId),
    Span(TraceId, SpanId),
    Process(u32),
    /// The value of the attribute that the table is grouped by.
    Value(String),
}

impl Key {
    /// What shows the samples of this row.
    pub(super) fn filter(&self, by: &By) -> Filter {
        match (self, by) {
            (Self::Trace(trace_id), _) => Filter::trace(*trace_id),
            (Self::Span(trace_id, span_id), _) => Filter::trace(*trace_id).span(*span_id),
            (Self::Process(pid), _) => Filter::all().attribute("process.pid", pid.to_string()),
            (Self::Value(value), By::Attribute(name)) => Filter::all().attribute(name, value),
            (Self::Value(value), _) => Filter::all().attribute(by_name(by), value),
        }
    }

    fn of(profile: &Profile, row: &Row, by: &By) -> Option<Self> {
        let context = profile.contexts.get(row.context);
        Some(match by {
            By::Trace => Self::Trace(context?.trace_id?),
            By::Span => Self::Span(context?.trace_id?, context?.span_id?),
            By::Process => {
                let thread = profile.threads.get(row.thread)?;
                Self::Process(profile.processes.get(thread.process)?.pid)
            }
            By::Attribute(name) => Self::Value(profile.value(row, name)?.into_owned()),
        })
    }
}

/// How a grouping is called on the command line and on the screen.
pub(super) fn by_name(by: &By) -> &str {
    match by {
        By::Trace => "trace",
        By::Span => "span",
        By::Process => "process",
        By::Attribute(name) if name == By::SPAN_NAME => "span-name",
        By::Attribute(name) => name,
    }
}

/// The grouping after this one: traces, names of spans, each other label that was seen, processes.
pub(super) fn next_by(by: &By, windows: &[Arc<Profile>]) -> By {
    let mut names: BTreeSet<&str> = windows.iter().flat_map(|w| w.label_names()).collect();
    let mut all = vec![By::Trace];
    if names.remove(By::SPAN_NAME) {
        all.push(By::Attribute(By::SPAN_NAME.to_owned()));
    }
    let labels = names.into_iter().take(MAX_NAMES);
    all.extend(labels.map(|name| By::Attribute(name.to_owned())));
    all.push(By::Process);
    let at = all.iter().position(|other| other == by);
    let next = at.map_or(0, |at| (at + 1) % all.len());
    all.swap_remove(next)
}

/// By what rows are sorted, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Cpu,
    OffCpu,
    Samples,
}

impl Sort {
    /// What is compared.
    pub(super) fn value(self, usage: &Usage) -> u64 {
        match self {
            Self::Cpu => usage.cpu_ns,
            Self::OffCpu => usage.off_cpu_ns(),
            Self::Samples => usage.samples,
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: Key,
    /// The key as text, fit to be shown.
    pub(super) name: String,
    pub(super) usage: Usage,
}

/// All rows, and the sums that are shown above them.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// Those that were searched for, sorted.
    pub(super) lines: Vec<Line>,
    /// The time of all samples, whether they are in a row or not.
    pub(super) total: Usage,
    /// Of these, the time without a trace.
    pub(super) without_trace: Usage,
}

impl Rows {
    /// Groups what was counted. `search` is the beginning of an id, or a part of a name.
    pub(super) fn new(windows: &[Arc<Profile>], by: &By, sort: Sort, search: &str) -> Self {
        let mut groups: HashMap<Key, (Usage, String)> = HashMap::new();
        let mut total = Usage::default();
        let mut without_trace = Usage::default();
        for profile in windows {
            for row in &profile.rows {
                total.add(row);
                let context = profile.contexts.get(row.context);
                if context.is_none_or(|context| context.trace_id.is_none()) {
                    without_trace.add(row);
                }
                let Some(key) = Key::of(profile, row, by) else {
                    continue;
                };
                match groups.get_mut(&key) {
                    Some((usage, _)) => usage.add(row),
                    None => {
                        let mut usage = Usage::default();
                        usage.add(row);
                        let name = name(&key, profile, row);
                        groups.insert(key, (usage, name));
                    }
                }
            }
        }
        let search = search.to_lowercase();
        let mut lines: Vec<Line> = groups
            .into_iter()
            .map(|(key, (usage, name))| Line { key, name, usage })
            .filter(|line| matches(line, &search))
            .collect();
        lines.sort_by(|a, b| {
            let value = |line: &Line| {
                let usage = &line.usage;
                (sort.value(usage), usage.cpu_ns, usage.off_cpu_ns())
            };
            (Reverse(value(a)), &a.key).cmp(&(Reverse(value(b)), &b.key))
        });
        Self {
            lines,
            total,
            without_trace,
        }
    }
}

fn matches(line: &Line, search: &str) -> bool {
    let name = line.name.to_lowercase();
    match line.key {
        Key::Trace(_) => name.starts_with(search),
        // Of either id.
        Key::Span(..) => name.split(' ').any(|id| id.starts_with(search)),
        Key::Process(_) | Key::Value(_) => name.contains(search),
    }
}

fn name(key: &Key, profile: &Profile, row: &Row) -> String {
    match key {
        Key::Trace(trace_id) => trace_id.to_string(),
        Key::Span(trace_id, span_id) => format!("{trace_id} {span_id}"),
        Key::Value(value) => printable(value).into_owned(),
        Key::Process(pid) => {
            let thread = profile.threads.get(row.thread);
            let process = thread.and_then(|thread| profile.processes.get(thread.process));
            let Some(process) = process else {
                return pid.to_string();
            };
            let name = format!("{} ({pid})", process.name);
            let context = process.context.as_ref();
            let shown = match context.and_then(crate::process_context::ProcessContext::service) {
                Some(service) => format!("{name} {}", service.name),
                None => name,
            };
            printable(&shown).into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{two_traces, with_off_cpu};

    #[test]
    fn windows_are_summed_up() {
        let one = Arc::new(two_traces());
        let once = Rows::new(&[Arc::clone(&one)], &By::Trace, Sort::Cpu, "");
        let twice = Rows::new(&[Arc::clone(&one), one], &By::Trace, Sort::Cpu, "");
        assert!(!once.lines.is_empty());
        assert_eq!(once.lines.len(), twice.lines.len());
        assert_eq!(twice.total.samples, 2 * once.total.samples);
        for (once, twice) in once.lines.iter().zip(&twice.lines) {
            assert_eq!(once.key, twice.key);
            assert_eq!(2 * once.usage.cpu_ns, twice.usage.cpu_ns);
        }
    }

    #[test]
    fn rows_agree_with_the_report_and_with_their_filters() {
        let profile = with_off_cpu();
        for by in [
            By::Trace,
            By::Span,
            By::Process,
            By::Attribute("http.route".to_owned()),
        ] {
            let rows = Rows::new(&[Arc::new(profile.clone())], &by, Sort::Cpu, "");
            let (groups, _) = profile.usage_by(&by);
            let found: Vec<_> = rows.lines.iter().map(|l| (&l.name, l.usage)).collect();
            let expected: Vec<_> = groups.iter().map(|g| (&g.name, g.usage)).collect();
            assert_eq!(found, expected, "{by:?}");
            for line in &rows.lines {
                let selected = profile.select(&line.key.filter(&by)).into_owned();
                assert_eq!(selected.total(), line.usage, "{}", line.name);
            }
        }
    }

    #[test]
    fn search_finds_beginnings_of_ids_and_parts_of_names() {
        let windows = [Arc::new(two_traces())];
        let all = Rows::new(&windows, &By::Trace, Sort::Cpu, "");
        let id = &all.lines[0].name;
        let found = Rows::new(&windows, &By::Trace, Sort::Cpu, &id[..8].to_uppercase());
        assert!(found.lines.iter().any(|line| line.name == *id));
        let not = Rows::new(&windows, &By::Trace, Sort::Cpu, "zz");
        assert!(not.lines.is_empty());
        assert_eq!(not.total, all.total);
        let route = By::Attribute("http.route".to_owned());
        let found = Rows::new(&windows, &route, Sort::Cpu, "LOW");
        assert_eq!(found.lines.len(), 1);
        assert_eq!(found.lines[0].name, "/slow");
    }

    #[test]
    fn every_grouping_comes_once() {
        let windows = [Arc::new(two_traces())];
        let mut by = By::Trace;
        let mut seen = Vec::new();
        while !seen.contains(&by) {
            seen.push(by.clone());
            by = next_by(&by, &windows);
        }
        assert_eq!(by, By::Trace);
        assert_eq!(seen.last(), Some(&By::Process));
        assert!(seen.contains(&By::Attribute("http.route".to_owned())));
        // One that is not among them leads back.
        assert_eq!(next_by(&By::Span, &windows), By::Trace);
    }
}
