//! Time on the CPU and off it: in all, by trace, by span, and by the value of an attribute.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::{Profile, Row, SpanId, TraceId};
use crate::process_context::ProcessContext;
use crate::sample::Activity;

/// How much time some samples stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Samples of threads that ran.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
    /// Times in which a thread did not run; 0 if these were not recorded.
    pub waits: u64,
    /// Time in which threads waited for something, in nanoseconds.
    pub blocked_ns: u64,
    /// Time in which threads were ready and other threads had the CPU, in nanoseconds.
    pub preempted_ns: u64,
}

impl Usage {
    /// Adds the samples of a row.
    pub fn add(&mut self, row: &Row) {
        let (count, ns) = match row.activity {
            Activity::OnCpu => (&mut self.samples, &mut self.cpu_ns),
            Activity::Blocked => (&mut self.waits, &mut self.blocked_ns),
            Activity::Preempted => (&mut self.waits, &mut self.preempted_ns),
        };
        *count = count.saturating_add(row.samples);
        *ns = ns.saturating_add(row.ns);
    }

    /// Time off the CPU, in nanoseconds.
    pub fn off_cpu_ns(&self) -> u64 {
        self.blocked_ns.saturating_add(self.preempted_ns)
    }

    /// Time on the CPU and off it, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.cpu_ns.saturating_add(self.off_cpu_ns())
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), |sum, usage| Self {
            samples: sum.samples.saturating_add(usage.samples),
            cpu_ns: sum.cpu_ns.saturating_add(usage.cpu_ns),
            waits: sum.waits.saturating_add(usage.waits),
            blocked_ns: sum.blocked_ns.saturating_add(usage.blocked_ns),
            preempted_ns: sum.preempted_ns.saturating_add(usage.preempted_ns),
        })
    }
}

/// By what samples are grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum By {
    /// The trace.
    #[default]
    Trace,
    /// The span.
    Span,
    /// The process.
    Process,
    /// An attribute, a label or another name as in [`Profile::value`], such as `http.route` or `service.name`.
    Attribute(String),
}

impl By {
    /// The attribute in which otel-profiling publishes a span's name.
    pub const SPAN_NAME: &str = "span_name";

    /// `trace`, `span`, `process`, `service`, `span-name`, or the name of an attribute.
    pub fn parse(text: &str) -> Self {
        match text {
            "trace" => Self::Trace,
            "span" => Self::Span,
            "process" => Self::Process,
            "service" => Self::Attribute("service.name".to_owned()),
            "span-name" => Self::Attribute(Self::SPAN_NAME.to_owned()),
            name => Self::Attribute(name.to_owned()),
        }
    }
}

/// Samples that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// What they have in common, as text: an id, a name with its process id, or the value of an attribute.
    pub name: String,
    /// Their time.
    pub usage: Usage,
}

/// Time of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceUsage {
    /// The trace.
    pub trace_id: TraceId,
    /// Samples taken inside it of threads that ran.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
    /// Time in which its threads waited for something, in nanoseconds.
    pub blocked_ns: u64,
    /// Time in which its threads were ready and other threads had the CPU, in nanoseconds.
    pub preempted_ns: u64,
}

/// Time of one span, without its children's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanUsage {
    /// The trace.
    pub trace_id: TraceId,
    /// The span; `None` for samples that name only the trace.
    pub span_id: Option<SpanId>,
    /// Samples taken inside it of threads that ran.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
    /// Time in which its threads waited for something, in nanoseconds.
    pub blocked_ns: u64,
    /// Time in which its threads were ready and other threads had the CPU, in nanoseconds.
    pub preempted_ns: u64,
}

