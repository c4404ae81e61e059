//! Puts a profile together from what was counted and what is known of the processes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use indexmap::IndexSet;

use super::counts::{Counts, Published, Stack};
use super::process::FollowedProcess;
use super::{OTHERS, ProcessId, Settings, names};
use crate::process::{Modules, Piece, VDSO, kernel_build_id, vdso_build_id};
use crate::profile::{Context, Frame, Function, KERNEL, Location, Mapping, Profile, Row, Thread};

/// Where the kernel's half of the addresses begins.
const KERNEL_START: u64 = 1 << 63;

/// The name of the label that tells a context that stands for others.
const MERGED_LABEL: &str = "merged";

/// Makes the profile; what depends on the sampler is left out.
pub(super) fn profile(
    counts: Counts,
    settings: &Settings,
    followed: &BTreeMap<ProcessId, FollowedProcess>,
    modules: &Modules,
    started: SystemTime,
    duration: Duration,
) -> Profile {
    let Counts {
        threads,
        contexts,
        stacks,
        rows,
        samples,
        with_context,
        unreadable,
        merged,
        ..
    } = counts;
    // Every table is consumed, and its memory given back, while the profile's own grows.
    let mut rows: Vec<Row> = rows
        .into_iter()
        .map(|(key, amount)| Row {
            thread: key.thread as usize,
            context: key.context as usize,
            stack: key.stack as usize,
            activity: key.activity,
            samples: amount.samples,
            ns: amount.ns,
        })
        .collect();
    rows.sort_unstable_by_key(|row| (row.thread, row.context, row.stack, row.activity));

    let mut processes = Vec::new();
    let mut positions: HashMap<ProcessId, usize> = HashMap::new();
    let threads = threads
        .into_iter()
        .map(|thread| {
            let process = *positions.entry(thread.process).or_insert_with(|| {
                let process = followed.get(&thread.process);
                processes.push(process.map(FollowedProcess::to_process).unwrap_or_default());
                processes.len() - 1
            });
            Thread {
                process,
                tid: thread.tid,
                name: thread.name.to_string_lossy().into_owned(),
            }
        })
        .collect();
    let contexts = contexts
        .into_iter()
        .map(|published| context(&published, settings, followed))
        .collect();
    let mut places = Places::default();
    let stacks = stacks
        .into_iter()
        .map(|stack| places.stack(&stack, followed.get(&stack.process), modules))
        .collect();
    Profile {
        started: Some(started),
        duration,
        period_ns: settings.period_ns,
        samples,
        with_context,
        unreadable,
        merged,
        processes,
        threads,
        contexts,
        mappings: places.mappings.into_iter().collect(),
        locations: places.locations.into_iter().collect(),
        functions: places.functions,
        stacks,
        rows,
        ..Profile::default()
    }
}

fn context(
    published: &Published,
    settings: &Settings,
    followed: &BTreeMap<ProcessId, FollowedProcess>,
) -> Context {
    if published.others {
        return Context {
            labels: vec![(MERGED_LABEL.to_owned(), OTHERS.to_owned())],
            ..Context::default()
        };
    }
    let process = followed.get(&published.process);
    names::context(
        published,
        settings,
        process.and_then(FollowedProcess::context),
    )
}

/// Locations and mappings of a profile while they are put together.
#[derive(Default)]
struct Places {
    mappings: IndexSet<Mapping>,
    locations: IndexSet<Location>,
    functions: Vec<Function>,
}

impl Places {
    fn stack(
        &mut self,
        stack: &Stack,
        process: Option<&FollowedProcess>,
        modules: &Modules,
    ) -> Vec<usize> {
        if stack.is_others() {
            return vec![self.others()];
        }
        let mut locations = Vec::with_capacity(stack.addresses.len());
        for (depth, &address) in stack.addresses.iter().enumerate() {
            let in_kernel = depth < stack.kernel();
            // A return address is after the call, perhaps in another function: the call's last byte is meant.
            let address = if depth == 0 || depth == stack.kernel() {
                address
            } else {
                address.saturating_sub(1)
            };
            let mapping = if in_kernel {
                Some(self.kernel())
            } else {
                process
                    .and_then(|process| process.find(address))
                    .map(|piece| index(&mut self.mappings, mapping(piece, modules)))
            };
            locations.push(index(
                &mut self.locations,
                Location {
                    mapping,
                    address,
                    frames: Vec::new(),
                },
            ));
        }
        locations
    }

    fn kernel(&mut self) -> usize {
        index(
            &mut self.mappings,
            Mapping {
                start: KERNEL_START,
                end: u64::MAX,
                // So that an offset in it is the address.
                offset: KERNEL_START,
                name: KERNEL.to_owned(),
                module: None,
                build_id: kernel_build_id(),
            },
        )
    }

    /// A place with a name and nothing else.
    fn others(&mut self) -> usize {
        if self.functions.is_empty() {
            self.functions.push(Function {
                name: OTHERS.to_owned(),
                file: String::new(),
            });
        }
        let place = Location {
            frames: vec![Frame {
                function: 0,
                line: None,
            }],
            ..Location::default()
        };
        index(&mut self.locations, place)
    }
}

fn mapping(piece: &Piece, modules: &Modules) -> Mapping {
    let of_file = |module| modules.build_id(module).cloned();
    let build_id = match piece.module {
        Some(module) => of_file(module),
        // That of a 32-bit process is another one, and lies where only such a process has it.
        None if piece.mapping.name == VDSO && piece.mapping.start > u64::from(u32::MAX) => {
            vdso_build_id()
        }
        None => None,
    };
    Mapping {
        start: piece.mapping.start,
        end: piece.mapping.end,
        offset: piece.mapping.offset,
        name: piece.mapping.path().to_owned(),
        module: piece.module,
        build_id,
    }
}

/// The position of a value, which is added if it is new.
fn index<T: Eq + Hash>(table: &mut IndexSet<T>, value: T) -> usize {
    table.insert_full(value).0
}
