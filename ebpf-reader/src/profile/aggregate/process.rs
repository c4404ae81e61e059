//! What is remembered of a followed process: its name, its mappings, its process context.

use std::time::{Duration, Instant};

use crate::process::{self, AddressSpace, ModuleId, Modules, Piece};
use crate::process_context::{ProcessContext, Reader};
use crate::profile::Process;

/// Pause between two looks at the mappings for addresses in none of them, doubled each time.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The longest such pause.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// Pause between two looks for a new process context, once there was one or a number of looks found none.
const CONTEXT_LOOK: Duration = Duration::from_secs(1);

/// One program in one process.
#[derive(Debug)]
pub(super) struct FollowedProcess {
    /// It has samples in the profile at hand.
    pub(super) sampled: bool,
    /// What it holds of the budget.
    pub(super) held: usize,
    gone: bool,
    pid: u32,
    name: String,
    space: AddressSpace,
    next_look: Instant,
    pause: Duration,
    reader: Option<Reader>,
    /// The parent's process context: a forked child has its threads' records, and not the mapping.
    inherited: Option<ProcessContext>,
    next_context_look: Instant,
    context_pause: Duration,
}

impl FollowedProcess {
    pub(super) fn new(pid: u32, modules: &mut Modules) -> Self {
        let now = Instant::now();
        let mut new = Self {
            pid,
            name: process::name(pid).unwrap_or_default(),
            reader: Reader::open(pid).ok(),
            ..Self::nothing(now)
        };
        new.space.refresh(pid, modules);
        new.refresh_context(now);
        new
    }

    /// A child that runs the same program.
    pub(super) fn forked(&self, child: u32) -> Self {
        let now = Instant::now();
        Self {
            pid: child,
            name: self.name.clone(),
            space: self.space.clone(),
            next_look: now,
            reader: Reader::open(child).ok(),
            inherited: self.context().cloned(),
            ..Self::nothing(now)
        }
    }

    /// Stands for the processes for which there is no room.
    pub(super) fn others(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            gone: true,
            ..Self::nothing(Instant::now())
        }
    }

    fn nothing(now: Instant) -> Self {
        Self {
            sampled: false,
            held: 0,
            gone: false,
            pid: 0,
            name: String::new(),
            space: AddressSpace::default(),
            next_look: now + FIRST_LOOK,
            pause: FIRST_LOOK,
            reader: None,
            inherited: None,
            next_context_look: now,
            context_pause: FIRST_LOOK,
        }
    }

    /// The process is gone: keeps what is known, and closes its memory.
    pub(super) fn exited(&mut self) {
        self.inherited = self.context().cloned();
        self.reader = None;
        self.gone = true;
    }

    /// Whether nothing will come from it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// The files that are mapped into it.
    pub(super) fn modules(&self) -> impl Iterator<Item = ModuleId> {
        self.space.iter().filter_map(|piece| piece.module)
    }

    /// Looks at the mappings again if an address lies in none of them.
    pub(super) fn see_stack(&mut self, addresses: &[u64], modules: &mut Modules) {
        if self.gone
            || addresses
                .iter()
                .all(|&address| self.space.find(address).is_some())
        {
            return;
        }
        let now = Instant::now();
        if now >= self.next_look {
            self.space.refresh(self.pid, modules);
            self.pause = (self.pause * 2).min(LAST_LOOK);
            self.next_look = now + self.pause;
        }
    }

    /// The executable mapping that holds an address.
    pub(super) fn find(&self, address: u64) -> Option<&Piece> {
        self.space.find(address)
    }

    /// The process context, if one was found.
    pub(super) fn context(&self) -> Option<&ProcessContext> {
        self.reader
            .as_ref()
            .and_then(Reader::context)
            .or(self.inherited.as_ref())
    }

    /// Looks for a new process context, if it is time.
    pub(super) fn refresh_context(&mut self, now: Instant) {
        if now >= self.next_context_look {
            self.context_pause = (self.context_pause * 2).min(CONTEXT_LOOK);
            self.next_context_look = now + self.context_pause;
            self.refresh_context_now();
        }
    }

    /// Looks for a new process context.
    pub(super) fn refresh_context_now(&mut self) {
        if let Some(reader) = &mut self.reader {
            // A process that may no longer be read is about to end; what was read stays.
            let _ = reader.refresh();
        }
    }

    pub(super) fn to_process(&self) -> Process {
        Process {
            pid: self.pid,
            name: self.name.clone(),
            context: self.context().cloned(),
        }
    }
}
