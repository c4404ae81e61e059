//! What a sampler delivers: samples and life-cycle events of the processes it follows.
//!
//! Two samplers implement [`Sampler`]: the eBPF one and the ptrace one. Everything behind it
//! (aggregation, reports, profiles) does not know which of them took a sample.

use std::time::Duration;

use otel_profiling::abi::thread_context;

use crate::error::Error;

/// Where a process keeps its thread-local pointers, as offsets from the thread pointer
/// (the fs base on x86-64, TPIDR_EL0 on aarch64). `None`: the process does not have the symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// Offset of `otel_thread_ctx_v1`.
    pub thread_context: Option<i64>,
    /// Offset of `custom_labels_current_set`.
    pub custom_labels: Option<i64>,
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
    /// The attributes: (key index, value).
    pub fn attributes(&self) -> impl Iterator<Item = (u8, &[u8])> {
        thread_context::attributes(&self.attrs_data)
    }
}

/// One custom label as it was read: bytes, not checked to be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// The name.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// One interrupt of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Process id, in the reader's pid namespace.
    pub pid: u32,
    /// Thread id, in the reader's pid namespace.
    pub tid: u32,
    /// The thread's name, at most 15 bytes.
    pub thread_name: String,
    /// CPU on which the thread ran.
    pub cpu: u32,
    /// CLOCK_MONOTONIC at the sample, in nanoseconds.
    pub time_ns: u64,
    /// The thread context that was published, if any.
    pub thread_context: Option<ThreadContext>,
    /// The custom labels that were published; empty if none were.
    pub custom_labels: Vec<Label>,
    /// A published pointer led to memory that could not be read, or to something that is not a record.
    pub unreadable: bool,
    /// Addresses of the user stack, innermost first: the sampled instruction, then return addresses.
    pub user_stack: Vec<u64>,
}

/// What happened in the processes that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

    /// Delivers what has happened, waiting at most `timeout` for something to happen.
    ///
    /// # Errors
    /// If sampling broke down.
    fn poll(&mut self, timeout: Duration, on_event: &mut dyn FnMut(Event)) -> Result<(), Error>;

    /// Samples that were taken but could not be delivered.
    fn lost(&self) -> u64;

    /// CPU time that one sample stands for, in nanoseconds.
    fn period_ns(&self) -> u64;
}
