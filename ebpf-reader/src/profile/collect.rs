//! Puts rows of one or more profiles together into a new profile, whose tables have nothing but what the
//! rows refer to.

use std::collections::HashMap;
use std::time::SystemTime;

use super::interned::Interned;
use super::{Context, Frame, Function, Location, Mapping, Process, Profile, Row, Thread};
use crate::sample::Activity;

/// What makes two entries the same program in the same process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// The reader has given it a number.
    Instance(u64),
    /// It was read from a file: process id, name and executable have to do.
    Named(u32, String, String),
}

/// A profile while it is put together.
#[derive(Debug, Default)]
pub(super) struct Collector {
    processes: Vec<Process>,
    identities: HashMap<Identity, usize>,
    threads: Interned<Thread>,
    contexts: Interned<Context>,
    mappings: Interned<Mapping>,
    locations: Interned<Location>,
    functions: Interned<Function>,
    stacks: Interned<Vec<usize>>,
    rows: HashMap<(usize, usize, usize, Activity), (u64, u64)>,
}

/// New indices of one profile's entries, as far as they are known.
struct Remap<'a> {
    source: &'a Profile,
    processes: Vec<Option<usize>>,
    threads: Vec<Option<usize>>,
    contexts: Vec<Option<usize>>,
    mappings: Vec<Option<usize>>,
    locations: Vec<Option<usize>>,
    functions: Vec<Option<usize>>,
    stacks: Vec<Option<usize>>,
}

impl Collector {
    /// Adds the rows of a profile that are wanted.
    pub(super) fn add(&mut self, source: &Profile, wanted: impl Fn(&Row) -> bool) {
        let mut remap = Remap {
            source,
            processes: vec![None; source.processes.len()],
            threads: vec![None; source.threads.len()],
            contexts: vec![None; source.contexts.len()],
            mappings: vec![None; source.mappings.len()],
            locations: vec![None; source.locations.len()],
            functions: vec![None; source.functions.len()],
            stacks: vec![None; source.stacks.len()],
        };
        for row in source.rows.iter().filter(|row| wanted(row)) {
            let key = (
                self.thread(&mut remap, row.thread),
                self.context(&mut remap, row.context),
                self.stack(&mut remap, row.stack),
                row.activity,
            );
            let (samples, ns) = self.rows.entry(key).or_default();
            *samples = samples.saturating_add(row.samples);
            *ns = ns.saturating_add(row.ns);
        }
    }

    /// A profile with the tables and the rows, and nothing else set.
    pub(super) fn into_tables(self) -> Profile {
        let mut rows: Vec<Row> = self
            .rows
            .into_iter()
            .map(|((thread, context, stack, activity), (samples, ns))| Row {
                thread,
                context,
                stack,
                activity,
                samples,
                ns,
            })
            .collect();
        rows.sort_by_key(|row| (row.thread, row.context, row.stack, row.activity));
        Profile {
            processes: self.processes,
            threads: self.threads.into_values(),
            contexts: self.contexts.into_values(),
            mappings: self.mappings.into_values(),
            locations: self.locations.into_values(),
            functions: self.functions.into_values(),
            stacks: self.stacks.into_values(),
            rows,
            ..Profile::default()
        }
    }

    fn thread(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.threads,
            |remap| {
                let thread = remap.source.threads.get(old).cloned().unwrap_or_default();
                let process = self.process(remap, thread.process);
                self.threads.index(Thread { process, ..thread })
            },
        )
    }

    fn process(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.processes,
            |remap| {
                let process = remap.source.processes.get(old).cloned().unwrap_or_default();
                let identity = match process.instance {
                    0 => Identity::Named(
                        process.pid,
                        process.name.clone(),
                        process.executable.clone(),
                    ),
                    instance => Identity::Instance(instance),
                };
                match self.identities.get(&identity) {
                    Some(&index) => {
                        if let Some(known) = self.processes.get_mut(index) {
                            update(known, process);
                        }
                        index
                    }
                    None => {
                        let index = self.processes.len();
                        self.identities.insert(identity, index);
                        self.processes.push(process);
                        index
                    }
                }
            },
        )
    }

    fn context(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.contexts,
            |remap| {
                let context = remap.source.contexts.get(old).cloned();
                self.contexts.index(context.unwrap_or_default())
            },
        )
    }

    fn stack(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.stacks,
            |remap| {
                let source = remap.source;
                let stack = source.stacks.get(old).into_iter().flatten();
                let stack = stack
                    .map(|&location| self.location(remap, location))
                    .collect();
                self.stacks.index(stack)
            },
        )
    }

    fn location(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.locations,
            |remap| {
                let location = remap.source.locations.get(old).cloned().unwrap_or_default();
                let mapping = location
                    .mapping
                    .filter(|&mapping| mapping < remap.source.mappings.len())
                    .map(|mapping| self.mapping(remap, mapping));
                let frames = location.frames.into_iter().map(|frame| Frame {
                    function: self.function(remap, frame.function),
                    ..frame
                });
                let frames = frames.collect();
                self.locations.index(Location {
                    mapping,
                    frames,
                    ..location
                })
            },
        )
    }

    fn mapping(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.mappings,
            |remap| {
                let mapping = remap.source.mappings.get(old).cloned();
                self.mappings.index(mapping.unwrap_or_default())
            },
        )
    }

    fn function(&mut self, remap: &mut Remap<'_>, old: usize) -> usize {
        known_or(
            remap,
            old,
            |remap| &mut remap.functions,
            |remap| {
                let function = remap.source.functions.get(old).cloned();
                self.functions.index(function.unwrap_or_default())
            },
        )
    }
}

