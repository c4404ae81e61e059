//! The loop of a recording: passes events on, keeps up with programs that are executed, knows when to stop.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::cgroup::Cgroup;
use super::command::Command;
use super::looks::Looks;
use super::targets::{self, Target};
use super::windows::{Cut, Windows};
use super::{End, Options, Progress, Recording};
use crate::error::Error;
use crate::process;
use crate::profile::{Aggregator, Settings};
use crate::sample::{Counters, Event, Sampler};
use crate::symbolize::Symbolizer;

/// Longest wait for an event: how fast a request to stop is seen. Samples wait in the ring meanwhile; starts and ends
/// of processes do not.
const TICK: Duration = Duration::from_millis(200);
/// Shortest pause between two rounds, where there is something else to do.
const SHORTEST: Duration = Duration::from_millis(50);
/// The same where a program was just executed, which may end soon.
const SHORTEST_AFTER_EXEC: Duration = Duration::from_millis(5);
/// Pause between two looks at which processes are new in the control group.
const ROLL_CALL: Duration = Duration::from_millis(500);
/// Pause between two looks at which processes are still there, in case the event of an exit was lost; longer where there
/// are many.
const CENSUS: Duration = Duration::from_millis(500);
const CENSUS_PER_PROCESS: Duration = Duration::from_millis(5);
/// How often a program that was just executed is looked at before it is given up.
const LOCATE_ATTEMPTS: u32 = 40;

/// Records with any sampler.
pub(super) fn run<'a>(
    options: &Options,
    sampler: Box<dyn Sampler>,
    targets: Vec<Target>,
    windows: Option<&'a mut dyn Windows>,
    stop: &AtomicBool,
    on_progress: &'a mut dyn FnMut(Progress),
) -> Result<Recording, Error> {
    let cgroup = options.cgroup.as_deref().map(Cgroup::find).transpose()?;
    let aggregator = Aggregator::new(Settings {
        period_ns: sampler.period_ns(),
        trace_label: options.trace_label.clone(),
        span_label: options.span_label.clone(),
    })
    .unwinding(options.unwinding);
    let mut session = Session {
        sampler,
        aggregator,
        followed: HashSet::new(),
        to_locate: Vec::new(),
        looks: Looks::default(),
        everything: options.everything,
        cgroup,
        command: None,
        found_symbols: false,
        cut: windows.map(Cut::new),
        on_progress,
    };
    let (started, begin) = (SystemTime::now(), Instant::now());
    for target in targets {
        session.follow_at_start(target, options.pids.contains(&target.pid))?;
    }
    let command = session.start_command(options)?;
    session.follow_cgroup()?;
    if session.is_over() && command.is_none() {
        return Err(Error::NothingToRecord);
    }
    (session.on_progress)(Progress::Started);
    let end = session.sample(begin, options.duration, stop);
    let elapsed = begin.elapsed();

    let counters = session.sampler.counters();
    let Session {
        sampler,
        aggregator,
        found_symbols,
        on_progress,
        ..
    } = session;
    let (mut profile, modules) = aggregator.finish(started, elapsed, counters.lost_samples);
    profile.truncated = counters.truncated;
    warn_of_gaps(&counters, on_progress);
    // Before the command is ended: a tracer has to let go of it first.
    drop(sampler);
    let command_status = command.and_then(Command::end);
    if options.symbols {
        on_progress(Progress::Symbolizing);
        for warning in Symbolizer::new().symbolize(&mut profile, &modules) {
            on_progress(Progress::Warning(warning));
        }
    }
    Ok(Recording {
        profile,
        end,
        found_symbols,
        command_status,
    })
}

/// Tells what is not in the profile's own numbers.
fn warn_of_gaps(counters: &Counters, on_progress: &mut dyn FnMut(Progress)) {
    let gaps = [
        (
            counters.lost_events,
            "starts and ends of processes were lost: children may be missing in the profile",
        ),
        (
            counters.refused_processes,
            "child processes are missing in the profile: too many were followed already",
        ),
    ];
    for (count, what) in gaps.into_iter().filter(|&(count, _)| count > 0) {
        on_progress(Progress::Warning(Error::Incomplete { count, what }));
    }
}

