//! What is remembered of a followed process: its name, its mappings, its process context.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::process::{self, AddressSpace, Image, ModuleId, Modules, Piece};
use crate::process_context::{ProcessContext, Reader};
use crate::profile::Process;
use crate::sample::{StackCopy, ThreadName};
use crate::unwind::{self, Choice, Outcome, Unwinder};

/// Pause between two looks at the mappings, doubled each time. A program that was just executed has its libraries
/// within milliseconds, and may have ended soon after.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// The longest such pause.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// A pause is at least this many times as long as the look took: a process with very many mappings cannot keep
/// the reader from its samples.
const TIMES_COST: u32 = 100;
/// Pause between two looks for a new process context, doubled each time.
const FIRST_CONTEXT_LOOK: Duration = Duration::from_millis(50);
/// The longest such pause.
const CONTEXT_LOOK: Duration = Duration::from_secs(1);
/// How much longer it is for a process without samples in the profile at hand: nothing would be named by its context.
const CONTEXT_LOOK_IDLE: Duration = Duration::from_secs(4);

/// Number of the next program; from 1.
static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

fn next_instance() -> u64 {
    NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed)
}

/// One program in one process.
#[derive(Debug)]
pub(super) struct FollowedProcess {
    /// It has samples in the profile at hand.
    pub(super) sampled: bool,
    /// What it holds of the budget.
    pub(super) held: usize,
    /// How its stacks are found.
    pub(super) choice: Choice,
    /// Samples without the copy that is needed, or with one that is not, since the sampler was last asked.
    pub(super) at_odds: u32,
    gone: bool,
    pub(super) pid: u32,
    name: String,
    executable: String,
    /// Container and pod.
    origin: Vec<(String, String)>,
    instance: u64,
    /// Tells it from the program that the process executes next.
    image: Option<Image>,
    space: AddressSpace,
    next_look: Instant,
    pause: Duration,
    /// A look at the mappings is due, as soon as it may be.
    owes_look: bool,
    reader: Option<Reader>,
    /// The parent's process context: a forked child has its threads' records, and not the mapping.
    inherited: Option<Arc<ProcessContext>>,
    /// The own process context, once there are children that inherit it.
    shared: Option<Arc<ProcessContext>>,
    /// Nothing is learned of its mappings and its process context any more.
    forgotten: bool,
    next_context_look: Instant,
    context_pause: Duration,
}

impl FollowedProcess {
    pub(super) fn new(pid: u32, choice: Choice, modules: &mut Modules) -> Self {
        let now = Instant::now();
        let mut new = Self {
            pid,
            name: process::name(pid).unwrap_or_default(),
            executable: process::executable(pid).unwrap_or_default(),
            origin: process::origin(pid),
            instance: next_instance(),
            image: Image::of(pid),
            reader: Reader::open(pid).ok(),
            choice,
            // It may have been executed in this moment, and have nothing but itself and the linker.
            owes_look: true,
            ..Self::nothing(now)
        };
        new.space.refresh(pid, modules);
        new.refresh_context(now, modules);
        new
    }

    /// A child that runs the same program.
    pub(super) fn forked(&mut self, child: u32) -> Self {
        let now = Instant::now();
        Self {
            pid: child,
            name: self.name.clone(),
            executable: self.executable.clone(),
            origin: process::origin(child),
            instance: next_instance(),
            // Who forks is not amid an execve any more.
            image: self.image.filter(|&image| image != Image::Unfinished),
            space: self.space.clone(),
            next_look: now,
            reader: Reader::open(child).ok(),
            inherited: self.shared(),
            choice: self.choice,
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
            choice: Choice::default(),
            at_odds: 0,
            pid: 0,
            name: String::new(),
            executable: String::new(),
            origin: Vec::new(),
            instance: next_instance(),
            image: None,
            space: AddressSpace::default(),
            next_look: now + FIRST_LOOK,
            pause: FIRST_LOOK,
            owes_look: false,
            reader: None,
            inherited: None,
            shared: None,
            forgotten: false,
            next_context_look: now,
            context_pause: FIRST_CONTEXT_LOOK,
        }
    }

