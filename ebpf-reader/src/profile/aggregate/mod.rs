//! From events to profiles: counts equal samples, and remembers of each process what is needed to name
//! its frames and attributes after it is gone.

mod counts;
mod names;
mod process;
mod result;
mod steering;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;

use self::counts::{Counts, Published, StackRef, Thread};
use self::process::FollowedProcess;
use self::steering::Steering;
use super::Profile;
use crate::error::Error;
use crate::process::{ModuleId, Modules};
use crate::sample::{Activity, Counters, Event, Sample, Sampler};
use crate::unwind::{Unwinder, Unwinding};

/// What one that stands for many is called.
const OTHERS: &str = "(others)";

/// Bytes that samples may take up unless told otherwise.
const DEFAULT_BUDGET: usize = 32 << 20;

/// Bytes that the mappings and the process contexts of all processes may take up.
const PROCESSES_BUDGET: usize = 32 << 20;

/// Pause between two looks at that.
const WEIGHING: Duration = Duration::from_secs(1);

/// Programs that are remembered at a time. Those that come when there are as many, all of them running or with
/// samples, are counted as one.
const MAX_PROCESSES: usize = 1 << 13;

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

/// One program in one process; numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ProcessId(u32);

/// Stands for the programs beyond [`MAX_PROCESSES`].
const OTHER_PROCESSES: ProcessId = ProcessId(0);

/// Counts samples while they come in.
///
/// Its memory is bounded, whatever the processes do: samples beyond the budget are merged into entries named
/// `(others)`, one of each process for threads, contexts and stacks ([`Profile::merged`]).
#[derive(Debug)]
pub struct Aggregator {
    settings: Settings,
    processes: BTreeMap<ProcessId, FollowedProcess>,
    /// The current program of each process.
    current: HashMap<u32, ProcessId, RandomState>,
    last_process: ProcessId,
    counts: Counts,
    /// The sampler's counters at the end of the last profile.
    counters: Counters,
    modules: Modules,
    next_weighing: Instant,
    unwinder: Unwinder,
    steering: Steering,
    /// The stack of the sample at hand; here so that it is allocated once.
    stack: Vec<u64>,
}

