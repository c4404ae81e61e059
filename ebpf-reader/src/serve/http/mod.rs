//! The server: listens, bounds what clients can ask for, and routes requests.

mod access;
mod answers;
mod listen;
mod parameters;
mod patience;
mod pprof;

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Notify, Semaphore};

pub use access::{Token, TokenError};
pub use listen::{Listen, ParseListenError};

use self::access::Access;
use self::listen::Listener;
use super::health::Health;
use super::options::Options;
use super::ring::Store;
use crate::error::Error;
use crate::label_style::LabelStyle;
use crate::push::Exporter;

/// Connections at a time. Those beyond are closed at once.
const MAX_CONNECTIONS: usize = 64;
/// Answers that are worked out at a time, each on a thread.
const MAX_WORKING: usize = 2;
/// Requests that wait for their turn, or for the samples of the next seconds.
const MAX_WAITING: usize = 16;

/// What requests are answered from.
struct State {
    store: Arc<Store>,
    health: Arc<Health>,
    exporter: Option<Arc<Exporter>>,
    access: Access,
    style: LabelStyle,
    keep: std::time::Duration,
    frequency_hz: u64,
    working: Arc<Semaphore>,
    waiting: Semaphore,
}

/// Answers requests from a thread of its own until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: String,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(
        options: &Options,
        store: &Arc<Store>,
        health: &Arc<Health>,
        exporter: Option<Arc<Exporter>>,
    ) -> Result<Self, Error> {
        let access = Access::new(&options.listen, options.token.clone())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_WORKING)
            .build()
            .map_err(|error| Error::io("start the server", error))?;
        let listener = {
            let _entered = runtime.enter();
            Listener::bind(&options.listen)?
        };
        let address = listener.address().to_owned();
        let state = Arc::new(State {
            store: Arc::clone(store),
            health: Arc::clone(health),
            exporter,
            access,
            style: options.label_style,
            keep: options.keep,
            frequency_hz: options.recording.frequency_hz,
            working: Arc::new(Semaphore::new(MAX_WORKING)),
            waiting: Semaphore::new(MAX_WAITING),
        });
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = listener.serve(answers::router(&state), &state.health) => {}
                        () = stopped.notified() => {}
                    }
                });
                // Answers that are being worked out are of no use to anybody any more.
                runtime.shutdown_background();
            })
            .map_err(|error| Error::io("start the server", error))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens, as a URL or a path.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // Whether it panicked makes no difference any more.
            let _ = thread.join();
        }
    }
}