    /// It is told that a program was executed: whether it is this one, which was found before that was told. What was read
    /// then may have been incomplete, and is read anew; of a process that is gone it is all there is.
    pub(super) fn has_been_executed(&mut self, modules: &mut Modules) -> bool {
        let now = Image::of(self.pid);
        let is_this = self.image.is_some_and(|seen| seen.is_that_of(now));
        if is_this && now.is_some() {
            *self = Self {
                sampled: self.sampled,
                held: self.held,
                instance: self.instance,
                ..Self::new(self.pid, self.choice, modules)
            };
        }
        is_this
    }

    /// The process is gone: keeps what is known, and closes its memory.
    pub(super) fn exited(&mut self) {
        self.inherited = self.shared();
        self.shared = None;
        self.reader = None;
        self.gone = true;
    }

    /// Whether nothing will come from it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Names a process that was gone before anything could be read of it, by its thread.
    pub(super) fn name_after(&mut self, thread: &ThreadName) {
        if self.name.is_empty() {
            self.name = thread.to_string_lossy().into_owned();
        }
    }

    /// The files that are mapped into it.
    pub(super) fn modules(&self) -> impl Iterator<Item = ModuleId> {
        self.space.iter().filter_map(|piece| piece.module)
    }

    /// Looks at the mappings again if an address lies in none of them: now or, if that was just done, when it is due
    /// ([`Self::catch_up`]). The same stack will not be shown again.
    pub(super) fn see_stack(&mut self, addresses: &[u64], modules: &mut Modules) {
        let known = |&address| self.space.find(address).is_some();
        if !addresses.iter().all(known) {
            self.owes_look = true;
            self.catch_up(modules);
        }
    }

