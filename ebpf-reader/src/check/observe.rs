//! Looks at a process several times: at each of its threads while it stands still, and at its process context.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::address::{self, Offsets, Slot};
use super::labels::Sets;
use super::ledger::Ledger;
use super::module::{self, Module};
use super::process_context::Observed;
use super::record::Records;
use super::thread::{RawLabels, RawRecord};
use super::{Rule, Who, plural, symbols};
use crate::elf::Pointer;
use crate::error::Error;
use crate::process::{self, ElfFiles, Locator, Memory};
use crate::sample::Locations;
use crate::snapshot::{Limits, Missed, Snapshots};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks at a process that goes on, whatever the time.
const MIN_LOOKS: u64 = 2;
/// How long one look at the process context may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Threads that are kept for a reader's view.
const MAX_THREADS: usize = 4096;

/// What one thread publishes, in all places, at one moment.
#[derive(Clone, Debug)]
pub(super) struct ThreadLook {
    pub(super) who: Who,
    pub(super) context_slots: Vec<Slot>,
    pub(super) label_slots: Vec<Slot>,
    pub(super) record: Option<RawRecord>,
    pub(super) labels: Option<RawLabels>,
}

/// What was seen of a process.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) modules: Vec<Module>,
    pub(super) locations: Locations,
    /// Each thread that was seen, as it was when it published something last.
    pub(super) threads: BTreeMap<u32, ThreadLook>,
    pub(super) context: Observed,
    pub(super) looked_at: String,
}

/// Takes looks at one process.
#[derive(Debug)]
pub(super) struct Observer {
    locations: Locations,
    offsets: [Offsets; 2],
    snapshots: Snapshots,
}

impl Observer {
    pub(super) fn new(pid: u32, modules: &[Module], locations: Locations) -> Self {
        Self {
            locations,
            offsets: Pointer::ALL.map(|pointer| Offsets::of(modules, pointer)),
            snapshots: Snapshots::new(pid),
        }
    }

    /// From now on looks there: an object was loaded.
    pub(super) fn locations(&mut self, locations: Locations) -> &mut Self {
        self.locations = locations;
        self
    }

    /// Looks at all threads once.
    pub(super) fn look(&mut self) -> Result<(Vec<ThreadLook>, Missed), Error> {
        let locations = self.locations;
        let [context, labels] = self.offsets.clone();
        let snapshot = self.snapshots.look(Limits::default(), move |thread| {
            let memory = thread.memory;
            let look = |places, offsets| {
                // Zero: the thread has not set up its thread-local storage yet.
                if thread.thread_pointer == 0 {
                    return Vec::new();
                }
                address::look(
                    memory,
                    thread.thread_pointer,
                    locations.libc,
                    places,
                    offsets,
                )
            };
            let published = |slots: &[Slot]| {
                let mut values = slots.iter().filter_map(|slot| slot.value);
                values.find(|&value| value != 0)
            };
            let context_slots = look(locations.thread_context, &context);
            let label_slots = look(locations.custom_labels, &labels);
            ThreadLook {
                who: Who {
                    tid: thread.tid,
                    name: thread.name.to_owned(),
                },
                record: published(&context_slots).map(|address| RawRecord::read(memory, address)),
                labels: published(&label_slots).map(|address| RawLabels::read(memory, address)),
                context_slots,
                label_slots,
            }
        })?;
        Ok((snapshot.threads, snapshot.missed))
    }
}

/// Where a process keeps its pointers; nowhere, if nothing that was found leads there.
pub(super) fn locate(pid: u32) -> Result<Locations, Error> {
    let mut files = ElfFiles::new();
    let mut locator = Locator::new(pid);
    let mut locations = locator.refresh(&mut files)?;
    // The dynamic linker may be at work.
    for _ in 0..20 {
        if !locator.is_unresolved() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
        locations = locator.refresh(&mut files)?;
    }
    Ok(locations)
}