impl Profile {
    /// Whether time off the CPU was recorded, and there was any.
    pub fn has_off_cpu(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.activity != Activity::OnCpu)
    }

    /// The time of all samples.
    pub fn total(&self) -> Usage {
        let mut total = Usage::default();
        for row in &self.rows {
            total.add(row);
        }
        total
    }

    /// Names of the labels that were seen, attributes of the thread context and custom labels alike, in
    /// alphabetical order.
    pub fn label_names(&self) -> Vec<&str> {
        let labels = self.contexts.iter().flat_map(|context| &context.labels);
        let names: BTreeSet<&str> = labels.map(|(name, _)| name.as_str()).collect();
        names.into_iter().collect()
    }

    /// What the samples of a row have under a name: a label of theirs (an attribute of the thread context or
    /// a custom label); else `trace_id`, `span_id`, `thread.id`, `thread.name`, `process.pid` or
    /// `process.executable.name`; else what is known of the process: its resource, its origin, and the other
    /// attributes of its process context.
    pub fn value(&self, row: &Row, name: &str) -> Option<Cow<'_, str>> {
        fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<Cow<'a, str>> {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| Cow::Borrowed(value.as_str()))
        }
        let context = self.contexts.get(row.context);
        if let Some(value) = context.and_then(|context| find(&context.labels, name)) {
            return Some(value);
        }
        let thread = self.threads.get(row.thread);
        let process = thread.and_then(|thread| self.processes.get(thread.process));
        match name {
            "trace_id" => return Some(context?.trace_id?.to_string().into()),
            "span_id" => return Some(context?.span_id?.to_string().into()),
            "thread.id" => return Some(thread?.tid.to_string().into()),
            "thread.name" => return Some(thread?.name.as_str().into()),
            "process.pid" => return Some(process?.pid.to_string().into()),
            "process.executable.name" => return Some(process?.executable_name().into()),
            _ => {}
        }
        let process = process?;
        let published = process.context.as_ref();
        published
            .and_then(|published| find(&published.resource, name))
            .or_else(|| find(&process.origin, name))
            .or_else(|| find(&published?.attributes, name))
    }

    /// Groups of samples, the one with most time first, and the time of the samples that are in none: those
    /// without a trace, or without the attribute.
    pub fn usage_by(&self, by: &By) -> (Vec<Group>, Usage) {
        let context = |row: &Row| self.contexts.get(row.context);
        match by {
            By::Trace => self.named(|row| context(row)?.trace_id, ToString::to_string),
            By::Span => self.named(
                |row| {
                    let context = context(row)?;
                    Some((context.trace_id?, context.span_id?))
                },
                |(trace_id, span_id)| format!("{trace_id} {span_id}"),
            ),
            By::Process => self.named(
                |row| Some(self.threads.get(row.thread)?.process),
                |&index| {
                    let process = self.processes.get(index);
                    process.map_or_else(String::new, |process| {
                        let name = format!("{} ({})", process.name, process.pid);
                        let context = process.context.as_ref();
                        match context.and_then(ProcessContext::service) {
                            Some(service) => format!("{name} {}", service.name),
                            None => name,
                        }
                    })
                },
            ),
            By::Attribute(name) => self.named(|row| self.value(row, name), ToString::to_string),
        }
    }

    /// Time by the value of the attribute or label `name`, the largest first. Samples without it are in none.
    pub fn by_label(&self, name: &str) -> Vec<Group> {
        self.usage_by(&By::Attribute(name.to_owned())).0
    }

    /// Time by trace, the largest first.
    pub fn traces(&self) -> Vec<TraceUsage> {
        let (traces, _) = self.grouped(|row| self.contexts.get(row.context)?.trace_id);
        traces
            .into_iter()
            .map(|(trace_id, usage)| TraceUsage {
                trace_id,
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
                blocked_ns: usage.blocked_ns,
                preempted_ns: usage.preempted_ns,
            })
            .collect()
    }

    /// Time by span, the largest first.
    pub fn spans(&self) -> Vec<SpanUsage> {
        let (spans, _) = self.grouped(|row| {
            let context = self.contexts.get(row.context)?;
            Some((context.trace_id?, context.span_id))
        });
        spans
            .into_iter()
            .map(|((trace_id, span_id), usage)| SpanUsage {
                trace_id,
                span_id,
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
                blocked_ns: usage.blocked_ns,
                preempted_ns: usage.preempted_ns,
            })
            .collect()
    }

    fn named<'a, K: Clone + Eq + Ord + Hash>(
        &'a self,
        key: impl Fn(&'a Row) -> Option<K>,
        name: impl Fn(&K) -> String,
    ) -> (Vec<Group>, Usage) {
        let (groups, rest) = self.grouped(key);
        let groups = groups.into_iter().map(|(key, usage)| Group {
            name: name(&key),
            usage,
        });
        (groups.collect(), rest)
    }

    /// Time by key, the largest first: by CPU time, then by time off the CPU; and of the rows without a key.
    fn grouped<'a, K: Clone + Eq + Ord + Hash>(
        &'a self,
        key: impl Fn(&'a Row) -> Option<K>,
    ) -> (Vec<(K, Usage)>, Usage) {
        let mut groups: HashMap<K, Usage> = HashMap::new();
        let mut rest = Usage::default();
        for row in &self.rows {
            match key(row) {
                Some(key) => groups.entry(key).or_default().add(row),
                None => rest.add(row),
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        let time = |usage: &Usage| (usage.cpu_ns, usage.off_cpu_ns());
        groups
            .sort_by(|(a_key, a), (b_key, b)| time(b).cmp(&time(a)).then_with(|| a_key.cmp(b_key)));
        (groups, rest)
    }
}
