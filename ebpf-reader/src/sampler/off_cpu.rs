//! Times off the CPU: joins what the kernel side tells when a thread is switched out and when it runs on.
//!
//! Either of the two may be lost when the ring is full. Both carry a number that no other pair has, so
//! that what is left of a lost pair is dropped, and counted, and never makes a wrong time.

use std::collections::HashMap;

use crate::sample::Sample;

/// Most threads that are remembered off the CPU.
const MAX_THREADS: usize = 1 << 16;
/// Most bytes of their stacks' copies. Beyond, only the innermost frame is kept.
const MAX_COPIED: usize = 32 << 20;

/// A thread that runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SwitchIn {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) time_ns: u64,
    /// That of its switch-out.
    pub(super) sequence: u64,
}

/// The threads that are off the CPU.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// By process and thread.
    waits: HashMap<u32, HashMap<u32, Wait>>,
    threads: usize,
    copied: usize,
    /// Times that could not be told: half a pair was lost, or there was no room.
    pub(super) lost: u64,
    /// Times of which the stack was cut for want of room.
    pub(super) truncated: u64,
}

#[derive(Debug)]
struct Wait {
    /// As it was when the thread was switched out, or counted last.
    sample: Sample,
    sequence: u64,
    /// The thread may be running again: the record of a switch-in was lost since.
    doubtful: bool,
}

impl Waits {
    /// A thread was switched out. A wait that it had already is one of which the end was lost.
    pub(super) fn out(&mut self, mut sample: Sample, sequence: u64) {
        let (pid, tid) = (sample.pid, sample.tid);
        if self.take(pid, tid).is_some() {
            self.lost += 1;
        }
        if self.threads >= MAX_THREADS {
            self.lost += 1;
            return;
        }
        if self.copied + copied(&sample) > MAX_COPIED && sample.drop_copy() {
            self.truncated += 1;
        }
        self.threads += 1;
        self.copied += copied(&sample);
        let wait = Wait {
            sample,
            sequence,
            doubtful: false,
        };
        self.waits.entry(pid).or_default().insert(tid, wait);
    }

    /// A thread runs on: the time that it did not.
    pub(super) fn back(&mut self, switch: SwitchIn) -> Option<Sample> {
        let wait = self.take(switch.pid, switch.tid)?;
        if wait.sequence != switch.sequence {
            self.lost += 1;
            return None;
        }
        until(wait.sample, switch.time_ns)
    }

    /// The process is gone, or runs another program.
    pub(super) fn forget(&mut self, pid: u32) {
        for wait in self.waits.remove(&pid).into_iter().flatten() {
            self.threads -= 1;
            self.copied -= copied(&wait.1.sample);
        }
    }

    /// A switch-in was lost: it may have been that of any thread.
    pub(super) fn doubt(&mut self) {
        for wait in self.waits.values_mut().flat_map(HashMap::values_mut) {
            wait.doubtful = true;
        }
    }

    /// The times until now of all threads that are off the CPU. What follows counts from now. Those of which the
    /// end may have been lost are given up.
    pub(super) fn settle(&mut self, now_ns: u64, on_time: &mut dyn FnMut(Sample)) {
        let mut given_up = Vec::new();
        for wait in self.waits.values_mut().flat_map(HashMap::values_mut) {
            if wait.doubtful {
                given_up.push((wait.sample.pid, wait.sample.tid));
            } else if let Some(time) = until(wait.sample.clone(), now_ns) {
                wait.sample.time_ns = now_ns;
                on_time(time);
            }
        }
        for (pid, tid) in given_up {
            self.lost += u64::from(self.take(pid, tid).is_some());
        }
    }

    fn take(&mut self, pid: u32, tid: u32) -> Option<Wait> {
        let threads = self.waits.get_mut(&pid)?;
        let wait = threads.remove(&tid)?;
        if threads.is_empty() {
            self.waits.remove(&pid);
        }
        self.threads -= 1;
        self.copied -= copied(&wait.sample);
        Some(wait)
    }
}

fn copied(sample: &Sample) -> usize {
    sample
        .stack_copy
        .as_ref()
        .map_or(0, |copy| copy.bytes.len())
}