/// Observes a process for this long, and judges what it sees.
pub(super) fn observe(ledger: &mut Ledger, pid: u32, duration: Duration) -> Result<Seen, Error> {
    let modules = module::of_process(pid)?;
    symbols::judge(ledger, &modules, "the program, with its shared objects,");
    let locations = locate(pid)?;
    for pointer in Pointer::ALL {
        address::judge_places(ledger, pointer, &modules, &locations);
    }
    let mut observer = Observer::new(pid, &modules, locations);
    let mut context = Observed::new(pid, process::started_ns(pid).unwrap_or(0));
    let mut records = Records::default();
    let mut sets = Sets::default();
    let mut threads = BTreeMap::new();
    let mut missed = Missed::default();
    let mut looks = 0;

    let begin = Instant::now();
    let ended = loop {
        let (looked, now_missed) = match observer.look() {
            Ok(looked) => looked,
            // It was there when the check began: what was seen until now counts.
            Err(Error::NoSuchProcess { .. }) if looks > 0 => break true,
            Err(error) => return Err(error),
        };
        looks += 1;
        missed = now_missed;
        for thread in looked {
            judge(ledger, &mut records, &mut sets, &thread);
            let publishes = thread.record.is_some() || thread.labels.is_some();
            if publishes || (!threads.contains_key(&thread.who.tid) && threads.len() < MAX_THREADS)
            {
                threads.insert(thread.who.tid, thread);
            }
        }
        if !look_at_context(ledger, &mut context, pid)? {
            break true;
        }
        let elapsed = begin.elapsed();
        // However short the time: changes show between two looks.
        if elapsed >= duration && looks >= MIN_LOOKS {
            break false;
        }
        thread::sleep(PAUSE.min(duration.saturating_sub(elapsed)));
    };

    let has_context = !locations.thread_context.is_empty();
    let why = |publishes: bool, what: &str| match publishes {
        true => format!("no thread had published a {what}"),
        false => format!("the {what} cannot be found"),
    };
    context.finish(ledger, has_context);
    records.finish(ledger, context.keys(), &why(has_context, "record"));
    sets.finish(
        ledger,
        &why(!locations.custom_labels.is_empty(), "label set"),
    );
    for pointer in Pointer::ALL {
        let address = symbols::SymbolRules::of(pointer).address;
        ledger.skip(address, "no thread could be looked at");
    }
    let mut looked_at = format!(
        "{} at {} in {:.1} s",
        plural(looks, "look"),
        plural(threads.len() as u64, "thread"),
        begin.elapsed().as_secs_f64()
    );
    let unseen = missed.unstoppable + missed.beyond_limit + missed.refused + missed.asleep;
    if unseen > 0 {
        looked_at += &format!(
            ", {} could not be looked at",
            plural(unseen as u64, "thread")
        );
    }
    if ended {
        looked_at += ", then it ended";
    }
    Ok(Seen {
        modules,
        locations,
        threads,
        context,
        looked_at,
    })
}

fn judge(ledger: &mut Ledger, records: &mut Records, sets: &mut Sets, thread: &ThreadLook) {
    address::judge(
        ledger,
        &thread.who,
        Pointer::ThreadContext,
        &thread.context_slots,
    );
    address::judge(
        ledger,
        &thread.who,
        Pointer::CustomLabels,
        &thread.label_slots,
    );
    if let Some(record) = &thread.record {
        records.look(ledger, &thread.who, record);
    }
    if let Some(labels) = &thread.labels {
        sets.look(ledger, &thread.who, labels);
    }
}

/// One look at the process context; `false` if the process has ended.
fn look_at_context(ledger: &mut Ledger, context: &mut Observed, pid: u32) -> Result<bool, Error> {
    let memory = match Memory::open(pid) {
        Ok(memory) => Arc::new(memory),
        Err(Error::NoSuchProcess { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    // On a thread of its own: a process can make whoever reads its memory wait.
    let look = context.looker(Arc::clone(&memory));
    let (result, inbox) = mpsc::channel();
    thread::Builder::new()
        .name("process-context".to_owned())
        .spawn(move || result.send(look()))
        .map_err(|error| Error::io("start a thread", error))?;
    match inbox.recv_timeout(PATIENCE) {
        Ok(Ok(look)) => {
            context.judge(ledger, &memory, look);
            Ok(true)
        }
        Ok(Err(Error::NoSuchProcess { .. })) => Ok(false),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::io(
            format!("read the process context of {}", process::describe(pid)),
            std::io::ErrorKind::TimedOut.into(),
        )),
    }
}

impl Seen {
    /// Whether a pointer was found.
    pub(super) fn has(&self, pointer: Pointer) -> bool {
        let places = match pointer {
            Pointer::ThreadContext => self.locations.thread_context,
            Pointer::CustomLabels => self.locations.custom_labels,
        };
        !places.is_empty()
    }
}

/// All rules that need a running process.
pub(super) const RUNNING: [Rule; 2] = [Rule::ContextAddress, Rule::LabelsAddress];
