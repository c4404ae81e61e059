//! The recording behind the view, in threads of its own: what the view takes from it never keeps it waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::Modules;
use crate::profile::{Profile, memory};
use crate::record::{self, End, Progress, Windows};
use crate::sample::Counters;
use crate::symbolize::Symbolizer;

/// What is counted together.
const PIECE: Duration = Duration::from_secs(1);
/// Pieces that wait for their names. If these are looked up slowly, the next piece gets longer.
const MAX_WAITING: usize = 2;
/// Bytes of all pieces. The oldest are dropped when there are more.
const MAX_BYTES: usize = 64 << 20;
/// How often the start is looked at.
const TICK: Duration = Duration::from_millis(50);

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// A larger one is newer.
    pub(super) version: u64,
    /// The last seconds, oldest first, with names of functions.
    pub(super) pieces: Vec<Arc<Profile>>,
    /// Samples that were lost since the start.
    pub(super) lost: u64,
    /// Samples with something unreadable since the start.
    pub(super) unreadable: u64,
    /// Processes that are followed.
    pub(super) processes: usize,
    /// What was last found to be missing.
    pub(super) warning: Option<String>,
    /// Why there is nothing new any more.
    pub(super) ended: Option<String>,
}

/// What is known, and when each piece arrived.
#[derive(Debug, Default)]
struct Known {
    snapshot: Snapshot,
    pieces: VecDeque<(Instant, usize, Arc<Profile>)>,
    bytes: usize,
}

impl Known {
    fn push(&mut self, profile: Profile, now: Instant, keep: Duration) {
        let bytes = memory::bytes(&profile);
        self.bytes = self.bytes.saturating_add(bytes);
        let snapshot = &mut self.snapshot;
        snapshot.lost = snapshot.lost.saturating_add(profile.lost);
        snapshot.unreadable = snapshot.unreadable.saturating_add(profile.unreadable);
        self.pieces.push_back((now, bytes, Arc::new(profile)));
        while let Some((arrived, bytes, _)) = self.pieces.front() {
            if now.duration_since(*arrived) < keep && self.bytes <= MAX_BYTES {
                break;
            }
            self.bytes = self.bytes.saturating_sub(*bytes);
            self.pieces.pop_front();
        }
        let pieces = self.pieces.iter().map(|(_, _, profile)| profile);
        snapshot.pieces = pieces.cloned().collect();
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<Known>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.lock();
        change(&mut known);
        known.snapshot.version += 1;
    }
}

/// A recording that runs.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    /// Starts to sample, and waits until it does; `None` if `stop` became true before.
    ///
    /// # Errors
    /// As [`record::run`].
    pub(super) fn start(
        options: &record::Options,
        keep: Duration,
        stop: &AtomicBool,
        on_warning: &mut dyn FnMut(Error),
    ) -> Result<Option<Self>, Error> {
        let mut recording = options.clone();
        // Names are looked up for each piece.
        recording.symbols = false;
        recording.duration = None;
        recording.detached = true;
        let shared = Arc::new(Shared::default());
        let stopped = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel();
        let work = {
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stopped));
            move || run(&recording, keep, &shared, &stop, &sender)
        };
        let session = Self {
            shared,
            stop: stopped,
            thread: Some(spawn("sampling", work)?),
        };
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match receiver.recv_timeout(TICK) {
                Ok(Start::Sampling) => return Ok(Some(session)),
                Ok(Start::Warning(warning)) => on_warning(warning),
                Ok(Start::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                // It was over before it began, as with a command that ends at once, or it broke down.
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(session)),
            }
        }
    }

    /// What is known, if that is newer than `version`.
    pub(super) fn newer(&self, version: u64) -> Option<Snapshot> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let known = self.shared.lock();
            if known.snapshot.ended.is_none() {
                drop(known);
                self.shared
                    .change(|known| known.snapshot.ended = Some("sampling broke down".to_owned()));
            }
        }
        let known = self.shared.lock();
        (known.snapshot.version > version).then(|| known.snapshot.clone())
    }
}

impl Drop for Session {
    /// A command that was started is ended.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked, there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

/// What the recording tells before the screen is taken.
enum Start {
    Sampling,
    Warning(Error),
    Failed(Error),
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::io("start a thread", error))
}

