//! The exporter: a queue, and a thread that empties it.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use prost::Message as _;
use tokio::sync::Notify;

use super::config::{Compression, Config, ConfigError};
use super::exchange::{Outcome, Sender};
use super::queue::{Message, Queue};
use super::retry::Backoff;

/// What became of the messages so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that arrived.
    pub sent: u64,
    /// Their bytes, as sent.
    pub sent_bytes: u64,
    /// Attempts that failed and were, or will be, made again.
    pub failed_attempts: u64,
    /// Messages that the receiver refused for good.
    pub refused: u64,
    /// Messages that were dropped because the queue was full.
    pub dropped: u64,
    /// Profiles inside of messages that arrived which the receiver rejected.
    pub rejected_profiles: u64,
    /// Messages that wait.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// What went wrong last, until a message arrives without complaints.
    pub last_error: Option<String>,
}

/// Pushes profiles from a thread of its own. Dropping it gives up what waits; [`Exporter::shutdown`] does not.
pub struct Exporter {
    shared: Arc<Shared>,
    compression: Compression,
    endpoint: String,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("endpoint", &self.endpoint)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    limit: usize,
    /// Something to send, or to stop.
    work: Notify,
    /// The queue is empty, or the thread is over.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    queue: Queue,
    counters: Counters,
    stop: bool,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exporter {
    /// Starts the thread. The receiver need not be there yet.
    ///
    /// # Errors
    /// If the configuration cannot work: a wrong end point, unusable certificates.
    pub fn start(config: Config) -> Result<Self, ConfigError> {
        let sender = Sender::new(&config)?;
        let endpoint = sender.endpoint().to_string();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            limit: config.queue_bytes,
            work: Notify::new(),
            idle: Condvar::new(),
        });
        let failed = |error: std::io::Error| ConfigError::Thread {
            reason: error.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let backoff = Backoff::new(config.first_pause, config.last_pause);
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("otlp-push".to_owned())
            .spawn(move || {
                // Also if it should ever panic: nobody is to wait for it.
                let _over = Over(&work);
                runtime.block_on(send_all(&work, sender, backoff));
                // A look-up of a host name may take long; nobody waits for it.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self {
            shared,
            compression: config.compression,
            endpoint,
            thread: Some(thread),
        })
    }

    /// Where profiles are pushed to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Queues a message, without waiting. If it does not fit, older ones are dropped and counted.
    pub fn push(&self, message: &ProfilesData) {
        // Field for field the request of the collector's service.
        let encoded = message.encode_to_vec();
        let message = match self.compression {
            Compression::None => None,
            Compression::Gzip => gzip(&encoded),
        };
        let message = match message {
            Some(body) => Message {
                body: body.into(),
                compressed: true,
            },
            None => Message {
                body: Bytes::from(encoded),
                compressed: false,
            },
        };
        let mut state = self.shared.state();
        state.counters.dropped += match state.over {
            true => 1,
            false => state.queue.push(message, self.shared.limit),
        };
        drop(state);
        self.shared.work.notify_one();
    }

    /// What became of the messages so far.
    pub fn counters(&self) -> Counters {
        let state = self.shared.state();
        Counters {
            queued: u64::try_from(state.queue.len()).unwrap_or(u64::MAX),
            queued_bytes: u64::try_from(state.queue.bytes()).unwrap_or(u64::MAX),
            ..state.counters.clone()
        }
    }

    /// Waits until everything has been sent or refused, but not longer than `timeout`, and ends the thread. `false`
    /// if something was left.
    pub fn shutdown(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state();
        while state.queue.len() > 0 && !state.over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self
                .shared
                .idle
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.len() == 0
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // Whether it panicked makes no difference any more.
            let _ = thread.join();
        }
    }
}

/// Says that the thread is over.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.idle.notify_all();
    }
}

/// Sends the oldest message until it has arrived, was refused, or was dropped for newer ones; then the next.
async fn send_all(shared: &Shared, mut sender: Sender, mut backoff: Backoff) {
    while let Some((number, message)) = next(shared).await {
        let outcome = tokio::select! {
            outcome = sender.attempt(&message) => outcome,
            () = stopped(shared) => return,
        };
        let pause = {
            let mut state = shared.state();
            let state = &mut *state;
            let counters = &mut state.counters;
            match outcome {
                Outcome::Accepted { rejected, note } => {
                    counters.sent += 1;
                    counters.sent_bytes += u64::try_from(message.body.len()).unwrap_or(0);
                    counters.rejected_profiles =
                        counters.rejected_profiles.saturating_add(rejected);
                    counters.last_error = match (rejected, note) {
                        (0, None) => None,
                        (0, Some(note)) => Some(format!("the receiver warns: {note}")),
                        (rejected, note) => Some(format!(
                            "the receiver rejected {rejected} profiles: {}",
                            note.unwrap_or_default()
                        )),
                    };
                    if !state.queue.remove(number) {
                        // It was dropped while it was on its way, and arrived all the same.
                        counters.dropped = counters.dropped.saturating_sub(1);
                    }
                    backoff.reset();
                    None
                }
                Outcome::Refused { reason } => {
                    counters.last_error = Some(reason);
                    if state.queue.remove(number) {
                        counters.refused += 1;
                    }
                    backoff.reset();
                    None
                }
                Outcome::TryAgain { after, reason } => {
                    counters.failed_attempts += 1;
                    counters.last_error = Some(reason);
                    Some(backoff.pause(after))
                }
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(shared) => return,
            }
        }
    }
}

/// The oldest message, once there is one; `None` when it is time to stop.
async fn next(shared: &Shared) -> Option<(u64, Message)> {
    loop {
        {
            let state = shared.state();
            if state.stop {
                return None;
            }
            if let Some(front) = state.queue.front() {
                return Some(front);
            }
        }
        shared.idle.notify_all();
        shared.work.notified().await;
    }
}

async fn stopped(shared: &Shared) {
    while !shared.state().stop {
        shared.work.notified().await;
    }
}

/// `None` if it cannot be compressed, which memory alone could prevent.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}