/// The new index of an entry; found once and then remembered.
fn known_or<'a>(
    remap: &mut Remap<'a>,
    old: usize,
    table: for<'r> fn(&'r mut Remap<'a>) -> &'r mut Vec<Option<usize>>,
    find: impl FnOnce(&mut Remap<'a>) -> usize,
) -> usize {
    if let Some(&Some(new)) = table(remap).get(old) {
        return new;
    }
    let new = find(remap);
    if let Some(slot) = table(remap).get_mut(old) {
        *slot = Some(new);
    }
    new
}

/// What was published last counts.
fn update(known: &mut Process, other: Process) {
    let published_at = |process: &Process| {
        let context = process.context.as_ref();
        context.map(|context| context.published_at)
    };
    if published_at(&other) > published_at(known) {
        known.context = other.context;
    }
    for (name, value) in other.origin {
        if known.origin.iter().all(|(known, _)| *known != name) {
            known.origin.push((name, value));
        }
    }
}

impl Profile {
    /// The samples of some of the processes, with nothing in the tables but what they refer to. What was lost,
    /// unreadable or truncated is in none of the parts.
    #[cfg(feature = "serve")]
    pub(crate) fn of_processes(&self, processes: std::ops::Range<usize>) -> Profile {
        let mut collector = Collector::default();
        collector.add(self, |row| {
            let thread = self.threads.get(row.thread);
            thread.is_some_and(|thread| processes.contains(&thread.process))
        });
        let mut part = collector.into_tables();
        part.started = self.started;
        part.duration = self.duration;
        part.period_ns = self.period_ns;
        for row in &part.rows {
            part.samples = part.samples.saturating_add(row.samples);
        }
        part
    }

