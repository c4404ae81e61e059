//! Counts equal samples in bounded memory.
//!
//! What a sample consists of is kept once, in four tables. Targets decide how many different threads, contexts
//! and stacks there are, so the tables share a budget of bytes. A sample that would exceed it is counted under
//! the process's entry of the same kind that stands for all others, and is counted as merged.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::size_of;

// The tables are asked several times for each sample. Seeded anew by each process, which is enough against targets:
// they see neither seed nor hashes, and what they take up is bounded.
use foldhash::fast::RandomState;
use indexmap::{Equivalent, IndexSet};

use super::ProcessId;
use crate::sample::{Activity, Labels, ThreadContext, ThreadName};

/// Marks the entry that stands for all others, in the place of a number that real entries do not have.
const OTHERS: u32 = u32::MAX;

/// A thread of a process.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Thread {
    pub(super) process: ProcessId,
    /// 0, which is no thread's, for all others.
    pub(super) tid: u32,
    pub(super) name: ThreadName,
}

impl Thread {
    fn others(process: ProcessId) -> Self {
        Self {
            process,
            tid: 0,
            name: super::OTHERS.into(),
        }
    }
}

/// What a thread published, before keys have names: these are known for sure only at the end.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Published {
    pub(super) process: ProcessId,
    /// It stands for all contexts for which there was no room.
    pub(super) others: bool,
    pub(super) thread_context: Option<ThreadContext>,
    pub(super) custom_labels: Labels,
}

impl Published {
    fn others(process: ProcessId) -> Self {
        Self {
            process,
            others: true,
            thread_context: None,
            custom_labels: Labels::NONE,
        }
    }

    fn cost(&self) -> usize {
        let record = self.thread_context.as_ref();
        fixed_cost::<Self>()
            + record.map_or(0, |record| allocated(record.attrs_data.len()))
            + allocated(self.custom_labels.size())
    }
}

/// A stack in the memory of one process.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Stack {
    pub(super) process: ProcessId,
    /// How many of the addresses are the kernel's; [`OTHERS`] for all others.
    kernel: u32,
    /// Innermost first.
    pub(super) addresses: Box<[u64]>,
}

impl Stack {
    fn others(process: ProcessId) -> Self {
        Self {
            process,
            kernel: OTHERS,
            addresses: Box::default(),
        }
    }

    pub(super) fn is_others(&self) -> bool {
        self.kernel == OTHERS
    }

    /// How many of the addresses are the kernel's.
    pub(super) fn kernel(&self) -> usize {
        if self.is_others() {
            0
        } else {
            self.kernel as usize
        }
    }
}

/// A stack that may not be in the table yet.
#[derive(Clone, Copy, Hash)]
pub(super) struct StackRef<'a> {
    process: ProcessId,
    kernel: u32,
    addresses: &'a [u64],
}

impl<'a> StackRef<'a> {
    /// A stack of which the first `kernel` addresses are the kernel's.
    pub(super) fn new(process: ProcessId, kernel: usize, addresses: &'a [u64]) -> Self {
        let kernel = kernel.min(addresses.len());
        Self {
            process,
            // Stacks have some hundred addresses.
            kernel: u32::try_from(kernel).unwrap_or(OTHERS - 1),
            addresses,
        }
    }

    fn cost(&self) -> usize {
        fixed_cost::<Stack>() + allocated(size_of_val(self.addresses))
    }

    fn to_stack(self) -> Stack {
        Stack {
            process: self.process,
            kernel: self.kernel,
            addresses: self.addresses.into(),
        }
    }
}

impl Equivalent<Stack> for StackRef<'_> {
    fn equivalent(&self, stack: &Stack) -> bool {
        self.process == stack.process
            && self.kernel == stack.kernel
            && *self.addresses == *stack.addresses
    }
}

/// A stack that was looked up in the table.
#[derive(Clone, Copy)]
pub(super) struct FoundStack<'a> {
    stack: StackRef<'a>,
    /// Where it is; `None` if it is not there yet.
    index: Option<usize>,
}

impl FoundStack<'_> {
    pub(super) fn is_new(&self) -> bool {
        self.index.is_none()
    }
}

/// What makes samples equal: positions in the tables, and the activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) thread: u32,
    pub(super) context: u32,
    pub(super) stack: u32,
    pub(super) activity: Activity,
}

/// How many samples are equal, and the time that they stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) samples: u64,
    pub(super) ns: u64,
}