struct Session<'a> {
    sampler: Box<dyn Sampler>,
    aggregator: Aggregator,
    followed: HashSet<u32>,
    /// Processes that executed a program of which the locations are not known yet, and the attempts so far.
    to_locate: Vec<(u32, u32)>,
    /// When followed processes are looked at again.
    looks: Looks,
    /// The whole machine is sampled: its processes need not export anything.
    everything: bool,
    /// Its processes are followed, and need not export anything either.
    cgroup: Option<Cgroup>,
    /// The process that was started to be recorded.
    command: Option<u32>,
    found_symbols: bool,
    /// Where windows go, if the recording is cut into windows.
    cut: Option<Cut<'a>>,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl Session<'_> {
    fn follow(&mut self, target: Target) -> Result<(), Error> {
        self.sampler
            .follow(target.pid, target.locations.unwrap_or_default())?;
        self.looks.restart(target.pid, target.locations);
        self.aggregator.follow(target.pid);
        self.followed.insert(target.pid);
        self.found_symbols |= target.locations.is_some();
        Ok(())
    }

    /// Follows a process that was named, or a descendant, which may have ended meanwhile.
    fn follow_at_start(&mut self, target: Target, named: bool) -> Result<(), Error> {
        match self.follow(target) {
            Err(error) if named => Err(error),
            Err(Error::NoSuchProcess { .. }) | Ok(()) => Ok(()),
            Err(error) => {
                (self.on_progress)(Progress::Warning(error));
                Ok(())
            }
        }
    }

    fn start_command(&mut self, options: &Options) -> Result<Option<Command>, Error> {
        if options.command.is_empty() {
            return Ok(None);
        }
        let command = Command::start(&options.command, options.detached)?;
        let pid = command.pid();
        self.command = Some(pid);
        let target = targets::locate(pid).unwrap_or_else(|error| {
            // One that has ended already has been too short to be sampled.
            if process::is_alive(pid) {
                (self.on_progress)(Progress::Warning(error));
            }
            Target::without_locations(pid)
        });
        self.found_symbols |= target.locations.is_some();
        match self.follow(target) {
            Ok(()) => {}
            Err(_) if !process::is_alive(pid) => {}
            Err(error) => return Err(error),
        }
        // What it started before it was followed.
        for child in process::descendants(pid) {
            let target =
                targets::locate(child).unwrap_or_else(|_| Target::without_locations(child));
            self.follow_at_start(target, false)?;
        }
        Ok(Some(command))
    }

    fn sample(&mut self, begin: Instant, duration: Option<Duration>, stop: &AtomicBool) -> End {
        let mut next_census = begin + CENSUS;
        let mut next_roll_call = begin + ROLL_CALL;
        let mut next_progress = begin;
        let end = loop {
            let elapsed = begin.elapsed();
            let remaining = duration.map(|duration| duration.saturating_sub(elapsed));
            if remaining == Some(Duration::ZERO) {
                break End::Duration;
            }
            if stop.load(Ordering::Relaxed) {
                break End::Stopped;
            }
            if self.is_over() {
                break End::TargetsExited;
            }
            if let Err(error) = self.aggregator.apply_unwinding(&mut *self.sampler) {
                (self.on_progress)(Progress::Warning(error));
            }
            let wait = self.wait();
            if let Err(error) = self.poll(remaining.map_or(wait, |remaining| remaining.min(wait))) {
                return End::Failed(error);
            }
            if let Err(error) = self.keep_up() {
                return End::Failed(error);
            }
            let now = Instant::now();
            if now >= next_census {
                let processes = u32::try_from(self.followed.len()).unwrap_or(u32::MAX);
                next_census = now + CENSUS.max(CENSUS_PER_PROCESS.saturating_mul(processes));
                self.census();
            }
            if now >= next_roll_call {
                next_roll_call = now + ROLL_CALL;
                if let Err(error) = self.follow_cgroup() {
                    return End::Failed(error);
                }
            }
            if let Err(error) = self.cut(false) {
                return End::Failed(error);
            }
            if now >= next_progress {
                next_progress = now + TICK;
                (self.on_progress)(Progress::Sampling {
                    elapsed: begin.elapsed(),
                    samples: self.aggregator.samples(),
                    with_context: self.aggregator.with_context(),
                    processes: self.followed.len(),
                });
            }
        };
        // What was taken before the end and not delivered yet, and waits that go on beyond it.
        let polled = self.poll(Duration::ZERO).and_then(|()| self.cut(true));
        match polled {
            Ok(()) => end,
            Err(error) => End::Failed(error),
        }
    }

    /// Looks at what has changed in the processes. One with very many mappings may hold up each of these: two in a row
    /// would be more than the ring has room for.
    fn keep_up(&mut self) -> Result<(), Error> {
        self.locate_new_programs()?;
        self.look_again();
        self.poll(Duration::ZERO)?;
        self.aggregator.tick(Instant::now());
        self.poll(Duration::ZERO)
    }

    /// How long a round may wait for events.
    fn wait(&self) -> Duration {
        // Whoever takes windows may want one now.
        let longest = if self.cut.is_some() || !self.to_locate.is_empty() {
            SHORTEST
        } else {
            self.looks
                .pause()
                .map_or(TICK, |pause| pause.clamp(SHORTEST, TICK))
        };
        let look = self.aggregator.next_look().map_or(longest, |next| {
            next.saturating_duration_since(Instant::now())
                .max(SHORTEST_AFTER_EXEC)
        });
        longest.min(look)
    }

    /// Ends the window at hand if it is over, or everything is.
    fn cut(&mut self, last: bool) -> Result<(), Error> {
        let due = self
            .cut
            .as_mut()
            .is_some_and(|cut| cut.is_over(Instant::now()));
        if last || due {
            self.settle()?;
        }
        if let Some(cut) = &mut self.cut
            && (last || due)
        {
            cut.end_window(&mut self.aggregator, &self.sampler.counters());
        }
        Ok(())
    }

    /// Whether there is nothing left to record.
    fn is_over(&self) -> bool {
        if self.everything {
            return self.command.is_some_and(|pid| !process::is_alive(pid));
        }
        self.followed.is_empty() && !self.cgroup.as_ref().is_some_and(Cgroup::exists)
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), Error> {
        let mut seen = Seen {
            aggregator: &mut self.aggregator,
            followed: &mut self.followed,
            to_locate: &mut self.to_locate,
        };
        self.sampler.poll(timeout, &mut |event| seen.event(event))
    }

    fn settle(&mut self) -> Result<(), Error> {
        let mut seen = Seen {
            aggregator: &mut self.aggregator,
            followed: &mut self.followed,
            to_locate: &mut self.to_locate,
        };
        self.sampler.settle(&mut |event| seen.event(event))
    }

    /// Follows processes of the control group that are not followed yet.
    fn follow_cgroup(&mut self) -> Result<(), Error> {
        let Some(cgroup) = &self.cgroup else {
            return Ok(());
        };
        for pid in cgroup.processes() {
            if pid != std::process::id() && self.followed.insert(pid) {
                self.to_locate.push((pid, 0));
            }
        }
        self.locate_new_programs()
    }

    /// Finds out where programs that were just executed keep their pointers.
    fn locate_new_programs(&mut self) -> Result<(), Error> {
        for (pid, attempts) in std::mem::take(&mut self.to_locate) {
            if !self.followed.contains(&pid) {
                continue;
            }
            self.looks.restart(pid, None);
            let (target, error) = match targets::locate(pid) {
                Ok(target) => (target, None),
                // Its children may execute something that has the symbols.
                Err(error) if error.is_about_symbols() => (Target::without_locations(pid), None),
                Err(error) => (Target::without_locations(pid), Some(error)),
            };
            match error.map_or_else(|| self.follow(target), Err) {
                Ok(()) => {}
                Err(Error::NoSuchProcess { .. }) => {}
                Err(_) if attempts < LOCATE_ATTEMPTS => self.to_locate.push((pid, attempts + 1)),
                Err(error) => (self.on_progress)(Progress::Warning(error)),
            }
            // Many may have been started at once, with large files that are not in memory yet.
            self.poll(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Follows processes anew that keep pointers elsewhere since they were looked at.
    fn look_again(&mut self) {
        let on_progress = &mut *self.on_progress;
        let mut warn = |error| on_progress(Progress::Warning(error));
        for (pid, locations) in self.looks.news(&self.followed, &mut warn) {
            match self.sampler.follow(pid, locations) {
                Ok(()) => self.found_symbols |= !locations.is_empty(),
                Err(Error::NoSuchProcess { .. }) => {}
                Err(error) => warn(error),
            }
        }
    }

    /// Forgets processes that have ended without an event.
    fn census(&mut self) {
        let ended: Vec<u32> = self
            .followed
            .iter()
            .copied()
            .filter(|&pid| !process::is_alive(pid))
            .collect();
        for pid in ended {
            self.followed.remove(&pid);
            self.aggregator.event(Event::Exit { pid });
        }
    }
}

/// Takes note of what the sampler tells.
struct Seen<'a> {
    aggregator: &'a mut Aggregator,
    followed: &'a mut HashSet<u32>,
    to_locate: &'a mut Vec<(u32, u32)>,
}

impl Seen<'_> {
    fn event(&mut self, event: Event) {
        match event {
            Event::Fork { child, .. } => {
                self.followed.insert(child);
            }
            Event::Exec { pid } | Event::Appeared { pid } => {
                self.followed.insert(pid);
                self.to_locate.push((pid, 0));
            }
            Event::Exit { pid } => {
                self.followed.remove(&pid);
            }
            Event::Sample(_) => {}
        }
        self.aggregator.event(event);
    }
}
