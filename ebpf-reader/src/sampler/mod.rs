//! The two ways to take samples: in the kernel, and from outside with ptrace.
//!
//! | sampler | needs | costs the target |
//! |---|---|---|
//! | [`EbpfSampler`] | CAP_BPF and CAP_PERFMON, Linux 5.10 | about a microsecond per sample |
//! | [`PtraceSampler`] | the same user | a short stop of the thread per sample |
//!
//! Both follow the threads and the children of the processes that they are told to follow.

pub mod ebpf;
mod frequency;
mod privileges;
mod procfs;
pub mod ptrace;
mod published;
mod queue;
mod tracer;
mod wire;

pub use ebpf::EbpfSampler;
pub use ptrace::PtraceSampler;

/// What a sampler could not deliver, or not in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Samples that were taken, or due, and could not be delivered.
    pub lost_samples: u64,
    /// Events in the life of processes that could not be delivered.
    pub lost_events: u64,
    /// Samples with [`unreadable`](crate::sample::Sample::unreadable) set.
    pub unreadable: u64,
    /// Samples in which attributes, labels, keys or values were cut off.
    pub truncated: u64,
    /// Child processes that are not followed because there were too many already.
    pub refused_processes: u64,
}