    /// One profile of several parts, such as the windows of a long recording.
    ///
    /// Samples that are equal in two parts are added up; a program that was sampled in several parts is one
    /// process ([`Process::instance`]). The time is that from the first start to the last end. The parts
    /// must have the same sampling rate.
    pub fn merge(parts: &[&Profile]) -> Profile {
        let mut collector = Collector::default();
        for part in parts {
            collector.add(part, |_| true);
        }
        let mut whole = collector.into_tables();
        let mut end: Option<SystemTime> = None;
        for part in parts {
            whole.samples = whole.samples.saturating_add(part.samples);
            whole.with_context = whole.with_context.saturating_add(part.with_context);
            whole.unreadable = whole.unreadable.saturating_add(part.unreadable);
            whole.truncated = whole.truncated.saturating_add(part.truncated);
            whole.merged = whole.merged.saturating_add(part.merged);
            whole.lost = whole.lost.saturating_add(part.lost);
            if whole.period_ns == 0 {
                whole.period_ns = part.period_ns;
            }
            if let Some(started) = part.started {
                whole.started = Some(whole.started.map_or(started, |first| first.min(started)));
                let part_end = started.checked_add(part.duration);
                end = end.max(part_end);
            }
        }
        whole.duration = match (whole.started, end) {
            (Some(started), Some(end)) => end.duration_since(started).unwrap_or_default(),
            _ => parts.iter().fold(std::time::Duration::ZERO, |sum, part| {
                sum.saturating_add(part.duration)
            }),
        };
        whole
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::profile::Filter;
    use crate::profile::tests::{TRACE, with_off_cpu};

    /// Two recordings, of which the second one has other tables than the first one.
    fn split(whole: &Profile) -> [Profile; 2] {
        let mut parts = [whole.clone(), whole.clone()];
        for (index, part) in parts.iter_mut().enumerate() {
            part.rows.clear();
            for row in &whole.rows {
                // Half of each row's samples, the odd one to the first part.
                let samples = match index {
                    0 => row.samples.div_ceil(2),
                    _ => row.samples / 2,
                };
                if samples > 0 {
                    let ns = row.ns / row.samples * samples;
                    part.rows.push(Row {
                        samples,
                        ns,
                        ..row.clone()
                    });
                }
            }
            (part.samples, part.with_context) = [(6, 4), (4, 3)][index];
            part.lost = [1, 2][index];
            part.unreadable = u64::from(index == 0);
            part.duration = Duration::from_secs(1);
        }
        let second = &mut parts[1];
        second.started = whole
            .started
            .map(|started| started + Duration::from_secs(1));
        *second = second
            .select(&Filter::all().attribute("thread.id", "43"))
            .into_owned();
        assert_ne!(parts[1].contexts, parts[0].contexts);
        parts
    }

    /// The rows with what they refer to instead of indices.
    fn resolved(profile: &Profile) -> Vec<impl Ord + std::fmt::Debug> {
        let mut rows: Vec<_> = profile
            .rows
            .iter()
            .map(|row| {
                let thread = &profile.threads[row.thread];
                let context = &profile.contexts[row.context];
                let stack: Vec<_> = profile.stacks[row.stack]
                    .iter()
                    .map(|&location| {
                        let location = &profile.locations[location];
                        (
                            location.address,
                            profile.names(location),
                            location.mapping.is_some(),
                        )
                    })
                    .collect();
                (
                    (profile.processes[thread.process].pid, thread.tid),
                    (context.trace_id, context.span_id, context.labels.clone()),
                    (stack, row.activity, row.samples, row.ns),
                )
            })
            .collect();
        rows.sort();
        rows
    }

    #[test]
    fn the_merged_parts_are_the_whole() {
        let whole = with_off_cpu();
        let parts = split(&whole);
        for order in [[0, 1], [1, 0]] {
            let merged = Profile::merge(&order.map(|index| &parts[index]));
            assert_eq!(resolved(&merged), resolved(&whole));
            assert_eq!(merged.total(), whole.total());
            assert_eq!(
                (merged.started, merged.duration),
                (whole.started, whole.duration)
            );
            assert_eq!(
                (merged.samples, merged.with_context),
                (whole.samples, whole.with_context)
            );
            assert_eq!(
                (merged.lost, merged.unreadable),
                (whole.lost, whole.unreadable)
            );
            assert_eq!(merged.period_ns, whole.period_ns);
            assert_eq!((merged.processes.len(), merged.threads.len()), (1, 1));
            assert_eq!(merged.functions.len(), whole.functions.len());
        }
        assert!(Profile::merge(&[]).rows.is_empty());
    }

    #[test]
    fn programs_of_one_process_id_stay_apart() {
        let mut first = with_off_cpu();
        first.processes[0].instance = 1;
        let mut second = first.clone();
        second.processes[0].instance = 2;
        let merged = Profile::merge(&[&first, &second, &first]);
        assert_eq!((merged.processes.len(), merged.threads.len()), (2, 2));
        assert_eq!(merged.total().samples, 21);
    }

    #[test]
    fn builds_of_one_file_stay_apart() {
        use crate::elf::BuildId;

        let first = with_off_cpu();
        let mut rebuilt = first.clone();
        rebuilt.mappings[0].build_id = BuildId::from_hex("ff");
        let merged = Profile::merge(&[&first, &rebuilt, &first]);
        let of_program = merged.mappings.iter().filter(|it| it.name == "/opt/app");
        let ids: Vec<_> = of_program.map(|it| it.build_id.clone()).collect();
        let expected = [&first, &rebuilt].map(|profile| profile.mappings[0].build_id.clone());
        assert_eq!(ids, expected);
        assert_eq!(merged.mappings.len(), 3);
        assert_eq!(merged.stacks.len(), 2 * first.stacks.len());
    }

    #[test]
    fn the_latest_process_context_counts() {
        let context = |published_at, name: &str| {
            let context = crate::process_context::ProcessContext {
                published_at,
                resource: vec![("service.name".to_owned(), name.to_owned())],
                ..Default::default()
            };
            Some(context)
        };
        let mut parts = [with_off_cpu(), with_off_cpu(), with_off_cpu()];
        parts[0].processes[0].context = context(1, "old");
        parts[1].processes[0].context = context(2, "new");
        parts[2].processes[0].origin = vec![("container.id".to_owned(), "c".to_owned())];
        let merged = Profile::merge(&[&parts[0], &parts[1], &parts[2], &parts[0]]);
        assert_eq!(merged.processes[0].resource("service.name"), Some("new"));
        assert_eq!(merged.processes[0].origin.len(), 1);
    }

    #[test]
    fn a_selection_has_nothing_but_what_it_needs() {
        let whole = with_off_cpu();
        let filter = Filter::trace(TRACE.parse().unwrap());
        let selected = whole.select(&filter);
        assert_eq!((selected.contexts.len(), selected.stacks.len()), (1, 1));
        assert_eq!((selected.locations.len(), selected.mappings.len()), (1, 1));
        assert_eq!((selected.samples, selected.with_context), (6, 6));
        assert_eq!(selected.lost, whole.lost);
        assert_eq!(whole.select(&filter.clone().on_cpu()).samples, 4);
        assert_eq!(whole.select(&filter.off_cpu()).total().waits, 2);
        let span = Filter::trace(TRACE.parse().unwrap()).span("0000000000000001".parse().unwrap());
        assert!(whole.select(&span).rows.is_empty());
    }

    #[test]
    fn indices_of_nothing_are_survived() {
        let mut broken = with_off_cpu();
        broken.threads.clear();
        broken.contexts.truncate(1);
        broken.stacks[0] = vec![77];
        broken.locations[1].mapping = Some(99);
        broken.locations[2].frames[0].function = 55;
        let merged = Profile::merge(&[&broken]);
        assert_eq!(merged.total(), broken.total());
    }
}
