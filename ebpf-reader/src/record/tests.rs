//! Recordings of real processes with a sampler that delivers what the test tells it to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::process::{Child, Command};
use std::rc::Rc;
use std::thread;

use super::targets::Target;
use super::*;
use crate::sample::{Counters, Event, Locations, Place, Sample, ThreadContext};

/// Delivers one batch of events a poll, and notes who was followed.
struct Scripted {
    batches: VecDeque<Result<Vec<Event>, Error>>,
    followed: Rc<RefCell<Vec<(u32, Locations)>>>,
}

impl Sampler for Scripted {
    fn follow(&mut self, pid: u32, locations: Locations) -> Result<(), Error> {
        self.followed.borrow_mut().push((pid, locations));
        Ok(())
    }

    fn poll(&mut self, timeout: Duration, on_event: &mut dyn FnMut(Event)) -> Result<(), Error> {
        match self.batches.pop_front() {
            Some(batch) => batch?.into_iter().for_each(on_event),
            None => thread::sleep(timeout),
        }
        Ok(())
    }

    fn copy_stacks(&mut self, _pid: u32, _copy: bool) -> Result<(), Error> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters {
            lost_samples: 5,
            lost_events: 2,
            truncated: 7,
            ..Counters::default()
        }
    }

    fn period_ns(&self) -> u64 {
        1_000_000
    }
}

fn locations() -> Locations {
    Locations {
        thread_context: Place::Static { offset: -16 }.into(),
        ..Locations::default()
    }
}

fn sleep() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

fn sample(pid: u32) -> Event {
    Event::Sample(Sample {
        pid,
        tid: pid,
        thread_context: Some(ThreadContext {
            trace_id: [1; 16],
            span_id: [2; 8],
            ..ThreadContext::default()
        }),
        ..Sample::default()
    })
}

type Followed = Vec<(u32, Locations)>;

fn record(
    options: &Options,
    pid: Option<u32>,
    batches: impl IntoIterator<Item = Result<Vec<Event>, Error>>,
    stop: bool,
) -> (Recording, Followed) {
    let followed = Rc::new(RefCell::new(Vec::new()));
    let sampler = Scripted {
        batches: batches.into_iter().collect(),
        followed: Rc::clone(&followed),
    };
    let targets = pid.map(|pid| Target {
        pid,
        locations: Some(locations()),
    });
    let targets = targets.into_iter().collect();
    let stop = AtomicBool::new(stop);
    let recording = session::run(
        options,
        Box::new(sampler),
        targets,
        None,
        &stop,
        &mut |_| {},
    )
    .unwrap();
    let followed = followed.borrow().clone();
    (recording, followed)
}

#[test]
fn the_end_of_all_processes_is_a_normal_end() {
    let mut target = sleep();
    let pid = target.id();
    let (recording, followed) = record(
        &Options::new(),
        Some(pid),
        [
            Ok(vec![sample(pid), sample(pid)]),
            Ok(vec![Event::Exit { pid }, sample(pid)]),
        ],
        false,
    );
    target.kill().unwrap();
    target.wait().unwrap();
    assert!(matches!(recording.end, End::TargetsExited));
    assert_eq!(followed, [(pid, locations())]);
    let profile = recording.profile;
    assert_eq!(
        (profile.samples, profile.with_context, profile.lost),
        (3, 3, 5)
    );
    assert_eq!(profile.traces()[0].cpu_ns, 3_000_000);
}

#[test]
fn an_end_whose_event_was_lost_is_seen() {
    let mut target = sleep();
    target.kill().unwrap();
    // Not waited for: it stays as a zombie.
    let (recording, _) = record(&Options::new(), Some(target.id()), [], false);
    assert!(matches!(recording.end, End::TargetsExited));
    target.wait().unwrap();
}

#[test]
fn duration_and_request_to_stop() {
    let mut target = sleep();
    let pid = target.id();
    let options = Options::new().duration(Duration::from_millis(120));
    let (recording, _) = record(&options, Some(pid), [], false);
    assert!(matches!(recording.end, End::Duration));
    assert!(recording.profile.duration >= Duration::from_millis(120));
    let (recording, _) = record(&Options::new(), Some(pid), [Ok(vec![sample(pid)])], true);
    assert!(matches!(recording.end, End::Stopped));
    // What was still to be delivered is counted.
    assert_eq!(recording.profile.samples, 1);
    target.kill().unwrap();
    target.wait().unwrap();
}

