//! What a sampler delivers: samples and life-cycle events of the processes it follows.
//!
//! Two samplers implement [`Sampler`]: the eBPF one and the ptrace one. Everything behind it
//! (aggregation, reports, profiles) does not know which of them took a sample.

mod labels;
mod thread_name;

use std::time::Duration;

use otel_profiling::abi::thread_context;

pub use self::labels::{Label, Labels};
pub use self::thread_name::ThreadName;
use crate::error::Error;

/// Most places in which one thread is looked for a pointer: modules that define the same symbol.
pub const MAX_PLACES: usize = 4;

/// Where each thread of a process keeps one pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// At an offset from the thread pointer (the fs base on x86-64, TPIDR_EL0 on aarch64): the main
    /// executable's thread-local storage, and that of shared objects in the static block.
    Static {
        /// The offset.
        offset: i64,
    },
    /// In a block of its own, which the thread's dynamic thread vector (DTV) names once the thread has
    /// touched it.
    Dynamic {
        /// The module's number in the vector.
        module: u64,
        /// Offset in the module's block.
        offset: u64,
        /// The vector is out of date for this module while its generation is lower; 0 where that is not known.
        generation: u64,
    },
}

/// The places of one symbol, in the order in which they are asked: the first pointer that is not null counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Places {
    places: [Option<Place>; MAX_PLACES],
}

impl Places {
    /// No place: the process does not have the symbol.
    pub const NONE: Self = Self {
        places: [None; MAX_PLACES],
    };

    /// Adds a place unless it is there already; `false` if there is no room for it.
    pub fn push(&mut self, place: Place) -> bool {
        for slot in &mut self.places {
            match slot {
                Some(known) if *known == place => return true,
                Some(_) => {}
                None => {
                    *slot = Some(place);
                    return true;
                }
            }
        }
        false
    }

    /// The places, first to last.
    pub fn iter(&self) -> impl Iterator<Item = Place> {
        self.places.into_iter().flatten()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }
}

impl From<Place> for Places {
    fn from(place: Place) -> Self {
        let mut places = Self::NONE;
        places.push(place);
        places
    }
}

/// Which C library lays out the dynamic thread vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Libc {
    /// The GNU C library.
    #[default]
    Glibc,
    /// musl.
    Musl,
}

/// Where the threads of a process keep their pointers to what they publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locations {
    /// Layout of the dynamic thread vector, for [`Place::Dynamic`].
    pub libc: Libc,
    /// Places of `otel_thread_ctx_v1`.
    pub thread_context: Places,
    /// Places of `custom_labels_current_set`.
    pub custom_labels: Places,
}

impl Locations {
    /// Whether the process has neither symbol.
    pub fn is_empty(&self) -> bool {
        self.thread_context.is_empty() && self.custom_labels.is_empty()
    }
}

/// A thread context record as it was read, checked for form only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThreadContext {
    /// Trace id in W3C order.
    pub trace_id: [u8; 16],
    /// Span id in W3C order.
    pub span_id: [u8; 8],
    /// W3C trace flags.
    pub trace_flags: u8,
    /// The attributes as they lie in the record; see [`ThreadContext::attributes`].
    pub attrs_data: Vec<u8>,
}

impl ThreadContext {
    /// A record from the bytes of its header, of which only the first fields matter here, and its attributes.
    pub(crate) fn from_record(header: &[u8], attrs_data: &[u8]) -> Option<Self> {
        let (trace_id, rest) = header.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let [_valid, trace_flags, ..] = *rest else {
            return None;
        };
        Some(Self {
            trace_id: *trace_id,
            span_id: *span_id,
            trace_flags,
            attrs_data: attrs_data.to_vec(),
        })
    }

    /// The attributes: (key index, value).
    pub fn attributes(&self) -> impl Iterator<Item = (u8, &[u8])> {
        thread_context::attributes(&self.attrs_data)
    }
}

/// What a thread was doing in the time that a sample stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activity {
    /// It ran on a CPU.
    #[default]
    OnCpu,
    /// It waited for something: it had gone to sleep.
    Blocked,
    /// It was ready to run, and another thread had its CPU.
    Preempted,
}

/// The registers from which a stack is unwound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The instruction that would run next.
    pub instruction: u64,
    /// The stack pointer.
    pub stack: u64,
    /// The frame pointer: rbp on x86-64, x29 on aarch64.
    pub frame: u64,
    /// The link register, x30 on aarch64; 0 on x86-64.
    pub link: u64,
}

