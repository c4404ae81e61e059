//! From events to a profile: counts equal samples, and remembers of each process what is needed to name
//! its frames and attributes after it is gone.

mod process;
mod table;

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use otel_profiling::abi::thread_context;

use self::process::FollowedProcess;
use self::table::Table;
use super::{Context, Location, Mapping, Profile, Row, SpanId, Thread, TraceId};
use crate::process::Modules;
use crate::process_context::ProcessContext;
use crate::sample::{Activity, Event, Label, Sample, ThreadContext};

/// What an [`Aggregator`] has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// CPU time that one sample stands for, in nanoseconds.
    pub period_ns: u64,
    /// Custom label that holds the trace id, for processes without a thread context.
    pub trace_label: String,
    /// Custom label that holds the span id.
    pub span_label: String,
}

/// Counts samples while they come in.
#[derive(Debug)]
pub struct Aggregator {
    settings: Settings,
    samples: u64,
    with_context: u64,
    unreadable: u64,
    processes: Vec<FollowedProcess>,
    /// The current program of each process, as an index of `processes`.
    current: HashMap<u32, usize>,
    threads: Table<Thread>,
    contexts: Table<Published>,
    stacks: Table<Stack>,
    rows: HashMap<RowKey, (u64, u64)>,
    modules: Modules,
}

/// What a thread published, before keys have names: these are known for sure only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Published {
    process: usize,
    thread_context: Option<ThreadContext>,
    custom_labels: Vec<Label>,
}

/// What makes samples equal: indices of thread, context and stack, and the activity.
type RowKey = (usize, usize, usize, Activity);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stack {
    process: usize,
    addresses: Vec<u64>,
}