impl Amount {
    /// One more sample.
    fn add(&mut self, ns: u64) {
        self.samples += 1;
        self.ns = self.ns.saturating_add(ns);
    }
}

/// The tables and the sums.
#[derive(Debug)]
pub(super) struct Counts {
    budget: usize,
    pub(super) used: usize,
    pub(super) threads: IndexSet<Thread, RandomState>,
    pub(super) contexts: IndexSet<Published, RandomState>,
    pub(super) stacks: IndexSet<Stack, RandomState>,
    pub(super) rows: HashMap<RowKey, Amount, RandomState>,
    pub(super) samples: u64,
    pub(super) with_context: u64,
    pub(super) unreadable: u64,
    pub(super) merged: u64,
}

impl Counts {
    /// Empty tables that take at most `budget` bytes, as far as allocations can be told beforehand.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            used: 0,
            threads: IndexSet::default(),
            contexts: IndexSet::default(),
            stacks: IndexSet::default(),
            rows: HashMap::default(),
            samples: 0,
            with_context: 0,
            unreadable: 0,
            merged: 0,
        }
    }

    /// The same budget, nothing counted; returns what was.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self::new(self.budget);
        std::mem::replace(self, empty)
    }

    /// Looks a stack up, for the next call of [`Counts::count`].
    pub(super) fn find_stack<'a>(&self, stack: StackRef<'a>) -> FoundStack<'a> {
        FoundStack {
            stack,
            index: self.stacks.get_index_of(&stack),
        }
    }

    /// Counts one sample. `held` is what its process holds of the budget.
    pub(super) fn count(
        &mut self,
        held: &mut usize,
        thread: Thread,
        published: Published,
        found: FoundStack<'_>,
        activity: Activity,
        ns: u64,
    ) {
        let process = thread.process;
        self.samples += 1;
        let mut purse = Purse {
            budget: self.budget,
            used: &mut self.used,
            held,
            refused: false,
        };
        let thread = match self.threads.get_index_of(&thread) {
            Some(index) => index,
            None if purse.pay(fixed_cost::<Thread>()) => self.threads.insert_full(thread).0,
            None => self.threads.insert_full(Thread::others(process)).0,
        };
        let context = match self.contexts.get_index_of(&published) {
            Some(index) => index,
            None if purse.pay(published.cost()) => self.contexts.insert_full(published).0,
            None => self.contexts.insert_full(Published::others(process)).0,
        };
        let stack = match found.index {
            Some(index) => index,
            None if purse.pay(found.stack.cost()) => {
                self.stacks.insert_full(found.stack.to_stack()).0
            }
            None => self.stacks.insert_full(Stack::others(process)).0,
        };
        let mut key = row_key(thread, context, stack, activity);
        if let Some(amount) = self.rows.get_mut(&key) {
            amount.add(ns);
            self.merged += u64::from(purse.refused);
            return;
        }
        if !purse.pay(fixed_cost::<(RowKey, Amount)>()) {
            key = row_key(
                self.threads.insert_full(Thread::others(process)).0,
                self.contexts.insert_full(Published::others(process)).0,
                self.stacks.insert_full(Stack::others(process)).0,
                activity,
            );
        }
        self.merged += u64::from(purse.refused);
        self.rows.entry(key).or_default().add(ns);
    }
}

fn row_key(thread: usize, context: usize, stack: usize, activity: Activity) -> RowKey {
    // A budget of bytes that fits into memory leaves no room for this many entries.
    let narrow = |index| u32::try_from(index).unwrap_or(u32::MAX);
    RowKey {
        thread: narrow(thread),
        context: narrow(context),
        stack: narrow(stack),
        activity,
    }
}

/// Pays for new entries.
struct Purse<'a> {
    budget: usize,
    used: &'a mut usize,
    held: &'a mut usize,
    refused: bool,
}

impl Purse<'_> {
    /// Whether there is room. A process never holds more than what is left for all others, so that one that
    /// floods the tables takes half of them at most.
    fn pay(&mut self, cost: usize) -> bool {
        let left = self.budget.saturating_sub(*self.used);
        if self.held.saturating_add(cost) > left {
            self.refused = true;
            return false;
        }
        *self.used += cost;
        *self.held += cost;
        true
    }
}

/// What an entry costs without what it owns: tables double when they are full, and have an index of their own.
const fn fixed_cost<T>() -> usize {
    2 * size_of::<T>() + 32
}

/// What an allocation of `bytes` costs.
const fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + 16 }
}