    /// When the mappings are to be looked at again, if that is due.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let owes = self.owes_look && !self.gone && !self.forgotten;
        owes.then_some(self.next_look)
    }

    /// Looks at the mappings again if that is due.
    pub(super) fn catch_up(&mut self, modules: &mut Modules) {
        if self.owes_look {
            self.look_again(modules);
        }
    }

    /// Looks at the mappings again, if that was not just done; whether it did.
    fn look_again(&mut self, modules: &mut Modules) -> bool {
        let now = Instant::now();
        if self.gone || self.forgotten || now < self.next_look {
            return false;
        }
        self.owes_look = false;
        self.space.refresh(self.pid, modules);
        self.pause = (self.pause * 2).min(LAST_LOOK);
        let cost = now.elapsed().saturating_mul(TIMES_COST);
        self.next_look = Instant::now() + self.pause.max(cost);
        true
    }

    /// Appends the addresses of a copied stack to `frames`, with the help of what the kernel found by frame
    /// pointers. Whether it was settled with this sample how stacks are found from now on.
    pub(super) fn unwind(
        &mut self,
        unwinder: &mut Unwinder,
        copy: &StackCopy,
        user_stack: &[u64],
        modules: &mut Modules,
        frames: &mut Vec<u64>,
    ) -> bool {
        let start = frames.len();
        let before = unwinder.interpreted();
        let mut outcome = unwinder.unwind(copy, &self.space, modules, frames);
        if outcome == Outcome::Unknown && self.look_again(modules) {
            frames.truncate(start);
            outcome = unwinder.unwind(copy, &self.space, modules, frames);
        }
        let interpreted = unwinder.interpreted().saturating_sub(before);
        let mut followed = Vec::new();
        let frame_pointers = if outcome == Outcome::Complete && self.choice.found().is_some() {
            // Not needed any more.
            &[]
        } else if user_stack.is_empty() {
            Unwinder::follow_frame_pointers(copy, &self.space, &mut followed);
            &followed[..]
        } else {
            // Where a program has none, what looks like them leads anywhere.
            let known = |&&address: &&u64| self.space.find(address).is_some();
            let plausible = user_stack.iter().take_while(known).count();
            user_stack.get(..plausible).unwrap_or_default()
        };
        let unwound = frames.get(start..).unwrap_or_default();
        let program = self.program();
        let in_library = |address| {
            let piece = self.space.find(address);
            piece.is_some_and(|piece| piece.module != program)
        };
        let mut choice = self.choice;
        let settled = choice.compare(frame_pointers, unwound, outcome, interpreted, in_library);
        self.choice = choice;
        unwind::join(frame_pointers, frames, start, outcome);
        settled
    }

    /// Appends the addresses that the frame pointers in a copied stack lead to, or what the kernel found by them.
    pub(super) fn follow(
        &mut self,
        copy: &StackCopy,
        user_stack: &[u64],
        modules: &mut Modules,
        frames: &mut Vec<u64>,
    ) {
        if !user_stack.is_empty() {
            frames.extend_from_slice(user_stack);
            return;
        }
        let start = frames.len();
        let outcome = Unwinder::follow_frame_pointers(copy, &self.space, frames);
        if outcome == Outcome::Unknown && self.look_again(modules) {
            frames.truncate(start);
            Unwinder::follow_frame_pointers(copy, &self.space, frames);
        }
    }

    /// The program's own file: it is mapped below its libraries.
    pub(super) fn program(&self) -> Option<ModuleId> {
        self.space.iter().find_map(|piece| piece.module)
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
            .or(self.inherited.as_deref())
    }

    /// The process context, for a child too: forked processes must not cost a copy each.
    fn shared(&mut self) -> Option<Arc<ProcessContext>> {
        let Some(own) = self.reader.as_ref().and_then(Reader::context) else {
            return self.inherited.clone();
        };
        if self.shared.as_deref() != Some(own) {
            self.shared = Some(Arc::new(own.clone()));
        }
        self.shared.clone()
    }

    /// Bytes of memory that its mappings and its process context take up.
    pub(super) fn size(&self) -> usize {
        let context = self.reader.as_ref().and_then(Reader::context);
        self.space.size()
            + size_of::<Self>()
            + context.map_or(0, size_of_context)
            + self.shared.as_deref().map_or(0, size_of_context)
    }

    /// Makes room: forgets its mappings and its process context, for good.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
        self.space = AddressSpace::default();
        self.reader = None;
        self.inherited = None;
        self.shared = None;
    }

    /// Looks for what the process may have written since the last look, if it is time.
    pub(super) fn refresh_context(&mut self, now: Instant, modules: &mut Modules) {
        let is_idle = !self.sampled && self.context_pause >= CONTEXT_LOOK;
        let longer = if is_idle {
            CONTEXT_LOOK_IDLE
        } else {
            Duration::ZERO
        };
        if now >= self.next_context_look + longer {
            self.context_pause = (self.context_pause * 2).min(CONTEXT_LOOK);
            self.next_context_look = now + self.context_pause;
            self.refresh_perf_map(modules);
            if let Some(reader) = &mut self.reader {
                // A process that may no longer be read is about to end; what was read stays.
                let _ = reader.refresh();
            }
        }
    }

    /// Looks for a new process context, and for names of functions made at run time.
    pub(super) fn refresh_context_now(&mut self, modules: &mut Modules) {
        self.refresh_perf_map(modules);
        if let Some(reader) = &mut self.reader {
            // As above.
            let _ = reader.refresh_now();
        }
    }

    fn refresh_perf_map(&mut self, modules: &mut Modules) {
        if self.sampled && !self.gone && !self.forgotten {
            self.space.find_perf_map(self.pid, modules);
        }
    }

    pub(super) fn to_process(&self) -> Process {
        Process {
            pid: self.pid,
            name: self.name.clone(),
            executable: self.executable.clone(),
            instance: self.instance,
            context: self.context().cloned(),
            origin: self.origin.clone(),
        }
    }
}

/// Bytes that a process context takes up.
fn size_of_context(context: &ProcessContext) -> usize {
    let pairs = context.resource.iter().chain(&context.attributes);
    let pairs: usize = pairs
        .map(|(name, value)| 64 + name.len() + value.len())
        .sum();
    let keys: usize = context
        .attribute_keys
        .iter()
        .map(|key| 32 + key.len())
        .sum();
    size_of::<ProcessContext>() + pairs + keys
}