impl Aggregator {
    /// Nothing counted yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            samples: 0,
            with_context: 0,
            unreadable: 0,
            processes: Vec::new(),
            current: HashMap::new(),
            threads: Table::default(),
            contexts: Table::default(),
            stacks: Table::default(),
            rows: HashMap::new(),
            modules: Modules::default(),
        }
    }

    /// Takes note of a process before its first sample, while it is surely still there.
    pub fn follow(&mut self, pid: u32) {
        self.process(pid);
    }

    /// Counts a sample, or takes note of what happened to a process.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Sample(sample) => self.sample(sample),
            Event::Fork { parent, child } => {
                // The child runs its parent's program until it executes another one.
                let parent = self.process(parent);
                if let Some(parent) = self.processes.get(parent) {
                    let child_process = parent.forked(child);
                    self.add(child, child_process);
                }
            }
            Event::Appeared { pid } => {
                self.process(pid);
            }
            Event::Exec { pid } => {
                let process = FollowedProcess::new(pid, &mut self.modules);
                self.add(pid, process);
            }
            Event::Exit { pid } => {
                if let Some(process) = self
                    .current
                    .remove(&pid)
                    .and_then(|index| self.processes.get_mut(index))
                {
                    process.exited();
                }
            }
        }
    }

    /// Looks for process contexts that were published or changed. To be called several times a second.
    pub fn tick(&mut self, now: Instant) {
        for &index in self.current.values() {
            if let Some(process) = self.processes.get_mut(index) {
                process.refresh_context(now);
            }
        }
    }

    /// Samples counted so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Samples with a trace id counted so far.
    pub fn with_context(&self) -> u64 {
        self.with_context
    }

    fn sample(&mut self, sample: Sample) {
        let process = self.process(sample.pid);
        let published = Published {
            process,
            thread_context: sample.thread_context,
            custom_labels: sample.custom_labels,
        };
        self.samples += 1;
        self.with_context += u64::from(self.ids(&published).0.is_some());
        self.unreadable += u64::from(sample.unreadable);

        let thread = self.threads.index(Thread {
            process,
            tid: sample.tid,
            name: sample.thread_name,
        });
        let context = self.contexts.index(published);
        let stack = Stack {
            process,
            addresses: sample.user_stack,
        };
        if let (Some(process), false) = (
            self.processes.get_mut(process),
            self.stacks.contains(&stack),
        ) {
            process.see_stack(&stack.addresses, &mut self.modules);
        }
        let stack = self.stacks.index(stack);
        let ns = match sample.activity {
            Activity::OnCpu => self.settings.period_ns,
            Activity::Blocked | Activity::Preempted => sample.off_cpu_ns,
        };
        let (samples, total_ns) = self
            .rows
            .entry((thread, context, stack, sample.activity))
            .or_default();
        *samples += 1;
        *total_ns = total_ns.saturating_add(ns);
    }

    /// Index of the program that `pid` runs.
    fn process(&mut self, pid: u32) -> usize {
        match self.current.get(&pid) {
            Some(&index) => index,
            None => {
                let process = FollowedProcess::new(pid, &mut self.modules);
                self.add(pid, process)
            }
        }
    }

    fn add(&mut self, pid: u32, process: FollowedProcess) -> usize {
        self.processes.push(process);
        let index = self.processes.len() - 1;
        self.current.insert(pid, index);
        index
    }

    /// Trace id and span id, from the thread context if it has them, else from the custom labels.
    fn ids(&self, published: &Published) -> (Option<TraceId>, Option<SpanId>) {
        if let Some(record) = &published.thread_context
            && let Some(trace_id) = TraceId::some(record.trace_id)
        {
            return (Some(trace_id), SpanId::some(record.span_id));
        }
        let label = |name: &str| {
            let mut labels = published.custom_labels.iter();
            labels
                .find(|label| label.key == name.as_bytes())
                .map(|label| label.value.as_slice())
        };
        let trace_id = label(&self.settings.trace_label).and_then(TraceId::from_hex);
        let span_id = label(&self.settings.span_label).and_then(SpanId::from_hex);
        (trace_id, trace_id.and(span_id))
    }

    /// A context with names: the record's last entry of a repeated key wins, of custom labels the first one, and
    /// the thread context wins over custom labels.
    fn context(&self, published: &Published, process: Option<&ProcessContext>) -> Context {
        let (trace_id, span_id) = self.ids(published);
        let mut labels: Vec<(String, String)> = Vec::new();
        if let Some(record) = &published.thread_context {
            for (index, value) in thread_context::attributes(&record.attrs_data) {
                let value = String::from_utf8_lossy(value).into_owned();
                // A reader ignores an unknown key index.
                if let Some(key) = process.and_then(|process| process.attribute_key(index)) {
                    match labels.iter_mut().find(|(name, _)| name == key) {
                        Some((_, earlier)) => *earlier = value,
                        None => labels.push((key.to_owned(), value)),
                    }
                }
            }
        }
        for label in &published.custom_labels {
            let key = String::from_utf8_lossy(&label.key);
            let is_id = trace_id.is_some()
                && (key == self.settings.trace_label || key == self.settings.span_label);
            if !is_id && labels.iter().all(|(name, _)| *name != key) {
                let value = String::from_utf8_lossy(&label.value).into_owned();
                labels.push((key.into_owned(), value));
            }
        }
        Context {
            trace_id,
            span_id,
            labels,
        }
    }

    /// The profile, and the files in which its functions can be looked up. `lost` comes from the sampler, which
    /// alone knows what was truncated, too.
    pub fn finish(
        mut self,
        started: SystemTime,
        duration: Duration,
        lost: u64,
    ) -> (Profile, Modules) {
        // Keys may have been added since the last look.
        for &index in self.current.values() {
            if let Some(process) = self.processes.get_mut(index) {
                process.refresh_context_now();
            }
        }
        let contexts = self
            .contexts
            .iter()
            .map(|published| {
                let process = self
                    .processes
                    .get(published.process)
                    .and_then(FollowedProcess::context);
                self.context(published, process)
            })
            .collect();
        let mut places = Places::default();
        let stacks = self
            .stacks
            .iter()
            .map(|stack| places.stack(stack, &self.processes))
            .collect();
        let mut rows: Vec<Row> = self
            .rows
            .iter()
            .map(
                |(&(thread, context, stack, activity), &(samples, ns))| Row {
                    thread,
                    context,
                    stack,
                    activity,
                    samples,
                    ns,
                },
            )
            .collect();
        rows.sort_by_key(|row| (row.thread, row.context, row.stack, row.activity));
        // Processes that never were on a CPU at a sample are not worth a word.
        let mut sampled = Table::default();
        let mut threads = self.threads.into_values();
        for thread in &mut threads {
            thread.process = sampled.index(thread.process);
        }
        let processes = sampled
            .iter()
            .filter_map(|&index| Some(self.processes.get(index)?.to_process()))
            .collect();
        let profile = Profile {
            started: Some(started),
            duration,
            period_ns: self.settings.period_ns,
            samples: self.samples,
            with_context: self.with_context,
            unreadable: self.unreadable,
            truncated: 0,
            lost,
            processes,
            threads,
            contexts,
            mappings: places.mappings.into_values(),
            locations: places.locations.into_values(),
            functions: Vec::new(),
            stacks,
            rows,
        };
        (profile, self.modules)
    }
}

/// Locations and mappings of a profile while they are put together.
#[derive(Default)]
struct Places {
    mappings: Table<Mapping>,
    locations: Table<Location>,
}

impl Places {
    fn stack(&mut self, stack: &Stack, processes: &[FollowedProcess]) -> Vec<usize> {
        let mut locations = Vec::with_capacity(stack.addresses.len());
        for (depth, &address) in stack.addresses.iter().enumerate() {
            // A return address is after the call, perhaps in another function: the call's last byte is meant.
            let address = if depth == 0 {
                address
            } else {
                address.saturating_sub(1)
            };
            let piece = processes
                .get(stack.process)
                .and_then(|process| process.find(address));
            let mapping = piece.map(|piece| {
                self.mappings.index(Mapping {
                    start: piece.mapping.start,
                    end: piece.mapping.end,
                    offset: piece.mapping.offset,
                    name: piece.mapping.path().to_owned(),
                    module: piece.module,
                })
            });
            locations.push(self.locations.index(Location {
                mapping,
                address,
                frames: Vec::new(),
            }));
        }
        locations
    }
}

#[cfg(test)]
mod tests;
