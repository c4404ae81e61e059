//! A profile while it is read: what names and numbers of samples mean.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use crate::label_style::LabelStyle;
use crate::process_context::ProcessContext;
use crate::profile::interned::Interned;
use crate::profile::{Context, Process, Profile, Row, SpanId, Thread, TraceId};
use crate::sample::Activity;

/// What an attribute or label of a sample is about.
#[derive(Clone, Copy, Debug)]
enum Field {
    TraceId,
    SpanId,
    ThreadName,
    ThreadId,
    ProcessId,
    ProcessName,
    ServiceName,
}

/// One sample as a file has it.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// The ids, where they are not among the attributes.
    pub(super) trace_id: Option<TraceId>,
    /// The same of the span.
    pub(super) span_id: Option<SpanId>,
    /// Attributes or labels.
    pub(super) attributes: Vec<(String, String)>,
    /// Indices of locations, innermost first.
    pub(super) stack: Vec<usize>,
    /// The process, as far as it is known without the attributes.
    pub(super) process: ProcessKey,
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ProcessKey {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) executable: String,
    pub(super) resource: Vec<(String, String)>,
}

/// The profile so far. Mappings, locations and functions are put into it directly.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) profile: Profile,
    processes: Interned<ProcessKey>,
    threads: Interned<Thread>,
    contexts: Interned<Context>,
    stacks: Interned<Vec<usize>>,
    rows: HashMap<(usize, usize, usize, Activity), usize>,
}

impl Builder {
    /// Sets when it began and how long it took, in nanoseconds; the start since 1970.
    pub(super) fn time(&mut self, started: u64, duration: u64) {
        if started > 0 {
            self.profile.started = UNIX_EPOCH.checked_add(Duration::from_nanos(started));
        }
        self.profile.duration = Duration::from_nanos(duration);
    }

    /// Adds a sample with what its threads were doing, how many times, and for how long.
    pub(super) fn add(&mut self, sample: Sample, times: &[(Activity, u64, u64)]) {
        let mut process = sample.process;
        let mut thread = Thread::default();
        let mut context = Context {
            trace_id: sample.trace_id,
            span_id: sample.span_id,
            labels: Vec::new(),
        };
        for (key, value) in sample.attributes {
            let known = match field(&key) {
                Some(Field::TraceId) => set(&mut context.trace_id, value.parse().ok()),
                Some(Field::SpanId) => set(&mut context.span_id, value.parse().ok()),
                Some(Field::ThreadId) => number(&mut thread.tid, &value),
                Some(Field::ProcessId) => number(&mut process.pid, &value),
                Some(Field::ThreadName) => text(&mut thread.name, &value),
                Some(Field::ProcessName) => text(&mut process.name, &value),
                Some(Field::ServiceName) => {
                    if process
                        .resource
                        .iter()
                        .all(|(name, _)| name != "service.name")
                    {
                        process
                            .resource
                            .push(("service.name".to_owned(), value.clone()));
                    }
                    true
                }
                None => false,
            };
            if !known {
                context.labels.push((key, value));
            }
        }
        thread.process = self.processes.index(process);
        let has_trace = context.trace_id.is_some();
        let thread = self.threads.index(thread);
        let context = self.contexts.index(context);
        let stack = self.stacks.index(sample.stack);
        for &(activity, samples, ns) in times {
            if samples == 0 && ns == 0 {
                continue;
            }
            let profile = &mut self.profile;
            profile.samples = profile.samples.saturating_add(samples);
            if has_trace {
                profile.with_context = profile.with_context.saturating_add(samples);
            }
            let index = *self
                .rows
                .entry((thread, context, stack, activity))
                .or_insert(profile.rows.len());
            match profile.rows.get_mut(index) {
                Some(row) => {
                    row.samples = row.samples.saturating_add(samples);
                    row.ns = row.ns.saturating_add(ns);
                }
                None => profile.rows.push(Row {
                    thread,
                    context,
                    stack,
                    activity,
                    samples,
                    ns,
                }),
            }
        }
    }

    /// The profile, with all tables.
    pub(super) fn finish(self) -> Profile {
        let processes = self.processes.into_values().into_iter().map(|key| Process {
            pid: key.pid,
            name: key.name,
            executable: key.executable,
            context: (!key.resource.is_empty()).then(|| ProcessContext {
                resource: key.resource,
                ..ProcessContext::default()
            }),
            ..Process::default()
        });
        Profile {
            processes: processes.collect(),
            threads: self.threads.into_values(),
            contexts: self.contexts.into_values(),
            stacks: self.stacks.into_values(),
            ..self.profile
        }
    }
}

/// Names of all styles are understood.
fn field(key: &str) -> Option<Field> {
    LabelStyle::ALL.into_iter().find_map(|style| {
        let names = style.names();
        let fields = [
            (names.trace_id, Field::TraceId),
            (names.span_id, Field::SpanId),
            (names.thread_name, Field::ThreadName),
            (names.thread_id, Field::ThreadId),
            (names.process_id, Field::ProcessId),
            (names.process_name, Field::ProcessName),
            (names.service_name, Field::ServiceName),
        ];
        let found = fields.into_iter().find(|(name, _)| *name == key);
        found.map(|(_, field)| field)
    })
}

/// Whether a value is known now: it was set, or is the one that was set already.
fn set<T: PartialEq>(slot: &mut Option<T>, value: Option<T>) -> bool {
    if slot.is_none() {
        *slot = value;
        return slot.is_some();
    }
    *slot == value
}

fn number(slot: &mut u32, value: &str) -> bool {
    match value.parse() {
        Ok(number) => {
            *slot = number;
            true
        }
        Err(_) => false,
    }
}

fn text(slot: &mut String, value: &str) -> bool {
    value.clone_into(slot);
    true
}