/// The sample of a wait that ended at a time; `None` if it has no length.
fn until(mut sample: Sample, end_ns: u64) -> Option<Sample> {
    sample.off_cpu_ns = end_ns
        .checked_sub(sample.time_ns)
        .filter(|&time| time > 0)?;
    sample.time_ns = end_ns;
    Some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Activity, Registers, StackCopy};

    fn sample(tid: u32, time_ns: u64) -> Sample {
        Sample {
            pid: 1,
            tid,
            time_ns,
            activity: Activity::Blocked,
            ..Sample::default()
        }
    }

    fn back(tid: u32, time_ns: u64, sequence: u64) -> SwitchIn {
        SwitchIn {
            pid: 1,
            tid,
            time_ns,
            sequence,
        }
    }

    #[test]
    fn a_pair_is_a_time() {
        let mut waits = Waits::default();
        waits.out(sample(7, 100), 1);
        waits.out(sample(8, 150), 1);
        let time = waits.back(back(7, 400, 1)).expect("a time");
        assert_eq!((time.time_ns, time.off_cpu_ns), (400, 300));
        assert_eq!(waits.back(back(7, 500, 1)), None);
        assert_eq!(waits.lost, 0);
    }

    #[test]
    fn what_is_left_of_lost_pairs_makes_no_time() {
        let mut waits = Waits::default();
        // The switch-out was lost.
        assert_eq!(waits.back(back(7, 100, 1)), None);
        assert_eq!(waits.lost, 0);
        // The switch-in was lost: the next switch-out replaces.
        waits.out(sample(7, 200), 2);
        waits.out(sample(7, 300), 3);
        assert_eq!(waits.lost, 1);
        assert_eq!(
            waits.back(back(7, 350, 3)).map(|sample| sample.off_cpu_ns),
            Some(50)
        );
        // A switch-in and the switch-out after it were lost.
        waits.out(sample(7, 400), 4);
        assert_eq!(waits.back(back(7, 900, 5)), None);
        assert_eq!(waits.lost, 2);
        // Clocks that go backwards.
        waits.out(sample(7, 1000), 6);
        assert_eq!(waits.back(back(7, 999, 6)), None);
    }

    #[test]
    fn a_thread_that_still_waits_is_settled_piece_by_piece() {
        let mut waits = Waits::default();
        waits.out(sample(7, 100), 1);
        let mut times = Vec::new();
        for now in [300, 300, 1000] {
            waits.settle(now, &mut |sample| times.push(sample.off_cpu_ns));
        }
        times.extend(waits.back(back(7, 1500, 1)).map(|sample| sample.off_cpu_ns));
        assert_eq!(times, [200, 700, 500]);
    }

    #[test]
    fn nothing_is_settled_that_may_be_over() {
        let mut waits = Waits::default();
        waits.out(sample(7, 100), 1);
        // Its end comes after all.
        waits.out(sample(9, 100), 1);
        waits.doubt();
        assert!(waits.back(back(9, 150, 1)).is_some());
        waits.out(sample(8, 100), 1);
        let mut settled = Vec::new();
        waits.settle(200, &mut |sample| settled.push(sample.tid));
        assert_eq!((settled, waits.lost), (vec![8], 1));
        assert_eq!(waits.back(back(7, 300, 1)), None);
    }

    #[test]
    fn threads_and_copies_are_bounded() {
        let mut waits = Waits::default();
        let copy = StackCopy {
            registers: Registers {
                instruction: 0x1234,
                ..Registers::default()
            },
            bytes: vec![0; 16 << 10],
        };
        let with_copy = |tid| Sample {
            stack_copy: Some(copy.clone()),
            ..sample(tid, 100)
        };
        let fit = (MAX_COPIED / copy.bytes.len()) as u32;
        for tid in 0..fit + 1 {
            waits.out(with_copy(tid), 1);
        }
        assert_eq!(waits.truncated, 1);
        let last = waits.back(back(fit, 200, 1)).expect("a time");
        assert_eq!((last.stack_copy, last.user_stack), (None, vec![0x1234]));
        // A place is free again.
        assert!(waits.back(back(0, 200, 1)).is_some());
        waits.out(with_copy(0), 2);
        assert_eq!(waits.truncated, 1);
        for tid in 0..MAX_THREADS as u32 + 10 {
            waits.out(sample(tid, 300), 3);
        }
        assert_eq!(waits.threads, MAX_THREADS);
        assert_eq!(waits.lost, u64::from(fit) + 10);
        waits.forget(1);
        assert_eq!((waits.threads, waits.copied), (0, 0));
    }
}
