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
mod kernel_types;
mod object;
mod off_cpu;
mod privileges;
pub(crate) mod procfs;
mod programs;
pub mod ptrace;
mod queue;
mod target;
mod tracer;
mod wire;

pub use ebpf::EbpfSampler;
pub use ptrace::PtraceSampler;