/// A piece of a thread's user stack, for unwinding where frame pointers do not lead through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackCopy {
    /// The registers in user space.
    pub registers: Registers,
    /// The bytes from [`Registers::stack`] upwards.
    pub bytes: Vec<u8>,
}

/// One interrupt of one thread, or one time that it did not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Process id, in the reader's pid namespace.
    pub pid: u32,
    /// Thread id, in the reader's pid namespace.
    pub tid: u32,
    /// The thread's name.
    pub thread_name: ThreadName,
    /// CPU on which the thread ran.
    pub cpu: u32,
    /// CLOCK_MONOTONIC at the sample, in nanoseconds; for a time off the CPU its end.
    pub time_ns: u64,
    /// What the thread was doing.
    pub activity: Activity,
    /// How long it was not running, in nanoseconds; 0 on the CPU, where [`Sampler::period_ns`] counts.
    pub off_cpu_ns: u64,
    /// The thread context that was published, if any.
    pub thread_context: Option<ThreadContext>,
    /// The custom labels that were published; empty if none were.
    pub custom_labels: Labels,
    /// A published pointer led to memory that could not be read, or to something that is not a record.
    pub unreadable: bool,
    /// Addresses of the kernel stack, innermost first; empty if the thread was in user space.
    pub kernel_stack: Vec<u64>,
    /// Addresses of the user stack, innermost first: the sampled instruction, then return addresses.
    pub user_stack: Vec<u64>,
    /// A copy of the user stack, if the process's stacks are copied ([`Sampler::copy_stacks`]).
    pub stack_copy: Option<StackCopy>,
}

impl Sample {
    /// Where there is no room for the copy of the stack: keeps the innermost frame, which is known without it. Whether
    /// there was a copy.
    pub(crate) fn drop_copy(&mut self) -> bool {
        let copy = self.stack_copy.take();
        if let Some(copy) = &copy {
            self.user_stack = vec![copy.registers.instruction];
        }
        copy.is_some()
    }
}

/// What happened in the processes that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all events are samples, and are passed on at once"
)]
pub enum Event {
    /// A sample was taken.
    Sample(Sample),
    /// A followed process created a child process, which is followed too, with the same locations.
    Fork {
        /// The process that forked.
        parent: u32,
        /// The new process.
        child: u32,
    },
    /// A followed process executed another program: its locations are forgotten until they are set anew.
    Exec {
        /// The process.
        pid: u32,
    },
    /// A process that is not followed yet was seen, where the whole machine is sampled.
    Appeared {
        /// The process.
        pid: u32,
    },
    /// A followed process is gone.
    Exit {
        /// The process.
        pid: u32,
    },
}

/// Takes samples of the processes that it is told to follow.
pub trait Sampler {
    /// Follows `pid`, or sets the locations of a process that is followed already.
    ///
    /// # Errors
    /// If the process does not exist or may not be followed.
    fn follow(&mut self, pid: u32, locations: Locations) -> Result<(), Error>;

    /// From now on, copies the stacks of `pid`, which is followed, or no longer does.
    ///
    /// # Errors
    /// [`Error::Unsupported`] from a sampler that cannot; if the process is not followed.
    fn copy_stacks(&mut self, pid: u32, copy: bool) -> Result<(), Error>;

    /// Delivers what has happened, waiting at most `timeout` for something to happen.
    ///
    /// # Errors
    /// If sampling broke down.
    fn poll(&mut self, timeout: Duration, on_event: &mut dyn FnMut(Event)) -> Result<(), Error>;

    /// Delivers what is known only in part so far: of threads that are off the CPU, the time until now, as a
    /// sample of its own. What follows counts from now. To be called when a recording ends, or is divided.
    ///
    /// # Errors
    /// If sampling broke down.
    fn settle(&mut self, on_event: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let _ = on_event;
        Ok(())
    }

    /// What was not delivered, or not in full, since the start.
    fn counters(&self) -> Counters;

    /// CPU time that one sample stands for, in nanoseconds.
    fn period_ns(&self) -> u64;
}

/// What a sampler could not deliver, or not in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Samples that were taken, or due, and could not be delivered.
    pub lost_samples: u64,
    /// Events in the life of processes that could not be delivered.
    pub lost_events: u64,
    /// Samples with [`Sample::unreadable`] set.
    pub unreadable: u64,
    /// Samples in which attributes, labels, keys or values were cut off, or the user stack after its innermost frame:
    /// there was no room for a copy of it.
    pub truncated: u64,
    /// Child processes that are not followed because there were too many already.
    pub refused_processes: u64,
}
