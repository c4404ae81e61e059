//! `ebpf-reader serve` on a program that publishes its contexts: pages, pprof, metrics, pushing, and what is refused.
//!
//! The program is this very test binary, started again: see [`writer`].

mod access;
mod answers;
mod browser;
mod client;
mod limits;
mod profiles;
mod pushing;
mod server;
mod writer;

use std::time::Duration;

/// How long a busy machine may take for what should take no time.
const PATIENCE: Duration = Duration::from_secs(60);