/// The sampling thread.
fn run(
    options: &record::Options,
    keep: Duration,
    shared: &Arc<Shared>,
    stop: &AtomicBool,
    start: &Sender<Start>,
) {
    let mut cutter = match Cutter::start(keep, shared) {
        Ok(cutter) => cutter,
        Err(error) => {
            // It fails if nobody waits any more.
            let _ = start.send(Start::Failed(error));
            return;
        }
    };
    let mut started = false;
    let result =
        record::run_in_windows(options, &mut cutter, stop, &mut |progress| match progress {
            Progress::Started => {
                started = true;
                let _ = start.send(Start::Sampling);
            }
            Progress::Sampling { processes, .. } => {
                let changed = shared.lock().snapshot.processes != processes;
                if changed {
                    shared.change(|known| known.snapshot.processes = processes);
                }
            }
            Progress::Warning(warning) if started => {
                shared.change(|known| known.snapshot.warning = Some(warning.one_line()));
            }
            Progress::Warning(warning) => {
                let _ = start.send(Start::Warning(warning));
            }
            _ => {}
        });
    cutter.finish();
    let ended = match result {
        Err(error) if !started => {
            let _ = start.send(Start::Failed(error));
            return;
        }
        Err(error)
        | Ok(record::Recording {
            end: End::Failed(error),
            ..
        }) => error.one_line(),
        Ok(_) => "all processes have ended".to_owned(),
    };
    shared.change(|known| {
        known.snapshot.processes = 0;
        known.snapshot.ended = Some(ended);
    });
}

/// Cuts the recording into pieces.
struct Cutter {
    next: Instant,
    waiting: Arc<AtomicUsize>,
    sender: Option<Sender<(Profile, Modules)>>,
    thread: Option<JoinHandle<()>>,
}

impl Cutter {
    fn start(keep: Duration, shared: &Arc<Shared>) -> Result<Self, Error> {
        let (sender, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let work = {
            let (shared, waiting) = (Arc::clone(shared), Arc::clone(&waiting));
            move || make_ready(&receiver, &waiting, keep, &shared)
        };
        Ok(Self {
            next: Instant::now() + PIECE,
            waiting,
            sender: Some(sender),
            thread: Some(spawn("names", work)?),
        })
    }

    /// Waits until all pieces can be seen.
    fn finish(mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, its pieces are lost, and nothing else.
            let _ = thread.join();
        }
    }
}

impl Windows for Cutter {
    fn is_over(&mut self, now: Instant) -> bool {
        now >= self.next && self.waiting.load(Ordering::Acquire) < MAX_WAITING
    }

    fn window(&mut self, profile: Profile, modules: &Modules, _: &Counters) {
        self.next = Instant::now() + PIECE;
        if let Some(sender) = &self.sender {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            // It fails when the thread is gone; then there is nobody who could make use of it.
            let _ = sender.send((profile, modules.clone()));
        }
    }
}

/// The thread that looks up names.
fn make_ready(
    receiver: &Receiver<(Profile, Modules)>,
    waiting: &AtomicUsize,
    keep: Duration,
    shared: &Shared,
) {
    let mut symbolizer = Symbolizer::new();
    while let Ok((mut profile, modules)) = receiver.recv() {
        let warnings = symbolizer.symbolize(&mut profile, &modules);
        drop(modules);
        memory::shrink(&mut profile);
        shared.change(|known| {
            known.push(profile, Instant::now(), keep);
            if let Some(warning) = warnings.last() {
                known.snapshot.warning = Some(warning.one_line());
            }
        });
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    #[test]
    fn only_the_last_seconds_are_kept() {
        let mut known = Known::default();
        let begin = Instant::now();
        let keep = Duration::from_secs(5);
        for second in 1..=20 {
            known.push(two_traces(), begin + Duration::from_secs(second), keep);
        }
        assert_eq!(known.snapshot.pieces.len(), 5);
        let once = two_traces();
        assert_eq!(known.snapshot.lost, 20 * once.lost);
        assert_eq!(known.snapshot.unreadable, 20 * once.unreadable);
        assert_eq!(known.bytes, 5 * memory::bytes(&once));
    }

    #[test]
    fn bytes_are_bounded() {
        let mut known = Known::default();
        let now = Instant::now();
        for _ in 0..40 {
            let mut large = two_traces();
            large.stacks.push(vec![0; 500_000]);
            known.push(large, now, Duration::from_secs(30));
            assert!(known.bytes <= MAX_BYTES);
        }
        assert!(known.snapshot.pieces.len() > 5);
    }
}
