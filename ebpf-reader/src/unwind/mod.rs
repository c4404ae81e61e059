//! Stacks of programs that were built without frame pointers, from copies of their threads' stacks.
//!
//! A program says in its `.eh_frame` how the caller's registers are found at each of its instructions. That is
//! looked up for one frame after the other: by [`AddressSpace`] the file, by its search table the entry, by the
//! entry a `rule::Rule`, which is kept, since the same places come again and again.
//!
//! The files belong to other people. They are read piece by piece, never mapped; entries have a largest size,
//! expressions are recognised and not executed, and a process whose files cost too much time loses its
//! right to them (`choice`).

mod cache;
mod choice;
mod rule;
mod table;
mod walk;

use crate::process::{AddressSpace, Modules};
use crate::sample::StackCopy;

pub(crate) use choice::{Choice, join};
pub(crate) use walk::Outcome;

use cache::Cache;

/// How user stacks are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unwinding {
    /// By frame pointers where a program has them, else from copied stacks; found out for each program with its
    /// first samples.
    #[default]
    Auto,
    /// By frame pointers.
    FramePointers,
    /// From copied stacks, by the unwind tables in the programs' files.
    Dwarf,
}

/// Unwinds copied stacks of any process.
#[derive(Debug, Default)]
pub(crate) struct Unwinder {
    cache: Cache,
}

impl Unwinder {
    /// Appends the addresses of a copied stack to `frames`, innermost first.
    pub(crate) fn unwind(
        &mut self,
        copy: &StackCopy,
        space: &AddressSpace,
        modules: &Modules,
        frames: &mut Vec<u64>,
    ) -> Outcome {
        walk::walk(copy, space, Some((&mut self.cache, modules)), frames)
    }

    /// Appends what the frame pointers in a copied stack lead to.
    pub(crate) fn follow_frame_pointers(
        copy: &StackCopy,
        space: &AddressSpace,
        frames: &mut Vec<u64>,
    ) -> Outcome {
        walk::walk(copy, space, None, frames)
    }

    /// Bytes of unwind tables that were interpreted so far: what a process costs.
    pub(crate) fn interpreted(&self) -> u64 {
        self.cache.interpreted()
    }
}

#[cfg(test)]
mod tests;
