//! Which way the stacks of one program are found: by trying both on its first samples.

use super::{Outcome, Unwinding};

/// Samples after which it is decided.
const PROBATION: u32 = 48;

/// So many of them may be better unwound from the copy for frame pointers to be good enough: a tenth.
const TOLERATED: u32 = PROBATION / 10;

/// Bytes of unwind tables that a process may have interpreted at once, and on average for each sample. Programs
/// need some hundred for a sample, a hundred times as many at their start.
const INTERPRETED_AT_ONCE: u64 = 2 << 20;
const INTERPRETED_A_SAMPLE: u64 = 4 << 10;

/// Frames that frame pointers may leave out, and outermost ones that belong to the start of a thread.
const SKIPPED: usize = 2;
const START: usize = 3;

/// What is known of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Both ways are compared.
    Probation {
        samples: u32,
        better: u32,
    },
    FramePointers,
    Dwarf,
}

/// How the stacks of one program are found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    state: State,
    forced: bool,
    samples: u64,
    interpreted: u64,
}

impl Default for Choice {
    /// No copies.
    fn default() -> Self {
        Self::new(Unwinding::FramePointers, None)
    }
}

impl Choice {
    /// Before the first sample. `known` is what was found out with another process of the same program.
    pub(crate) fn new(unwinding: Unwinding, known: Option<Unwinding>) -> Self {
        let state = match (unwinding, known) {
            (Unwinding::FramePointers, _) | (Unwinding::Auto, Some(Unwinding::FramePointers)) => {
                State::FramePointers
            }
            (Unwinding::Dwarf, _) | (Unwinding::Auto, Some(Unwinding::Dwarf)) => State::Dwarf,
            (Unwinding::Auto, _) => State::Probation {
                samples: 0,
                better: 0,
            },
        };
        Self {
            state,
            forced: unwinding != Unwinding::Auto,
            samples: 0,
            interpreted: 0,
        }
    }

    /// Whether stacks have to be copied.
    pub(crate) fn copies(&self) -> bool {
        self.state != State::FramePointers
    }

    /// What was found out, once it was.
    pub(crate) fn found(&self) -> Option<Unwinding> {
        match self.state {
            _ if self.forced => None,
            State::Probation { .. } => None,
            State::FramePointers => Some(Unwinding::FramePointers),
            State::Dwarf => Some(Unwinding::Dwarf),
        }
    }

    /// Stacks are not copied any more, because they cannot be or because it costs too much.
    pub(crate) fn give_up(&mut self) {
        self.state = State::FramePointers;
        self.forced = true;
    }

    /// Takes note of a sample of which both stacks are known; whether it settled the matter. `interpreted` is what
    /// the unwinding has cost.
    pub(crate) fn compare(
        &mut self,
        frame_pointers: &[u64],
        unwound: &[u64],
        outcome: Outcome,
        interpreted: u64,
        in_library: impl Fn(u64) -> bool,
    ) -> bool {
        self.samples += 1;
        self.interpreted = self.interpreted.saturating_add(interpreted);
        let allowed = INTERPRETED_AT_ONCE + self.samples.saturating_mul(INTERPRETED_A_SAMPLE);
        if self.interpreted > allowed {
            self.give_up();
            return true;
        }
        let State::Probation { samples, better } = self.state else {
            return false;
        };
        let samples = samples + 1;
        let better = better + u32::from(is_better(frame_pointers, unwound, outcome, in_library));
        self.state = if better > TOLERATED {
            State::Dwarf
        } else if samples >= PROBATION {
            State::FramePointers
        } else {
            State::Probation { samples, better }
        };
        !matches!(self.state, State::Probation { .. })
    }
}

/// Whether unwinding has shown more of a stack than its frame pointers. `in_library` tells whether an address is
/// outside of the program's own file.
fn is_better(
    frame_pointers: &[u64],
    unwound: &[u64],
    outcome: Outcome,
    in_library: impl Fn(u64) -> bool,
) -> bool {
    let Some(&last) = frame_pointers.last() else {
        return true;
    };
    let Some(at) = unwound.iter().rposition(|&address| address == last) else {
        return outcome == Outcome::Complete || unwound.len() > frame_pointers.len();
    };
    let missing = unwound.len() - 1 - at;
    if missing == 0 {
        // Functions without a frame of their own may be left out on the way.
        return unwound.len() > frame_pointers.len() + SKIPPED;
    }
    // The C library has no frame pointers where it starts a thread, and whoever is interested knows what is there.
    missing > START || (missing * 4 > unwound.len() && !in_library(last))
}

