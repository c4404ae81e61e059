//! When followed processes are looked at again, for objects that they have loaded meanwhile.
//!
//! Soon after something has changed, then with growing pauses. All processes together are looked at so rarely
//! that it does not cost much of a CPU, however many there are and whatever they have mapped.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{ElfFiles, Locator};
use crate::sample::Locations;

/// Pause after a change.
const SHORTEST: Duration = Duration::from_millis(50);
/// Pause in the long run.
const LONGEST: Duration = Duration::from_secs(2);
/// Longer pauses where there are many processes: 50 looks a second in all.
const PER_PROCESS: Duration = Duration::from_millis(20);
/// A pause is this many times as long as the look took.
const TIMES_COST: u32 = 100;
/// Time for looks at one go; whoever has to wait comes next time.
const AT_ONE_GO: Duration = Duration::from_millis(10);
/// How often it is seen that nobody asked for a look at a process: a child, which runs what its parent does.
const ROUND: Duration = Duration::from_millis(500);

/// The looks at all followed processes.
#[derive(Debug, Default)]
pub(super) struct Looks {
    files: ElfFiles,
    looks: HashMap<u32, Look>,
    /// When it is the turn of each: [`Look::next`].
    turns: BTreeSet<(Instant, u32)>,
    next_round: Option<Instant>,
}

/// One process.
#[derive(Debug)]
struct Look {
    locator: Locator,
    /// What the sampler was told.
    told: Option<Locations>,
    pause: Duration,
    next: Instant,
    has_warned: bool,
}

impl Look {
    fn new(pid: u32, now: Instant) -> Self {
        Self {
            locator: Locator::new(pid),
            told: None,
            pause: SHORTEST,
            next: now + SHORTEST,
            has_warned: false,
        }
    }

    /// Looks, and tells what the sampler does not know yet.
    fn look(&mut self, files: &mut ElfFiles, longest: Duration) -> Option<Locations> {
        let begin = Instant::now();
        let found = self.locator.refresh(files).ok();
        let now = Instant::now();
        let news = found.filter(|&found| self.told != Some(found));
        self.pause = if news.is_some() && self.told.is_some() {
            SHORTEST
        } else {
            (self.pause * 2).min(longest)
        };
        self.next = now + self.pause.max((now - begin) * TIMES_COST);
        self.told = found.or(self.told);
        news
    }
}

impl Looks {
    /// The sampler was told something about a process, or knows nothing about it any more: looks at it soon.
    pub(super) fn restart(&mut self, pid: u32, told: Option<Locations>) {
        let now = Instant::now();
        let look = self.looks.entry(pid).or_insert_with(|| Look::new(pid, now));
        self.turns.remove(&(look.next, pid));
        look.told = told;
        look.pause = SHORTEST;
        look.next = now + SHORTEST;
        self.turns.insert((look.next, pid));
    }

    /// How long until it is a process's turn.
    pub(super) fn pause(&self) -> Option<Duration> {
        let (next, _) = self.turns.first()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Looks at those of the followed processes whose turn it is: where they keep their pointers, if the sampler
    /// was told otherwise or nothing. Warns where not all places fit.
    pub(super) fn news(
        &mut self,
        followed: &HashSet<u32>,
        warn: &mut dyn FnMut(Error),
    ) -> Vec<(u32, Locations)> {
        let begin = Instant::now();
        if self.next_round.is_none_or(|next| begin >= next) {
            self.next_round = Some(begin + ROUND);
            self.keep(followed, begin);
        }
        let processes = u32::try_from(followed.len()).unwrap_or(u32::MAX);
        let longest = LONGEST.max(PER_PROCESS.saturating_mul(processes));
        let mut news = Vec::new();
        while let Some(&(next, pid)) = self.turns.first() {
            if next > begin || begin.elapsed() > AT_ONE_GO {
                break;
            }
            self.turns.pop_first();
            if !followed.contains(&pid) {
                self.looks.remove(&pid);
                continue;
            }
            let Some(look) = self.looks.get_mut(&pid) else {
                continue;
            };
            news.extend(
                look.look(&mut self.files, longest)
                    .map(|found| (pid, found)),
            );
            self.turns.insert((look.next, pid));
            let left_out = look.locator.left_out();
            if left_out > 0 && !look.has_warned {
                look.has_warned = true;
                warn(Error::Incomplete {
                    count: left_out as u64,
                    what: "places of thread contexts or labels are not read: too many modules of one process \
                           export the same symbols",
                });
            }
        }
        news
    }

    /// Forgets who is not followed any more, and takes up who is new.
    fn keep(&mut self, followed: &HashSet<u32>, now: Instant) {
        self.looks.retain(|&pid, look| {
            let stays = followed.contains(&pid);
            if !stays {
                self.turns.remove(&(look.next, pid));
            }
            stays
        });
        for &pid in followed {
            self.looks.entry(pid).or_insert_with(|| {
                let look = Look::new(pid, now);
                self.turns.insert((look.next, pid));
                look
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(looks: &mut Looks, followed: &HashSet<u32>) -> Vec<(u32, Locations)> {
        looks.news(followed, &mut |error| panic!("{error}"))
    }

    /// Looks until there is something, for a while.
    fn wait(looks: &mut Looks, followed: &HashSet<u32>) -> Vec<(u32, Locations)> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let news = all(looks, followed);
            if !news.is_empty() {
                return news;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Vec::new()
    }

    fn let_it_be_the_turn_of(looks: &mut Looks, pid: u32) {
        let look = looks.looks.get_mut(&pid).unwrap();
        assert!(looks.turns.remove(&(look.next, pid)));
        look.next = Instant::now();
        looks.turns.insert((look.next, pid));
    }

    #[test]
    fn what_is_known_is_not_told_again_and_pauses_grow() {
        let pid = std::process::id();
        let followed = HashSet::from([pid]);
        let mut looks = Looks::default();
        assert_eq!(looks.pause(), None);
        assert_eq!(all(&mut looks, &followed), [], "it is not its turn yet");
        assert!(looks.pause().is_some_and(|pause| pause <= SHORTEST));
        let [(found_pid, found)] = wait(&mut looks, &followed)[..] else {
            panic!("nothing was told")
        };
        assert_eq!(found_pid, pid);
        assert_eq!(looks.looks[&pid].told, Some(found));
        looks.looks.get_mut(&pid).unwrap().pause = LONGEST;
        let_it_be_the_turn_of(&mut looks, pid);
        assert_eq!(all(&mut looks, &followed), []);
        let look = &looks.looks[&pid];
        assert_eq!(look.pause, LONGEST);
        assert!(look.next > Instant::now() + LONGEST / 2);
        assert!(looks.pause().is_some_and(|pause| pause > LONGEST / 2));

        // After another program was executed the sampler knows nothing.
        looks.restart(pid, None);
        assert_eq!(wait(&mut looks, &followed), [(pid, found)]);
        // What the sampler was told elsewhere.
        looks.restart(pid, Some(found));
        let_it_be_the_turn_of(&mut looks, pid);
        assert_eq!(all(&mut looks, &followed), []);
    }

    #[test]
    fn processes_that_are_not_followed_any_more_are_forgotten() {
        let mut looks = Looks::default();
        let pid = std::process::id();
        looks.restart(pid, None);
        assert_eq!(all(&mut looks, &HashSet::new()), []);
        assert!(looks.looks.is_empty() && looks.turns.is_empty());
        // One that is gone is no news.
        looks.restart(u32::MAX, None);
        let_it_be_the_turn_of(&mut looks, u32::MAX);
        assert_eq!(all(&mut looks, &HashSet::from([u32::MAX])), []);
    }
}
