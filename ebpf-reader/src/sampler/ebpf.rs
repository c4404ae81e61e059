//! Samples in the kernel: keeps the table of processes of the kernel side, and drains its ring.
//!
//! Every CPU that is online at the start has a sampling clock of its own. CPUs that come online later
//! are not sampled.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};

use super::off_cpu::Waits;
use super::programs::{attach, bpf, check_kernel, errno, fit, hash_map};
use super::wire::Item;
use super::{frequency, privileges, procfs, target, wire};
use crate::error::Error;
use crate::sample::{Counters, Event, Locations, Sampler};
use crate::sys;

/// The kernel side does not wake the reader for each sample: it looks by itself this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// More than the ring holds. A reader that is slower than its targets must not drain for ever: whoever
/// polls wants to look at the time.
const MAX_EVENTS_PER_POLL: usize = 1 << 16;

/// More often than this the ring is not drained for one look at it: it does not hold more.
const MAX_DRAINS: usize = 16;

/// Positions in the map `counters`, as in `bpf/records.h`.
#[derive(Clone, Copy)]
enum Counter {
    LostSamples = 0,
    LostLifeEvents = 1,
    Unreadable = 2,
    Truncated = 3,
    RefusedTargets = 4,
    LostSwitchIns = 5,
}

/// What [`EbpfSampler`] samples.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Samples a second and CPU.
    pub frequency_hz: u64,
    /// Sample the threads of all processes, of the kernel too, but not of this one. Each process that is not
    /// followed is told once, by [`Event::Appeared`]; its samples come without contexts until it is followed.
    pub everything: bool,
    /// Also tell how long the threads of followed processes were off the CPU, and why.
    ///
    /// Every switch of these threads costs about as much as a sample. A wait counts from the moment when the
    /// thread was switched out: one that had begun before sampling did is not told. Time in which a task of an
    /// async runtime waits belongs to no thread, and shows only as the idleness of the runtime's threads.
    pub off_cpu: bool,
    /// Also read the stack in the kernel of a thread that is in the kernel.
    pub kernel_stacks: bool,
}

impl Options {
    /// Samples processes that are followed, while they run: user stacks only.
    pub fn new(frequency_hz: u64) -> Self {
        Self {
            frequency_hz,
            everything: false,
            off_cpu: false,
            kernel_stacks: false,
        }
    }

    /// Whether to sample all processes.
    #[must_use]
    pub fn everything(mut self, everything: bool) -> Self {
        self.everything = everything;
        self
    }

    /// Whether to tell how long threads were off the CPU.
    #[must_use]
    pub fn off_cpu(mut self, off_cpu: bool) -> Self {
        self.off_cpu = off_cpu;
        self
    }

    /// Whether to read stacks in the kernel.
    #[must_use]
    pub fn kernel_stacks(mut self, kernel_stacks: bool) -> Self {
        self.kernel_stacks = kernel_stacks;
        self
    }
}

/// Samples the CPUs' clocks in the kernel. Needs CAP_BPF and CAP_PERFMON, and Linux 5.10 or later.
///
/// Children of a followed process are followed from their first instruction on: the table of processes
/// is kept by the kernel side. Sampling ends when the value is dropped.
pub struct EbpfSampler {
    // The programs and their attachments, which end with it.
    _attached: Vec<OwnedFd>,
    targets: HashMap<MapData, u32, target::Value>,
    copied: HashMap<MapData, u32, u32>,
    told: HashMap<MapData, u32, u32>,
    counters: PerCpuArray<MapData, u64>,
    ring: RingBuf<MapData>,
    waits: Waits,
    /// How many switch-ins had been lost at the last look.
    lost_switch_ins: u64,
    malformed: u64,
    options: Options,
    period_ns: u64,
}

