//! Safe wrappers around the system calls that neither std nor a crate offers in the form that is needed.
//!
//! The only place in this crate with unsafe code. Each function checks what it is given, and returns
//! the system's error; none of them keeps a pointer.

#[cfg(feature = "serve")]
mod allocator;
pub(crate) mod bpf;
mod clock;
mod limits;
mod memory;
mod perf_event;
mod poll;
pub(crate) mod ptrace;
mod robust_list;
pub(crate) mod wait;

#[cfg(feature = "serve")]
pub(crate) use allocator::give_back_free_memory;
pub(crate) use clock::{boottime_ns, monotonic_ns};
pub(crate) use limits::lift_locked_memory_limit;
pub(crate) use memory::read_memory;
pub(crate) use perf_event::run_at_clock_ticks;
pub(crate) use poll::wait_readable;
pub(crate) use robust_list::robust_list_head;
