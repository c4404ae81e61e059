//! Profiles other processes by the traces that they work on.
//!
//! A service that uses `otel-profiling` publishes, per thread, which trace and span it is working on. This
//! crate reads that from outside: an eBPF program interrupts each CPU a number of times a second, reads the
//! context of the thread that runs there together with its stack, and this library turns the
//! samples into CPU time by trace, pprof profiles and flame graphs. It knows nothing of a program but its
//! ELF file and the published layouts (`otel_profiling::abi`), so it works for every writer of them.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//!
//! use ebpf_reader::flame;
//! use ebpf_reader::profile::Filter;
//! use ebpf_reader::record::{self, Options};
//!
//! # fn main() -> Result<(), ebpf_reader::Error> {
//! let options = Options::new().pid(1234).duration(Duration::from_secs(10));
//! let recording = record::run(&options, &AtomicBool::new(false), &mut |_progress| {})?;
//! for usage in recording.profile.traces() {
//!     println!("{} {} samples, {} ns of CPU", usage.trace_id, usage.samples, usage.cpu_ns);
//! }
//! flame::write_svg(&recording.profile, &Filter::all(), Path::new("profile.svg"))?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it is cut
//! | module | what |
//! |---|---|
//! | [`sampler`] | takes samples: with eBPF, or with ptrace where privileges are missing |
//! | [`sample`] | what a sampler delivers, and the trait that both implement |
//! | [`elf`], [`process`] | where a process keeps its thread-local pointers, its mappings and files |
//! | [`process_context`] | the resource of a process and the names of its attributes |
//! | [`record`] | one recording: follows processes from start to end |
//! | [`profile`] | counts samples by thread, context and stack |
//! | [`unwind`] | stacks of programs without frame pointers |
//! | [`symbolize`] | names of functions |
//! | [`report`], [`pprof`], [`otlp`], [`flame`], [`output`] | what is shown and written |
//! | [`read`], [`diff`] | profiles from files; what changed between two |
//! | [`check`] | whether a program publishes what readers look for, in the way that they read it |
//! | `serve` | profiles all the time, in bounded memory; feature `serve` |
//! | `top` | the same on a terminal; feature `top` |
//! | `push` | sends profiles by OTLP; feature `push` |
//! | [`threads`] | what each thread publishes right now, without eBPF |
//! | [`text`] | other processes' text, made fit to be shown |
//!
//! # Features
//! `serve`, `push`, `tls` (encryption for pushing; needs a C compiler) and `top` are on by default, for the program.
//! Without them the library builds neither tokio, nor rustls, nor ratatui.
//!
//! # Limits
//! - Linux 5.10 or later with BTF, on x86-64 and aarch64. eBPF needs CAP_BPF and CAP_PERFMON; programs of other
//!   users need CAP_SYS_PTRACE, too. In a container all processes to be followed must be visible in `/proc`.
//! - The symbols have to be exported, by the main executable or by a shared object; of a static executable at a
//!   fixed address the symbol table has to be left ([`process::locate`]). At most [`sample::MAX_PLACES`] modules of a
//!   process are looked into.
//! - Stacks of programs without frame pointers are unwound from copies of at most 16 KiB; deeper ones end early.
//! - What another process says is not trusted: sizes are bounded, and what cannot be read is counted
//!   ([`profile::Profile::unreadable`]), as is what was lost ([`profile::Profile::lost`]).
#![deny(unsafe_code)]

pub mod check;
pub mod diff;
pub mod elf;
pub mod error;
pub mod flame;
#[doc(hidden)]
pub mod image;
pub mod label_style;
pub mod otlp;
pub mod output;
pub mod pprof;
pub mod process;
pub mod process_context;
pub mod profile;
mod published;
#[cfg(feature = "push")]
pub mod push;
pub mod read;
pub mod record;
pub mod report;
pub mod sample;
pub mod sampler;
#[cfg(feature = "serve")]
pub mod serve;
mod snapshot;
pub mod symbolize;
#[allow(unsafe_code)]
mod sys;
pub mod text;
mod thread_local;
pub mod threads;
#[cfg(feature = "top")]
pub mod top;
pub mod unwind;

pub use error::Error;
