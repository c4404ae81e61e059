//! Both samplers against real processes that publish contexts.
//!
//! Tests with eBPF need CAP_BPF and CAP_PERFMON; where a process has them, they have to pass.

mod collect;
mod contexts;
mod cpu_time;
mod everything;
mod frames;
mod life;
mod namespaces;
mod places;
mod ptrace;
mod refusals;
mod running;
mod stacks;
mod target;
mod waits;

const TRACE_ID: [u8; 16] = *b"0123456789abcdef";
const SPAN_ID: [u8; 8] = *b"spanspan";
const ATTRS: [u8; 8] = [0, 3, b'G', b'E', b'T', 1, 1, b'/'];
