//! The process context (OTEP 4719): what this process tells readers about itself.
//!
//! A profiler that finds a thread context needs to know two more things: which service the process is, and
//! what the key indices in the thread context's attributes mean. Both are in a protobuf message, which
//! a small memory mapping named `OTEL_CTX` points to. A process has one; [`publish`] makes or replaces it.
//!
//! ```
//! use otel_profiling::process_context::{self, ProcessContext};
//!
//! # fn main() -> Result<(), process_context::PublishError> {
//! # if cfg!(target_os = "linux") {
//! process_context::publish(&ProcessContext::new().resource("service.name", "checkout"))?;
//! // Later, from another part of the program, which does not know what the first one published:
//! process_context::update_with(|context| context.resource("service.version", "1.2.3"))?;
//! assert!(process_context::is_published());
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Synchronization
//! Writers take turns behind a lock. Readers outside see either the old or the new message, never half of
//! one: the header's timestamp is 0 during a change and then differs from every earlier one, and the old
//! message stays in memory until the new timestamp stands.
//!
//! # Fork
//! A forked child neither has the mapping (it is not inherited) nor touches its parent's: it publishes a
//! context of its own, starting from an empty one, if it calls [`publish`] or [`update_with`]. That works
//! also when another thread of the parent was in the middle of a call during the fork.
//!
//! # Cost
//! One page, the message, and one page that tells a child of a fork from its parent. A call takes a few
//! system calls; it is meant for program start and rare changes. Nothing here may be called in a
//! signal handler.

mod content;
mod error;
#[cfg(all(target_os = "linux", target_has_atomic = "64", not(miri)))]
mod mapping;
#[cfg(not(all(target_os = "linux", target_has_atomic = "64", not(miri))))]
#[path = "process_context/unsupported.rs"]
mod mapping;
mod message;
mod owner;
mod read_back;
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod tests;
mod value;

pub use content::ProcessContext;
pub use error::PublishError;
pub use read_back::{ReadBackError, read_back};
pub use value::Value;

/// Publishes `context`, in place of what this process published before, if anything.
///
/// # Errors
/// See [`PublishError`]. What was published before stays published then.
pub fn publish(context: &ProcessContext) -> Result<(), PublishError> {
    owner::update(|_| context.clone().with_known_keys())
}

/// Changes the published context: calls `change` with the current one, and publishes what it returns.
///
/// Nobody else's change comes in between, so parts of a program that know nothing of each other can
/// each add what they know. If this process has published nothing yet, or has withdrawn it, `change` gets
/// [`ProcessContext::default`], and the result is published all the same.
///
/// `change` runs while other writers wait: it must neither call a function of this module nor fork.
///
/// # Errors
/// See [`PublishError`]. What was published before stays published then, and the change is forgotten.
pub fn update_with(
    change: impl FnOnce(ProcessContext) -> ProcessContext,
) -> Result<(), PublishError> {
    owner::update(|context| change(context).with_known_keys())
}

/// Takes the published context away again, so that readers find none. Returns whether there was one.
pub fn withdraw() -> bool {
    owner::withdraw()
}

/// Whether this process has published a context. False in a forked child, until it publishes its own.
#[must_use]
pub fn is_published() -> bool {
    owner::is_published()
}
