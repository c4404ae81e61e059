//! Stacks of ordinary release binaries: small programs in C and Rust, with and without frame pointers, recorded
//! in every way.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use ebpf_reader::Error;
use ebpf_reader::profile::{Aggregator, Location, Profile, Settings};
use ebpf_reader::record::{self, Backend, Options};
use ebpf_reader::sample::{Event, Locations, Sample, Sampler as _};
use ebpf_reader::sampler::PtraceSampler;
use ebpf_reader::unwind::Unwinding;
use rustix::time::{ClockId, clock_gettime};

/// Whether frame pointers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramePointers {
    Kept,
    Omitted,
}

/// Builds a program of this folder; `None` if there is no compiler for it.
fn build(folder: &Path, source: &str, pointers: FramePointers) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/unwind")
        .join(source);
    let program = folder.join(format!("{}_{pointers:?}", source.replace('.', "_")));
    let mut command = if source.ends_with(".c") {
        let mut command = Command::new("cc");
        command.args(["-O2", "-pthread"]).arg(match pointers {
            FramePointers::Kept => "-fno-omit-frame-pointer",
            FramePointers::Omitted => "-fomit-frame-pointer",
        });
        command
    } else {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["-O", "--edition=2021"]).arg(match pointers {
            FramePointers::Kept => "-Cforce-frame-pointers=yes",
            FramePointers::Omitted => "-Cforce-frame-pointers=no",
        });
        command
    };
    match command.arg(&path).arg("-o").arg(&program).status() {
        Ok(status) => {
            assert!(status.success(), "{source} does not compile");
            Some(program)
        }
        Err(error) => {
            eprintln!("skipped: needs a compiler for {source}: {error}");
            None
        }
    }
}

fn record(program: &Path, backend: Backend, unwinding: Unwinding) -> Option<Profile> {
    record_command([program.as_os_str(), "0.8".as_ref()], backend, unwinding)
}

fn record_command<const N: usize>(
    command: [&OsStr; N],
    backend: Backend,
    unwinding: Unwinding,
) -> Option<Profile> {
    let options = Options::new()
        .command(command)
        .frequency_hz(499)
        .backend(backend)
        .unwinding(unwinding);
    match record::run(&options, &AtomicBool::new(false), &mut |_| {}) {
        Ok(recording) => Some(recording.profile),
        Err(Error::Permission { needs, .. }) => {
            eprintln!("skipped: needs {needs}");
            None
        }
        Err(error) => panic!("{}", error.one_line()),
    }
}

/// What is seen of the stacks of samples taken inside the program's work.
#[derive(Debug, Default)]
struct Stacks {
    samples: u64,
    /// They show the outermost function of the program's own that does the work.
    show_work: u64,
    /// They end where threads start: in the C library, or at the program's first instruction.
    whole: u64,
    /// What is there instead, for the message of a failure.
    cut: BTreeMap<String, u64>,
}

impl Stacks {
    fn of(profile: &Profile) -> Self {
        let mut stacks = Self::default();
        for row in &profile.rows {
            let stack: Vec<&Location> = profile.stacks[row.stack]
                .iter()
                .map(|&location| &profile.locations[location])
                .collect();
            let names: Vec<String> = stack
                .iter()
                .flat_map(|place| profile.names(place))
                .collect();
            // Before and after the work other things run: the linker, the start of the thread.
            if !names.iter().any(|name| name.ends_with("spin")) {
                continue;
            }
            let outermost = names.last().unwrap();
            let library = stack
                .last()
                .and_then(|place| place.mapping)
                .is_some_and(|mapping| profile.mappings[mapping].name.contains("libc.so"));
            let whole = library || outermost == "_start";
            stacks.samples += row.samples;
            stacks.whole += if whole { row.samples } else { 0 };
            if names.iter().any(|name| name.ends_with("outermost_work")) {
                stacks.show_work += row.samples;
            }
            if !whole {
                *stacks.cut.entry(names.join(" < ")).or_default() += row.samples;
            }
        }
        stacks
    }

    fn assert_whole(&self, what: &str) {
        eprintln!(
            "{what}: {} of {} stacks are whole",
            self.whole, self.samples
        );
        // 400 where there is room; who stops threads from outside gets fewer turns on a busy machine.
        assert!(self.samples > 50, "{what}: {self:#?}");
        assert!(self.whole * 10 >= self.samples * 9, "{what}: {self:#?}");
        assert!(self.show_work * 10 >= self.samples * 9, "{what}: {self:#?}");
    }
}

const BACKENDS: [Backend; 2] = [Backend::Ptrace, Backend::Ebpf];

#[test]
fn programs_without_frame_pointers_have_whole_stacks() {
    let folder = tempfile::tempdir().unwrap();
    for source in ["chain.c", "chain.rs"] {
        let Some(program) = build(folder.path(), source, FramePointers::Omitted) else {
            continue;
        };
        for backend in BACKENDS {
            if let Some(profile) = record(&program, backend, Unwinding::Auto) {
                Stacks::of(&profile).assert_whole(&format!("{source}, {backend:?}"));
            }
        }
    }
}

#[test]
fn programs_with_frame_pointers_have_whole_stacks() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = build(folder.path(), "chain.c", FramePointers::Kept) else {
        return;
    };
    for backend in BACKENDS {
        for unwinding in [Unwinding::Auto, Unwinding::Dwarf] {
            if let Some(profile) = record(&program, backend, unwinding) {
                let what = format!("{backend:?}, {unwinding:?}");
                Stacks::of(&profile).assert_whole(&what);
            }
        }
    }
}

