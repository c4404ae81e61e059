//! Which processes' stacks are to be copied: what was found out about programs, and what the sampler was told.

use std::collections::{HashMap, VecDeque};

use super::process::FollowedProcess;
use crate::error::Error;
use crate::process::ModuleId;
use crate::sample::Sampler;
use crate::unwind::{Choice, Unwinding};

/// How often a sampler is asked that does not follow a process yet.
const ATTEMPTS: u32 = 40;

/// Requests that wait. Those that do not fit are made later, when samples come without copies.
const MAX_REQUESTS: usize = 4096;

/// Samples with or without a copy, against what was chosen, after which a sampler is asked again.
const REMINDER: u32 = 32;

/// Programs of which it is known which way is theirs.
const MAX_PROGRAMS: usize = 1 << 13;

#[derive(Clone, Copy, Debug)]
struct Request {
    pid: u32,
    copy: bool,
    attempts: u32,
}

/// What is asked of the sampler, and why.
#[derive(Debug)]
pub(super) struct Steering {
    unwinding: Unwinding,
    given_up: bool,
    programs: HashMap<ModuleId, Unwinding>,
    requests: VecDeque<Request>,
}

impl Steering {
    pub(super) fn new(unwinding: Unwinding) -> Self {
        Self {
            unwinding,
            given_up: false,
            programs: HashMap::new(),
            requests: VecDeque::new(),
        }
    }

    /// The sampler cannot copy stacks.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// The choice of a process of which nothing is known.
    pub(super) fn before_first_sample(&self) -> Choice {
        if self.given_up {
            Choice::default()
        } else {
            Choice::new(self.unwinding, None)
        }
    }

    /// A process was opened: begins with what was found out with others that run the same program.
    pub(super) fn recall(&mut self, process: &mut FollowedProcess) {
        if !self.given_up {
            let program = process.program();
            let known = program.and_then(|program| self.programs.get(&program).copied());
            process.choice = Choice::new(self.unwinding, known);
        }
        if process.choice.copies() {
            self.copy(process.pid, true);
        }
    }

    /// It was settled how a process's stacks are found.
    pub(super) fn learn(&mut self, process: &FollowedProcess) {
        if !process.choice.copies() {
            self.copy(process.pid, false);
        }
        if let (Some(found), Some(program)) = (process.choice.found(), process.program())
            && self.programs.len() < MAX_PROGRAMS
        {
            self.programs.insert(program, found);
        }
    }

    /// A sample came without the copy that it should have. The next ones may come with it.
    pub(super) fn remind(&mut self, process: &mut FollowedProcess) {
        process.at_odds += 1;
        if process.at_odds >= REMINDER {
            process.at_odds = 0;
            self.copy(process.pid, true);
        }
    }

    /// A sample came with a copy that nobody asked for: a child inherits what was asked for its parent, even if it
    /// executes a program of which it is known that it needs none.
    pub(super) fn decline(&mut self, process: &mut FollowedProcess) {
        if process.at_odds == 0 {
            self.copy(process.pid, false);
        }
        process.at_odds = (process.at_odds + 1) % REMINDER;
    }

    /// Forgets programs whose files are closed.
    pub(super) fn retain(&mut self, keep: impl Fn(ModuleId) -> bool) {
        self.programs.retain(|&program, _| keep(program));
    }

    /// Asks for copies, or for no more.
    pub(super) fn copy(&mut self, pid: u32, copy: bool) {
        if self.given_up {
            return;
        }
        self.requests.retain(|request| request.pid != pid);
        if self.requests.len() < MAX_REQUESTS {
            self.requests.push_back(Request {
                pid,
                copy,
                attempts: 0,
            });
        }
    }

    /// Tells the sampler.
    pub(super) fn apply(&mut self, sampler: &mut dyn Sampler) -> Result<(), Error> {
        for _ in 0..self.requests.len() {
            let Some(request) = self.requests.pop_front() else {
                break;
            };
            match sampler.copy_stacks(request.pid, request.copy) {
                Ok(()) => {}
                Err(error @ Error::Unsupported { .. }) => {
                    self.given_up = true;
                    self.requests.clear();
                    return match self.unwinding {
                        Unwinding::Dwarf => Err(error),
                        Unwinding::Auto | Unwinding::FramePointers => Ok(()),
                    };
                }
                // Perhaps it is not followed yet; one that has ended is forgotten soon.
                Err(_) if request.attempts < ATTEMPTS => self.requests.push_back(Request {
                    attempts: request.attempts + 1,
                    ..request
                }),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
