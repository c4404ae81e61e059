//! Cuts a recording into windows, and makes each ready in a thread of its own: names of functions, the ring, pushing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message as _;

use super::health::Health;
use super::options::Options;
use super::ring::Store;
use crate::error::Error;
use crate::label_style::LabelStyle;
use crate::otlp;
use crate::process::Modules;
use crate::profile::{Filter, Profile, memory};
use crate::push::Exporter;
use crate::record::Windows;
use crate::sample::Counters;
use crate::symbolize::Symbolizer;
use crate::sys;

/// How often the present state is looked at.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// Windows that wait for their names. If these are looked up slowly, the next window gets longer.
const MAX_WAITING: usize = 2;
/// Windows are not cut shorter than this, however many requests ask for it.
const SHORTEST: Duration = Duration::from_millis(100);
/// A message that is larger is pushed in parts. Receivers take 4 MiB unless told otherwise.
const MAX_MESSAGE: usize = 3 << 20;

struct Ended {
    profile: Profile,
    modules: Modules,
    number: u64,
}

/// Decides when a window is over, and passes it on.
pub(super) struct Cutter {
    length: Duration,
    next: Instant,
    begin: Instant,
    store: Arc<Store>,
    health: Arc<Health>,
    /// How many cuts had been asked for when the current window was found to be over.
    seen: u64,
    late: bool,
    /// Windows that wait, or are being made ready.
    waiting: Arc<AtomicUsize>,
    sender: Option<Sender<Ended>>,
    thread: Option<JoinHandle<()>>,
}

impl Cutter {
    pub(super) fn start(
        options: &Options,
        store: &Arc<Store>,
        health: &Arc<Health>,
        exporter: Option<Arc<Exporter>>,
    ) -> Result<Self, Error> {
        let (sender, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let work = Work {
            store: Arc::clone(store),
            health: Arc::clone(health),
            exporter,
            style: options.label_style,
            waiting: Arc::clone(&waiting),
        };
        let thread = std::thread::Builder::new()
            .name("windows".to_owned())
            .spawn(move || {
                let mut symbolizer = Symbolizer::new();
                for ended in receiver {
                    work.make_ready(ended, &mut symbolizer);
                    // Windows come and go, in pieces of all sizes: without this, memory grows by what lies between.
                    sys::give_back_free_memory();
                }
            })
            .map_err(|error| Error::io("start a thread", error))?;
        let now = Instant::now();
        Ok(Self {
            length: options.window,
            next: now + options.window,
            begin: now,
            store: Arc::clone(store),
            health: Arc::clone(health),
            seen: 0,
            late: false,
            waiting,
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// Waits until all windows are in the ring and pushed. There will be no more.
    pub(super) fn finish(mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, its windows are lost, and nothing else.
            let _ = thread.join();
        }
        self.store.close();
    }
}

impl Windows for Cutter {
    fn is_over(&mut self, now: Instant) -> bool {
        let asked = self.store.cuts_asked();
        let cut = asked != self.seen && now.duration_since(self.begin) >= SHORTEST;
        if now < self.next && !cut {
            return false;
        }
        if self.waiting.load(Ordering::Acquire) >= MAX_WAITING {
            if !self.late {
                self.late = true;
                self.health.late_windows.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        }
        self.seen = asked;
        true
    }

    fn window(&mut self, profile: Profile, modules: &Modules, counters: &Counters) {
        self.health.set_losses(counters);
        let now = Instant::now();
        self.begin = now;
        self.next = now + self.length;
        self.late = false;
        let Some(sender) = &self.sender else {
            return;
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // It fails when the thread is gone; then there is nobody who could make use of it.
        let _ = sender.send(Ended {
            profile,
            modules: modules.clone(),
            number: self.store.end_window(self.seen),
        });
    }
}

/// What the thread needs.
struct Work {
    store: Arc<Store>,
    health: Arc<Health>,
    exporter: Option<Arc<Exporter>>,
    style: LabelStyle,
    waiting: Arc<AtomicUsize>,
}

impl Work {
    fn make_ready(&self, ended: Ended, symbolizer: &mut Symbolizer) {
        let Ended {
            mut profile,
            modules,
            number,
        } = ended;
        for warning in symbolizer.symbolize(&mut profile, &modules) {
            self.health.symbol_failures.fetch_add(1, Ordering::Relaxed);
            self.store.warn(warning);
        }
        drop(modules);
        self.health.count(&profile);
        if let Some(exporter) = &self.exporter {
            push(exporter, &profile, self.style);
        }
        memory::shrink(&mut profile);
        self.store.push(number, profile);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a message is worth sending. Some receivers refuse profiles without samples.
fn has_samples(message: &otlp::proto::ProfilesData) -> bool {
    let resources = message.resource_profiles.iter();
    let scopes = resources.flat_map(|resource| &resource.scope_profiles);
    let mut profiles = scopes.flat_map(|scope| &scope.profiles);
    profiles.any(|profile| !profile.samples.is_empty())
}

/// Pushes a profile, in parts if it is large: one half of its processes after the other, as far as that goes.
fn push(exporter: &Exporter, profile: &Profile, style: LabelStyle) {
    let mut parts = vec![(0, profile.processes.len())];
    while let Some((begin, end)) = parts.pop() {
        let message = if (begin, end) == (0, profile.processes.len()) {
            otlp::encode(profile, &Filter::all(), style)
        } else {
            otlp::encode(&profile.of_processes(begin..end), &Filter::all(), style)
        };
        if message.encoded_len() > MAX_MESSAGE && end - begin > 1 {
            let middle = begin + (end - begin) / 2;
            parts.push((middle, end));
            parts.push((begin, middle));
        } else if has_samples(&message) {
            exporter.push(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    #[test]
    fn a_window_without_samples_is_not_worth_a_message() {
        let message = |filter| otlp::encode(&two_traces(), &filter, LabelStyle::Otel);
        assert!(has_samples(&message(Filter::all())));
        let nothing = message(Filter::all().attribute("http.route", "/nowhere"));
        // There is a profile, as a file needs one.
        assert_eq!(nothing.resource_profiles.len(), 1);
        assert!(!has_samples(&nothing));
    }
}