/// What was found out with a program's first process holds for the next, whatever its parent's stacks ask for.
#[test]
fn programs_that_run_again_have_whole_stacks() {
    const AGAIN: &str = r#"for run in 1 2 3 4; do "$0" 0.3; done"#;
    let folder = tempfile::tempdir().unwrap();
    for pointers in [FramePointers::Kept, FramePointers::Omitted] {
        let Some(program) = build(folder.path(), "chain.c", pointers) else {
            return;
        };
        for backend in BACKENDS {
            let command = [
                "sh".as_ref(),
                "-c".as_ref(),
                AGAIN.as_ref(),
                program.as_os_str(),
            ];
            if let Some(profile) = record_command(command, backend, Unwinding::Auto) {
                let what = format!("{pointers:?}, {backend:?}");
                Stacks::of(&profile).assert_whole(&what);
                let rows = profile.rows.iter();
                let empty = rows.filter(|row| profile.stacks[row.stack].is_empty());
                let empty: u64 = empty.map(|row| row.samples).sum();
                let samples: u64 = profile.rows.iter().map(|row| row.samples).sum();
                assert!(
                    empty * 20 <= samples,
                    "{what}: {empty} of {samples} have no stack"
                );
            }
        }
    }
}

/// What the other tests would find if nothing was unwound.
#[test]
fn without_unwinding_the_stacks_are_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = build(folder.path(), "chain.c", FramePointers::Omitted) else {
        return;
    };
    if let Some(profile) = record(&program, Backend::Ptrace, Unwinding::FramePointers) {
        let stacks = Stacks::of(&profile);
        assert!(stacks.show_work * 2 < stacks.samples, "{stacks:#?}");
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A program that is sampled, by stopping it.
struct Sampled {
    program: Running,
    sampler: PtraceSampler,
    aggregator: Aggregator,
}

impl Sampled {
    fn start(program: &Path, unwinding: Unwinding) -> Self {
        let program = Running(Command::new(program).arg("300").spawn().unwrap());
        let pid = program.0.id();
        let mut sampler = PtraceSampler::new(499).unwrap();
        let mut aggregator = Aggregator::new(Settings {
            period_ns: sampler.period_ns(),
            trace_label: String::new(),
            span_label: String::new(),
        })
        .unwinding(unwinding);
        sampler.follow(pid, Locations::default()).unwrap();
        aggregator.follow(pid);
        Self {
            program,
            sampler,
            aggregator,
        }
    }

    /// The next samples, which have been counted, too.
    fn samples(&mut self, count: usize) -> Vec<Sample> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut samples = Vec::new();
        while samples.len() < count {
            assert!(Instant::now() < end, "{} samples", samples.len());
            self.aggregator.apply_unwinding(&mut self.sampler).unwrap();
            let aggregator = &mut self.aggregator;
            self.sampler
                .poll(Duration::from_millis(20), &mut |event| {
                    if let Event::Sample(sample) = &event {
                        samples.push(sample.clone());
                    }
                    aggregator.event(event);
                })
                .unwrap();
        }
        samples
    }
}

#[test]
fn stacks_are_copied_only_where_that_shows_more() {
    let folder = tempfile::tempdir().unwrap();
    for pointers in [FramePointers::Kept, FramePointers::Omitted] {
        let Some(program) = build(folder.path(), "chain.c", pointers) else {
            continue;
        };
        let samples = Sampled::start(&program, Unwinding::Auto).samples(400);
        let copied: Vec<bool> = samples
            .iter()
            .map(|sample| sample.stack_copy.is_some())
            .collect();
        assert!(copied.contains(&true), "nothing was tried");
        let expected = pointers == FramePointers::Omitted;
        let last = &copied[copied.len() - 50..];
        assert!(
            last.iter().all(|&copied| copied == expected),
            "{pointers:?}: {last:?}"
        );
    }
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap(),
    )
}

#[test]
fn counting_a_sample_takes_some_millionths_of_a_second() {
    const ROUNDS: u32 = 50;
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = build(folder.path(), "chain.c", FramePointers::Omitted) else {
        return;
    };
    for unwinding in [Unwinding::FramePointers, Unwinding::Dwarf] {
        let mut sampled = Sampled::start(&program, unwinding);
        let samples = sampled.samples(200);
        let mut frames = 0;
        let mut spent = Duration::ZERO;
        for _ in 0..ROUNDS {
            let events: Vec<Event> = samples.iter().cloned().map(Event::Sample).collect();
            let begin = cpu_time();
            for event in events {
                sampled.aggregator.event(event);
            }
            spent += cpu_time() - begin;
        }
        let Sampled {
            program,
            aggregator,
            ..
        } = sampled;
        drop(program);
        let (profile, _) = aggregator.finish(SystemTime::now(), Duration::from_secs(1), 0);
        for row in &profile.rows {
            frames += profile.stacks[row.stack].len() as u64 * row.samples;
        }
        let each = spent / (ROUNDS * u32::try_from(samples.len()).unwrap());
        let depth = frames as f64 / profile.samples as f64;
        eprintln!("{unwinding:?}: {each:?} a sample with {depth:.1} frames");
        // Built without optimization, too.
        assert!(each < Duration::from_micros(500));
    }
}
