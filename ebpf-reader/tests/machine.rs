//! Recording the whole machine, a control group, and times off the CPU: which processes a profile holds.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::profile::Profile;
use ebpf_reader::record::{self, Backend, End, Options, Progress, Recording};
use ebpf_reader::sample::Activity;

/// A recording that has not seen what it waits for in this time has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child that is ended whatever becomes of the test.
struct Running(Child);

impl Running {
    /// A program that does nothing but run.
    fn spinner() -> Self {
        Self::shell("while :; do :; done")
    }

    fn shell(script: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// CPU time of its only thread.
    fn cpu_time(&self) -> Duration {
        let account = fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).unwrap();
        Duration::from_nanos(account.split(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Records for a number of seconds; `None` where eBPF is not allowed.
fn record(options: &Options) -> Option<Recording> {
    let recording = record::run(options, &AtomicBool::new(false), &mut |_| {});
    if let Err(Error::Permission { needs, .. }) = &recording {
        eprintln!("skipped: needs {needs}");
        return None;
    }
    Some(recording.unwrap())
}

/// Processes and their time of one kind, in nanoseconds.
fn time(profile: &Profile, pid: u32, activities: &[Activity]) -> u64 {
    let rows = profile.rows.iter().filter(|row| {
        let process = profile.threads[row.thread].process;
        profile.processes[process].pid == pid && activities.contains(&row.activity)
    });
    rows.map(|row| row.ns).sum()
}

fn pids(profile: &Profile) -> HashSet<u32> {
    profile
        .processes
        .iter()
        .map(|process| process.pid)
        .collect()
}

#[test]
fn the_whole_machine() {
    let mut spinners = vec![(Running::spinner(), None)];
    let options = Options::new()
        .everything(true)
        .frequency_hz(199)
        .symbols(false)
        .duration(PATIENCE);
    let stop = AtomicBool::new(false);
    let recording = record::run(&options, &stop, &mut |progress| {
        if !matches!(progress, Progress::Sampling { .. }) {
            return;
        }
        // The second one starts while the recording runs.
        if spinners.len() < 2 {
            spinners.push((Running::spinner(), None));
        }
        let enough = spinners.iter_mut().all(|(spinner, before)| {
            let used = spinner.cpu_time();
            used > *before.get_or_insert(used) + Duration::from_millis(200)
        });
        stop.store(enough, Ordering::Relaxed);
    });
    if let Err(Error::Permission { needs, .. }) = &recording {
        eprintln!("skipped: needs {needs}");
        return;
    }
    let recording = recording.unwrap();
    assert!(matches!(recording.end, End::Stopped), "{:?}", recording.end);
    let profile = &recording.profile;
    for (spinner, _) in &spinners {
        let pid = spinner.pid();
        assert!(
            time(profile, pid, &[Activity::OnCpu]) > 0,
            "nothing of {pid}"
        );
    }
    assert!(!pids(profile).contains(&std::process::id()));
}

#[test]
fn the_whole_machine_until_a_command_ends() {
    let options = Options::new()
        .everything(true)
        .symbols(false)
        .command(["sleep", "0.3"]);
    let Some(recording) = record(&options) else {
        return;
    };
    assert!(
        matches!(recording.end, End::TargetsExited),
        "{:?}",
        recording.end
    );
    assert!(recording.command_status.unwrap().success());
}

#[test]
fn only_ebpf_sees_the_whole_machine_and_waits() {
    let options = Options::new().backend(Backend::Ptrace);
    for options in [
        options.clone().everything(true),
        options.pid(std::process::id()).off_cpu(true),
    ] {
        let refused = record::run(&options, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
        // A process that is named has to export the symbols first.
        let expected = matches!(refused, Error::Unsupported { .. } | Error::NoSymbols { .. });
        assert!(expected, "{refused}");
    }
}

/// A control group of this test's own, in whichever hierarchy there is; `None` where none may be made.
struct Group(PathBuf);

impl Group {
    fn new(test: &str) -> Option<Self> {
        let name = format!("ebpf-reader-{test}-{}", std::process::id());
        let hierarchies = ["", "unified", "systemd", "freezer"];
        hierarchies.into_iter().find_map(|hierarchy| {
            let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self(path);
            group.0.join("cgroup.procs").exists().then_some(group)
        })
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let start = Instant::now();
        // Not before the kernel has forgotten the processes in it.
        while fs::remove_dir(&self.0).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_control_group() {
    let Some(group) = Group::new("processes") else {
        eprintln!("skipped: needs the right to make a control group under /sys/fs/cgroup");
        return;
    };
    let outside = Running::spinner();
    let first = Running::spinner();
    group.add(first.pid());
    // The second one joins while the recording runs.
    let second = Running::spinner();
    let mut joined = false;
    let mut followed = None;
    let stop = AtomicBool::new(false);
    let options = Options::new()
        .cgroup(group.0.strip_prefix("/sys/fs/cgroup").unwrap())
        .frequency_hz(199)
        .symbols(false)
        .duration(PATIENCE);
    let recording = record::run(&options, &stop, &mut |progress| {
        let Progress::Sampling { processes, .. } = progress else {
            return;
        };
        if !joined {
            group.add(second.pid());
            joined = true;
        }
        let used = [&first, &second].map(Running::cpu_time);
        if processes >= 2 {
            let before = *followed.get_or_insert(used);
            let enough = Duration::from_millis(200);
            if (0..2).all(|index| used[index] > before[index] + enough) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    if let Err(Error::Permission { needs, .. }) = &recording {
        eprintln!("skipped: needs {needs}");
        return;
    }
    let recording = recording.unwrap();
    assert!(matches!(recording.end, End::Stopped), "{:?}", recording.end);
    let expected = HashSet::from([first.pid(), second.pid()]);
    assert_eq!(pids(&recording.profile), expected);
    assert!(!expected.contains(&outside.pid()));
    drop((first, second));
}

#[test]
fn the_end_of_a_control_group_ends_the_recording() {
    let Some(group) = Group::new("end") else {
        eprintln!("skipped: needs the right to make a control group under /sys/fs/cgroup");
        return;
    };
    let process = Running::spinner();
    group.add(process.pid());
    let options = Options::new()
        .cgroup(&group.0)
        .symbols(false)
        .duration(PATIENCE);
    let mut running = Some((process, group));
    let recording = record::run(&options, &AtomicBool::new(false), &mut |progress| {
        if let Progress::Sampling { processes: 1.., .. } = progress {
            drop(running.take());
        }
    });
    if let Err(Error::Permission { needs, .. }) = &recording {
        eprintln!("skipped: needs {needs}");
        return;
    }
    let end = recording.unwrap().end;
    assert!(matches!(end, End::TargetsExited), "{end:?}");
}

#[test]
fn a_group_that_is_not_there() {
    let program = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["record", "--cgroup", "no/such/group"])
        .output()
        .unwrap();
    let message = String::from_utf8(program.stderr).unwrap();
    if message.contains("CAP_BPF") {
        eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
        return;
    }
    assert!(!program.status.success());
    assert!(
        message.contains("no/such/group") && message.lines().count() == 1,
        "{message}"
    );
}

#[test]
fn waits_up_to_the_end_of_the_recording() {
    let Some(group) = Group::new("waits") else {
        eprintln!("skipped: needs the right to make a control group under /sys/fs/cgroup");
        return;
    };
    // It runs until the recording does, then sleeps, and is not back by its end.
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!(
        "while [ ! -e {} ]; do :; done; exec sleep 1000",
        go.display()
    );
    let process = Running::shell(&script);
    group.add(process.pid());
    let options = Options::new()
        .cgroup(&group.0)
        .off_cpu(true)
        .symbols(false)
        .duration(PATIENCE);
    let stop = AtomicBool::new(false);
    let mut asleep = None;
    let recording = record::run(&options, &stop, &mut |progress| {
        if let Progress::Sampling { .. } = progress {
            fs::write(&go, "").unwrap();
            let name = fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap();
            if name == "sleep\n" {
                asleep.get_or_insert_with(Instant::now);
            }
            if asleep.is_some_and(|since| since.elapsed() > Duration::from_secs(1)) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    if let Err(Error::Permission { needs, .. }) = &recording {
        eprintln!("skipped: needs {needs}");
        return;
    }
    let profile = recording.unwrap().profile;
    let blocked = time(&profile, process.pid(), &[Activity::Blocked]);
    assert!(
        blocked > 800_000_000 && u128::from(blocked) < profile.duration.as_nanos(),
        "{blocked} ns"
    );
    drop(process);
}