impl std::fmt::Debug for EbpfSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfSampler")
            .field("options", &self.options)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl EbpfSampler {
    /// Loads the programs and starts the clocks. Without [`Options::everything`] nothing is sampled before
    /// [`Sampler::follow`].
    ///
    /// # Errors
    /// [`Error::Frequency`] for 0 or more than `kernel.perf_event_max_sample_rate`;
    /// [`Error::Permission`] with the missing capabilities; [`Error::Unsupported`] where the kernel is
    /// older than 5.10 or has no BTF; [`Error::Bpf`] for what else the kernel refuses.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let period_ns = frequency::period_ns(
            options.frequency_hz,
            frequency::kernel_limit(),
            ", or raise kernel.perf_event_max_sample_rate with sysctl",
        )?;
        privileges::check()?;
        check_kernel()?;

        let mut object = fit(options)?;
        let targets = hash_map(&mut object, "targets")?;
        let copied = hash_map(&mut object, "copied")?;
        let told = hash_map(&mut object, "told")?;
        let counters = object.take_map("counters")?;
        let counters =
            PerCpuArray::try_from(counters).map_err(|error| bpf("open the counters", error))?;
        let ring = object.take_map("ring")?;
        let ring = RingBuf::try_from(ring).map_err(|error| bpf("map the ring buffer", error))?;
        let attached = attach(&object, options)?;

        Ok(Self {
            _attached: attached,
            targets,
            copied,
            told,
            counters,
            ring,
            waits: Waits::default(),
            lost_switch_ins: 0,
            malformed: 0,
            options: options.clone(),
            period_ns,
        })
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counters
            .get(&(counter as u32), 0)
            .map(|values| values.iter().sum())
            .unwrap_or(0)
    }

    /// A wait of which the end may have been lost must not be settled.
    fn doubt_after_losses(&mut self) {
        let lost = self.count(Counter::LostSwitchIns);
        if lost != self.lost_switch_ins {
            self.lost_switch_ins = lost;
            self.waits.doubt();
        }
    }

    /// Delivers what lies in the ring; whether there was anything.
    fn drain(&mut self, on_event: &mut dyn FnMut(Event)) -> bool {
        let mut any = false;
        for _ in 0..MAX_EVENTS_PER_POLL {
            let Some(item) = self.ring.next() else { break };
            any = true;
            let decoded = wire::decode(&item);
            // Gives the room back before the event is handled.
            drop(item);
            match decoded {
                Some(Item::Event(event)) => {
                    if let Event::Exec { pid } | Event::Exit { pid } = event {
                        self.waits.forget(pid);
                    }
                    on_event(event);
                }
                Some(Item::SwitchOut(sample, sequence)) => self.waits.out(sample, sequence),
                Some(Item::SwitchIn(switch)) => {
                    if let Some(time) = self.waits.back(switch) {
                        on_event(Event::Sample(time));
                    }
                }
                None => self.malformed += 1,
            }
        }
        if any && self.options.off_cpu {
            self.doubt_after_losses();
        }
        any
    }
}

impl Sampler for EbpfSampler {
    fn follow(&mut self, pid: u32, locations: Locations) -> Result<(), Error> {
        procfs::check_alive(pid)?;
        self.targets
            .insert(pid, target::value(locations), 0)
            .map_err(|error| {
                bpf(
                    format!("follow process {pid}: the table of processes is full"),
                    error,
                )
            })?;
        if self.options.everything {
            // Who is in the table need not be told of, and the end is told once.
            let _ = self.told.remove(&pid);
        }
        // An exit before the insertion was not seen by the kernel side: nobody would take the entry away.
        if let Err(error) = procfs::check_alive(pid) {
            // It may have been seen after all.
            let _ = self.targets.remove(&pid);
            return Err(error);
        }
        Ok(())
    }

    fn copy_stacks(&mut self, pid: u32, copy: bool) -> Result<(), Error> {
        let failed = |error| {
            bpf(
                format!("say whether stacks of process {pid} are copied"),
                error,
            )
        };
        let is_followed = |targets: &HashMap<_, _, _>| match targets.get(&pid, 0) {
            Ok(_) => Ok(()),
            Err(MapError::KeyNotFound) => Err(Error::NoSuchProcess { pid }),
            Err(error) => Err(failed(error)),
        };
        is_followed(&self.targets)?;
        if copy {
            self.copied.insert(pid, 1, 0).map_err(failed)?;
            // An exit in between has not taken the entry away.
            return is_followed(&self.targets).inspect_err(|_| {
                let _ = self.copied.remove(&pid);
            });
        }
        match self.copied.remove(&pid) {
            Ok(()) => Ok(()),
            // It was not copied before.
            Err(error)
                if errno(&error).is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn poll(&mut self, timeout: Duration, on_event: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            if self.drain(on_event) {
                return Ok(());
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            sys::wait_readable(self.ring.as_fd(), left.min(LOOK_INTERVAL))
                .map_err(|error| Error::io("wait for the ring buffer", error))?;
        }
    }

    fn settle(&mut self, on_event: &mut dyn FnMut(Event)) -> Result<(), Error> {
        if !self.options.off_cpu {
            return Ok(());
        }
        let now = sys::monotonic_ns();
        // What happened until now has been put into the ring by now, or as good as.
        for _ in 0..MAX_DRAINS {
            if !self.drain(on_event) {
                break;
            }
        }
        self.doubt_after_losses();
        self.waits
            .settle(now, &mut |sample| on_event(Event::Sample(sample)));
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters {
            lost_samples: self.count(Counter::LostSamples) + self.waits.lost + self.malformed,
            lost_events: self.count(Counter::LostLifeEvents),
            unreadable: self.count(Counter::Unreadable),
            truncated: self.count(Counter::Truncated) + self.waits.truncated,
            refused_processes: self.count(Counter::RefusedTargets),
        }
    }

    fn period_ns(&self) -> u64 {
        self.period_ns
    }
}