#[test]
fn what_was_sampled_before_a_failure_is_kept() {
    let mut target = sleep();
    let pid = target.id();
    let failure = Error::io("read the ring buffer", std::io::ErrorKind::Other.into());
    let (recording, _) = record(
        &Options::new(),
        Some(pid),
        [Ok(vec![sample(pid)]), Err(failure)],
        false,
    );
    target.kill().unwrap();
    target.wait().unwrap();
    assert!(matches!(recording.end, End::Failed(Error::Io { .. })));
    assert_eq!(recording.profile.samples, 1);
}

#[test]
fn an_executed_program_is_located_anew_and_a_child_keeps_the_recording_going() {
    let mut parent = sleep();
    let mut child = sleep();
    let (parent_pid, child_pid) = (parent.id(), child.id());
    let fork = Event::Fork {
        parent: parent_pid,
        child: child_pid,
    };
    let (recording, followed) = record(
        &Options::new(),
        Some(parent_pid),
        [
            Ok(vec![fork, Event::Exec { pid: child_pid }]),
            Ok(vec![Event::Exit { pid: parent_pid }]),
            Ok(vec![sample(child_pid)]),
            Ok(vec![Event::Exit { pid: child_pid }]),
        ],
        false,
    );
    for process in [&mut parent, &mut child] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    // `sleep` has no symbols.
    assert_eq!(
        followed,
        [(parent_pid, locations()), (child_pid, Locations::default())]
    );
    assert!(matches!(recording.end, End::TargetsExited));
    assert_eq!(recording.profile.samples, 1);
    assert!(recording.found_symbols);
}

#[test]
fn a_command_is_started_and_its_status_is_told() {
    let options = Options::new().command(["sh", "-c", "sleep 0.2; exit 3"]);
    let (recording, followed) = record(&options, None, [], false);
    assert!(matches!(recording.end, End::TargetsExited));
    assert_eq!(
        recording.command_status.and_then(|status| status.code()),
        Some(3)
    );
    assert!(!recording.found_symbols);
    assert_eq!(followed[0].1, Locations::default());
}

#[test]
fn a_command_that_goes_on_is_ended() {
    use std::os::unix::process::ExitStatusExt;
    let options = Options::new()
        .command(["sleep", "60"])
        .duration(Duration::from_millis(100));
    let (recording, _) = record(&options, None, [], false);
    assert!(matches!(recording.end, End::Duration));
    assert_eq!(
        recording.command_status.and_then(|status| status.signal()),
        Some(15)
    );
}

#[test]
fn what_is_missing_is_told() {
    let sampler = Scripted {
        batches: VecDeque::new(),
        followed: Rc::default(),
    };
    let mut warnings = Vec::new();
    let mut on_progress = |progress| {
        if let Progress::Warning(warning) = progress {
            warnings.push(warning.one_line());
        }
    };
    let options = Options::new().command(["true"]);
    let stop = AtomicBool::new(false);
    let recording = session::run(
        &options,
        Box::new(sampler),
        Vec::new(),
        None,
        &stop,
        &mut on_progress,
    );
    let profile = recording.unwrap().profile;
    assert_eq!((profile.lost, profile.truncated), (5, 7));
    let expected =
        "2 starts and ends of processes were lost: children may be missing in the profile";
    assert!(
        warnings.iter().any(|warning| warning == expected),
        "{warnings:?}"
    );
}

#[test]
fn what_cannot_be_recorded() {
    let run = |options: &Options| {
        let error = run(options, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
        error.one_line()
    };
    assert!(run(&Options::new()).starts_with("nothing to record"));
    assert_eq!(
        run(&Options::new().pid(u32::MAX)),
        format!("there is no process {}", u32::MAX)
    );
    let mut target = sleep();
    let error = run(&Options::new().pid(target.id()));
    target.kill().unwrap();
    target.wait().unwrap();
    assert!(
        error.contains("(sleep) does not export otel_thread_ctx_v1"),
        "{error}"
    );
}