/// Completes what was unwound with what the frame pointers have shown; the result is in `unwound`, from `start`
/// on.
pub(crate) fn join(frame_pointers: &[u64], unwound: &mut Vec<u64>, start: usize, outcome: Outcome) {
    if outcome == Outcome::Complete {
        return;
    }
    let Some(found) = unwound.get(start..) else {
        return;
    };
    // A deep stack goes on beyond the copy, and the kernel could follow it there.
    let meeting = found
        .last()
        .and_then(|last| frame_pointers.iter().position(|address| address == last));
    match meeting {
        Some(at) => unwound.extend(frame_pointers.iter().skip(at + 1)),
        None if frame_pointers.len() > found.len() => {
            unwound.truncate(start);
            unwound.extend(frame_pointers);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT_SHORT: &[u64] = &[1, 2];
    const WHOLE: &[u64] = &[1, 2, 3, 4, 5];

    fn after(samples: u32, frame_pointers: &[u64], unwound: &[u64], outcome: Outcome) -> Choice {
        let mut choice = Choice::new(Unwinding::Auto, None);
        for _ in 0..samples {
            choice.compare(frame_pointers, unwound, outcome, 100, |address| {
                address > 90
            });
        }
        choice
    }

    #[test]
    fn frame_pointers_are_kept_where_they_lead_to_the_start() {
        let choice = after(PROBATION, WHOLE, WHOLE, Outcome::Complete);
        assert_eq!(choice.found(), Some(Unwinding::FramePointers));
        assert!(!choice.copies());
        let choice = after(PROBATION - 1, WHOLE, WHOLE, Outcome::Complete);
        assert_eq!(choice.found(), None);
        assert!(choice.copies());
        // The copy was too short for the stack.
        let choice = after(PROBATION, WHOLE, CUT_SHORT, Outcome::Cut);
        assert_eq!(choice.found(), Some(Unwinding::FramePointers));
    }

    #[test]
    fn the_start_of_a_thread_may_be_missing() {
        let found = |frame_pointers: &[u64], unwound: &[u64]| {
            after(PROBATION, frame_pointers, unwound, Outcome::Complete).found()
        };
        let shallow = [1, 2, 91, 92, 93];
        assert_eq!(
            found(&shallow[..3], &shallow),
            Some(Unwinding::FramePointers)
        );
        assert_eq!(found(&shallow[..2], &shallow), Some(Unwinding::Dwarf));
        let deep = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(found(&deep[..8], &deep), Some(Unwinding::FramePointers));
        assert_eq!(found(&deep[..6], &deep), Some(Unwinding::Dwarf));
        assert_eq!(found(&[], &deep), Some(Unwinding::Dwarf));
    }

    #[test]
    fn copies_are_kept_where_they_show_more() {
        let choice = after(TOLERATED + 1, CUT_SHORT, WHOLE, Outcome::Complete);
        assert_eq!(choice.found(), Some(Unwinding::Dwarf));
        assert!(choice.copies());
        // Frame pointers that lead somewhere else.
        let wrong = [1, 2, 77, 78, 79, 80, 81];
        let choice = after(TOLERATED + 1, &wrong, WHOLE, Outcome::Complete);
        assert_eq!(choice.found(), Some(Unwinding::Dwarf));
    }

    #[test]
    fn a_process_that_costs_too_much_loses_its_copies() {
        let mut choice = Choice::new(Unwinding::Dwarf, None);
        for _ in 0..1000 {
            choice.compare(CUT_SHORT, WHOLE, Outcome::Complete, 20 << 10, |_| false);
        }
        assert!(!choice.copies());
        assert_eq!(choice.found(), None);
    }

    #[test]
    fn what_was_unwound_goes_on_where_frame_pointers_do() {
        let joined = |unwound: &[u64], outcome| {
            let mut stack = vec![99];
            stack.extend(unwound);
            join(WHOLE, &mut stack, 1, outcome);
            stack
        };
        assert_eq!(joined(&[1, 9, 3], Outcome::Cut), [99, 1, 9, 3, 4, 5]);
        assert_eq!(joined(&[1, 9, 3], Outcome::Complete), [99, 1, 9, 3]);
        assert_eq!(joined(&[1, 9], Outcome::Lost), [99, 1, 2, 3, 4, 5]);
        let longer = [1, 6, 7, 8, 9, 10];
        assert_eq!(joined(&longer, Outcome::Lost)[1..], longer);
    }
}
