use std::process::{Child, Command, Stdio};

use super::asleep::Asleep;
use super::*;

/// A program that does nothing, ended with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    /// A shell that computes all the time.
    fn busy() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until the state is one of these.
    fn wait_for(&self, states: &[char]) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if procfs::stat(self.pid()).is_some_and(|stat| states.contains(&stat.state)) {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn traced(tid: u32) -> bool {
    procfs::status(tid).is_some_and(|status| status.tracer != 0)
}

type Seen = (u32, String, u64, bool);

fn seen(thread: &StillThread<'_>) -> Seen {
    let mut word = [0; 8];
    let readable = thread.memory.read(thread.thread_pointer, &mut word).is_ok();
    (
        thread.tid,
        thread.name.to_owned(),
        thread.thread_pointer,
        readable,
    )
}

#[test]
fn a_sleeping_thread_is_stopped_once_and_then_only_watched() {
    let sleeper = Sleeper::start();
    assert!(sleeper.wait_for(&['S']));
    // The shell has executed sleep: not before the program has set up its thread pointer.
    let mut snapshots = Snapshots::new(sleeper.pid());
    let mut first = Vec::new();
    for _ in 0..3000 {
        first = snapshots.look(Limits::default(), seen).unwrap().threads;
        if first.len() == 1 && first[0].2 != 0 && sleeper.wait_for(&['S']) {
            break;
        }
    }
    let (tid, name, _, readable) = first[0].clone();
    assert_eq!(
        (tid, name.as_str(), readable),
        (sleeper.pid(), "sleep", true)
    );
    assert!(!traced(tid));

    assert!(Asleep::of(tid).is_some(), "this kernel does not tell");
    let watched = snapshots.look(Limits::default(), move |thread| {
        (seen(thread), traced(thread.tid))
    });
    let watched = watched.unwrap();
    assert_eq!(watched.threads, [(first[0].clone(), false)]);
    assert_eq!(watched.missed, Missed::default());
}

#[test]
fn a_running_thread_stands_still_while_it_is_looked_at_and_runs_on() {
    let busy = Sleeper::busy();
    let mut snapshots = Snapshots::new(busy.pid());
    for _ in 0..20 {
        let states = snapshots.look(Limits::default(), |thread| {
            (
                traced(thread.tid),
                procfs::stat(thread.tid).map(|stat| stat.state),
            )
        });
        let states = states.unwrap().threads;
        assert!(
            matches!(states[..], [(true, Some('t'))] | [(false, Some('S'))]),
            "{states:?}"
        );
    }
    assert!(!traced(busy.pid()));
    assert!(busy.wait_for(&['R']));
}

#[test]
fn a_panic_lets_go() {
    let busy = Sleeper::busy();
    assert!(busy.wait_for(&['R']));
    let mut snapshots = Snapshots::new(busy.pid());
    let result = snapshots.look(Limits::default(), |_| panic!("while it stands still"));
    let _: Error = result.map(|_: Snapshot<()>| ()).unwrap_err();
    assert!(busy.wait_for(&['R']));
    assert!(!traced(busy.pid()));
}

#[test]
fn a_stopped_process_stays_stopped() {
    let sleeper = Sleeper::start();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sleeper.pid() as i32).unwrap(),
        rustix::process::Signal::STOP,
    )
    .unwrap();
    assert!(sleeper.wait_for(&['T']));
    let snapshot = Snapshots::new(sleeper.pid()).look(Limits::default(), seen);
    assert_eq!(snapshot.unwrap().threads.len(), 1);
    assert!(sleeper.wait_for(&['T']));
}

#[test]
fn whoever_keeps_the_reader_waiting_is_left_behind() {
    let sleeper = Sleeper::start();
    let mut snapshots = Snapshots::new(sleeper.pid());
    let limits = Limits {
        time: Duration::from_millis(10),
        ..Limits::default()
    };
    // On a busy machine the time can be over before the thread is looked at.
    let begin = Instant::now();
    let (release, error) = loop {
        let (release, held) = mpsc::channel::<()>();
        match snapshots.look(limits, move |_| held.recv()) {
            Ok(snapshot) => assert!(snapshot.threads.is_empty()),
            Err(error) => break (release, error),
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
    };
    assert!(
        error.one_line().contains("does not come to an end"),
        "{error}"
    );
    assert!(snapshots.look(limits, |_| ()).is_err());
    drop(release);
    let deadline = Instant::now() + Duration::from_secs(30);
    while snapshots.look(Limits::default(), |_| ()).is_err() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn limits_and_refusals_are_told() {
    let sleeper = Sleeper::start();
    let limits = Limits {
        threads: 0,
        ..Limits::default()
    };
    let snapshot = Snapshots::new(sleeper.pid()).look(limits, seen).unwrap();
    assert_eq!(
        (snapshot.threads.len(), snapshot.missed.beyond_limit),
        (0, 1)
    );

    let error = Snapshots::new(u32::MAX).look(Limits::default(), seen);
    assert!(matches!(error, Err(Error::NoSuchProcess { .. })));
    let error = Snapshots::new(std::process::id()).look(Limits::default(), seen);
    assert!(matches!(error, Err(Error::Unsupported { .. })), "{error:?}");
}