impl Aggregator {
    /// Nothing counted yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            processes: BTreeMap::new(),
            current: HashMap::default(),
            last_process: OTHER_PROCESSES,
            counts: Counts::new(DEFAULT_BUDGET),
            counters: Counters::default(),
            modules: Modules::default(),
            next_weighing: Instant::now(),
            unwinder: Unwinder::default(),
            steering: Steering::new(Unwinding::FramePointers),
            stack: Vec::new(),
        }
    }

    /// Sets how many bytes threads, contexts, stacks and counts may take up; what was counted is forgotten. One
    /// process gets at most half of it.
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.counts = Counts::new(bytes);
        self
    }

    /// Sets how user stacks are found, before the first process is followed; by frame pointers unless told
    /// otherwise. [`Aggregator::apply_unwinding`] has to be called for everything else.
    #[must_use]
    pub fn unwinding(mut self, unwinding: Unwinding) -> Self {
        self.steering = Steering::new(unwinding);
        self
    }

    /// Has the sampler copy the stacks of those processes for which that was found to be necessary, and of no
    /// others. To be called after each [`Sampler::poll`].
    ///
    /// # Errors
    /// If the sampler cannot copy stacks and [`Unwinding::Dwarf`] was asked for; stacks are found by frame
    /// pointers then.
    pub fn apply_unwinding(&mut self, sampler: &mut dyn Sampler) -> Result<(), Error> {
        let applied = self.steering.apply(sampler);
        if self.steering.has_given_up() {
            for process in self.processes.values_mut() {
                process.choice.give_up();
            }
        }
        applied
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
                if let Some(parent) = self.processes.get_mut(&parent) {
                    let child_process = parent.forked(child);
                    if child_process.choice.copies() {
                        self.steering.copy(child, true);
                    }
                    self.add(child, child_process);
                }
            }
            Event::Appeared { pid } => {
                self.process(pid);
            }
            Event::Exec { pid } => self.executed(pid),
            Event::Exit { pid } => self.remove(pid),
        }
    }

    /// Looks for process contexts that were published or changed, and at the mappings of new programs. To be called
    /// several times a second.
    pub fn tick(&mut self, now: Instant) {
        for process in self.processes.values_mut() {
            process.refresh_context(now, &mut self.modules);
            process.catch_up(&mut self.modules);
        }
        if now >= self.next_weighing {
            self.next_weighing = now + WEIGHING;
            self.weigh_processes();
        }
    }

    /// When [`Aggregator::tick`] has something to do that cannot wait: a program that was just executed may end soon. Goes
    /// through all processes, as a tick does.
    pub fn next_look(&self) -> Option<Instant> {
        let looks = self.processes.values().map(FollowedProcess::next_look);
        looks.flatten().min()
    }

    fn weigh_processes(&mut self) {
        let mut size: usize = self.processes.values().map(FollowedProcess::size).sum();
        // Whoever takes up most is not remembered at all: a process that only wants to fill the memory.
        while size > PROCESSES_BUDGET {
            let largest = self
                .processes
                .values_mut()
                .max_by_key(|process| process.size());
            let Some(largest) = largest else { break };
            let before = largest.size();
            largest.forget();
            let freed = before.saturating_sub(largest.size());
            if freed == 0 {
                break;
            }
            size -= freed;
        }
    }

    /// Samples counted since the start, or since the last [`Aggregator::rotate`].
    pub fn samples(&self) -> u64 {
        self.counts.samples
    }

    /// Those of them with a trace id.
    pub fn with_context(&self) -> u64 {
        self.counts.with_context
    }

    /// The files in which the functions of the profile can be looked up that [`Aggregator::rotate`] returned last.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    fn sample(&mut self, sample: Sample) {
        let id = self.process(sample.pid);
        let published = Published {
            process: id,
            others: false,
            thread_context: sample.thread_context,
            custom_labels: sample.custom_labels,
        };
        let has_trace = names::ids(&published, &self.settings).0.is_some();
        self.counts.with_context += u64::from(has_trace);
        self.counts.unreadable += u64::from(sample.unreadable);

        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        self.stack.clear();
        self.stack.extend_from_slice(&sample.kernel_stack);
        let kernel = self.stack.len();
        match &sample.stack_copy {
            Some(copy) if process.choice.copies() => {
                let settled = process.unwind(
                    &mut self.unwinder,
                    copy,
                    &sample.user_stack,
                    &mut self.modules,
                    &mut self.stack,
                );
                if settled {
                    self.steering.learn(process);
                }
            }
            // Taken before it was settled, or the sampler goes by what the parent's stacks ask for.
            Some(copy) => {
                process.follow(copy, &sample.user_stack, &mut self.modules, &mut self.stack);
                self.steering.decline(process);
            }
            None => {
                self.stack.extend_from_slice(&sample.user_stack);
                if process.choice.copies() {
                    self.steering.remind(process);
                }
            }
        }
        let stack = StackRef::new(id, kernel, &self.stack);
        let stack = self.counts.find_stack(stack);
        if stack.is_new() {
            let user_stack = self.stack.get(kernel..).unwrap_or_default();
            process.see_stack(user_stack, &mut self.modules);
        } else {
            process.catch_up(&mut self.modules);
        }
        let thread = Thread {
            process: id,
            tid: sample.tid,
            name: sample.thread_name,
        };
        let ns = match sample.activity {
            Activity::OnCpu => self.settings.period_ns,
            Activity::Blocked | Activity::Preempted => sample.off_cpu_ns,
        };
        process.sampled = true;
        process.name_after(&sample.thread_name);
        self.counts.count(
            &mut process.held,
            thread,
            published,
            stack,
            sample.activity,
            ns,
        );
    }

    /// The program that `pid` runs.
    fn process(&mut self, pid: u32) -> ProcessId {
        match self.current.get(&pid) {
            Some(&id) => id,
            None => self.start(pid),
        }
    }

    /// A program that was not known before.
    fn start(&mut self, pid: u32) -> ProcessId {
        let mut process =
            FollowedProcess::new(pid, self.steering.before_first_sample(), &mut self.modules);
        self.steering.recall(&mut process);
        self.add(pid, process)
    }

    fn executed(&mut self, pid: u32) {
        let current = self.current.get(&pid);
        if let Some(process) = current.and_then(|id| self.processes.get_mut(id))
            && process.has_been_executed(&mut self.modules)
        {
            self.steering.recall(process);
        } else {
            self.start(pid);
        }
    }

    fn add(&mut self, pid: u32, process: FollowedProcess) -> ProcessId {
        self.remove(pid);
        if self.processes.len() >= MAX_PROCESSES {
            self.processes
                .entry(OTHER_PROCESSES)
                .or_insert_with(|| FollowedProcess::others(OTHERS));
            return OTHER_PROCESSES;
        }
        self.last_process.0 = self.last_process.0.saturating_add(1);
        let id = self.last_process;
        self.processes.insert(id, process);
        self.current.insert(pid, id);
        id
    }

    /// The program of `pid` has ended; one without samples is not worth a word.
    fn remove(&mut self, pid: u32) {
        let Some(id) = self.current.remove(&pid) else {
            return;
        };
        match self.processes.get_mut(&id) {
            Some(process) if process.sampled => process.exited(),
            _ => {
                self.processes.remove(&id);
            }
        }
    }

    /// Takes what was counted since the start or the last call, and starts anew. What is known of the processes
    /// that are still there is kept; functions are looked up in [`Aggregator::modules`], until the next call.
    ///
    /// `counters` are the sampler's, since its start: the profile gets their difference to the last call.
    pub fn rotate(
        &mut self,
        started: SystemTime,
        duration: Duration,
        counters: Counters,
    ) -> Profile {
        // Files that were kept for the last profile.
        let used: HashSet<ModuleId> = self
            .processes
            .values()
            .flat_map(FollowedProcess::modules)
            .collect();
        self.modules.retain(|module| used.contains(&module));
        self.steering.retain(|module| used.contains(&module));

        let profile = self.profile(started, duration, counters);
        self.processes.retain(|_, process| {
            process.sampled = false;
            process.held = 0;
            !process.is_gone()
        });
        profile
    }

    /// The profile, and the files in which its functions can be looked up. `lost` comes from the sampler, which
    /// alone knows what was truncated, too.
    pub fn finish(
        mut self,
        started: SystemTime,
        duration: Duration,
        lost: u64,
    ) -> (Profile, Modules) {
        let counters = Counters {
            lost_samples: lost,
            ..self.counters
        };
        let mut profile = self.profile(started, duration, counters);
        profile.lost = lost;
        (profile, self.modules)
    }

    fn profile(&mut self, started: SystemTime, duration: Duration, counters: Counters) -> Profile {
        // Keys may have been added since the last look.
        let sampled = self
            .processes
            .values_mut()
            .filter(|process| process.sampled);
        for process in sampled {
            process.refresh_context_now(&mut self.modules);
        }
        let counts = self.counts.take();
        let mut profile = result::profile(
            counts,
            &self.settings,
            &self.processes,
            &self.modules,
            started,
            duration,
        );
        profile.lost = counters
            .lost_samples
            .saturating_sub(self.counters.lost_samples);
        profile.truncated = counters.truncated.saturating_sub(self.counters.truncated);
        self.counters = counters;
        profile
    }
}

#[cfg(test)]
mod tests;
