//! Who may write the process context: one writer at a time, of the process that made the mapping.
//!
//! After a fork the child inherits this module's memory, but not the mapping, and perhaps a lock that
//! no thread will ever release. So each process of a line of forks has an [`Owner`] of its own, with a lock of its
//! own. A child appends one to the chain that it inherited and never again looks into the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use once_cell::race::OnceBox;

use super::content::ProcessContext;
use super::error::PublishError;
use super::mapping::{self, ForkMark, Mapping};
use super::message;

struct Owner {
    mark: ForkMark,
    state: Mutex<State>,
    /// The owner in a process that inherited this one by fork.
    child: OnceBox<Owner>,
}

#[derive(Default)]
struct State {
    published: Option<Published>,
    /// The last timestamp given away, so that none is given twice.
    published_at: u64,
}

struct Published {
    content: ProcessContext,
    mapping: Mapping,
}

/// The owner in the first process that wrote a context. Never dropped, and neither are those behind it: a
/// child must not unmap what it did not inherit.
static FIRST: OnceBox<Owner> = OnceBox::new();

impl Owner {
    fn new() -> Self {
        Self {
            mark: ForkMark::new(),
            state: Mutex::default(),
            child: OnceBox::new(),
        }
    }

    /// The owner in this process, if it ever wrote a context.
    fn known() -> Option<&'static Self> {
        let mut next = FIRST.get();
        while let Some(owner) = next {
            if owner.mark.is_of_this_process() {
                return Some(owner);
            }
            next = owner.child.get();
        }
        None
    }

    /// The owner in this process, made if there is none yet.
    fn this() -> &'static Self {
        let mut slot = &FIRST;
        loop {
            let owner = slot.get_or_init(|| Box::new(Self::new()));
            if owner.mark.is_of_this_process() {
                return owner;
            }
            slot = &owner.child;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic can only come from the caller's `change`, before anything is touched.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_timestamp(&mut self) -> u64 {
        self.published_at = mapping::boot_time().max(self.published_at.saturating_add(1));
        self.published_at
    }
}

pub(super) fn update(
    change: impl FnOnce(ProcessContext) -> ProcessContext,
) -> Result<(), PublishError> {
    let mut state = Owner::this().lock();
    let current = state.published.as_ref().map(|now| now.content.clone());
    let content = change(current.unwrap_or_default());
    let payload = message::encode(&content)?;
    let mut published = match state.published.take() {
        Some(mut now) => {
            now.content = content;
            now
        }
        None => Published {
            mapping: Mapping::create(mapping::memfd)?,
            content,
        },
    };
    // Readers need not read the same again.
    if *published.mapping.payload() != *payload {
        let published_at = state.next_timestamp();
        published.mapping.publish(payload, published_at);
    }
    state.published = Some(published);
    Ok(())
}

pub(super) fn withdraw() -> bool {
    let published = Owner::known().and_then(|owner| owner.lock().published.take());
    match published {
        Some(published) => {
            published.mapping.withdraw();
            true
        }
        None => false,
    }
}

pub(super) fn is_published() -> bool {
    Owner::known().is_some_and(|owner| owner.lock().published.is_some())
}
