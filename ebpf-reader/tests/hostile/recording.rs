//! Starts the writers, records them with the real program, and understands what it has written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::pprof::proto;
use prost::Message as _;
use tempfile::TempDir;

use crate::writer::{EVIL, VARIABLE};
use crate::{files, good};

/// What the kernel allows of mappings; a test raises it while it runs.
const LIMIT: &str = "/proc/sys/vm/max_map_count";

/// How long a recording takes at least, so that everything happens more than once.
const SHORTEST: Duration = Duration::from_secs(3);
/// How long it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// One recording at a time: each wants to know its rate.
static TURN: Mutex<()> = Mutex::new(());

/// What is missing for these tests.
pub(crate) fn missing() -> Option<&'static str> {
    match ebpf_reader::process::locate(std::process::id()) {
        Err(Error::NoSymbols { .. }) => {
            Some("needs a linker that exports the symbols by default, such as rust-lld")
        }
        _ => None,
    }
}

/// A process that is killed with the test.
struct Writer {
    child: Child,
    /// Kept open: a writer must not end because nobody listens.
    output: Option<Lines<BufReader<ChildStdout>>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A limit that gets its value back.
struct Raised(Option<String>);

impl Raised {
    fn new() -> Self {
        let before = fs::read_to_string(LIMIT).ok();
        let enough = before.as_ref().is_some_and(|limit| {
            limit
                .trim()
                .parse::<u64>()
                .is_ok_and(|limit| limit >= 110_000)
        });
        Self(before.filter(|_| !enough && fs::write(LIMIT, "110000").is_ok()))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = fs::write(LIMIT, before);
        }
    }
}

/// The good writer and hostile ones, all of them at work.
pub(crate) struct Writers {
    good: Writer,
    rounds: Arc<Mutex<BTreeMap<u32, Duration>>>,
    hostile: Vec<Writer>,
    folder: TempDir,
    _limit: Raised,
    _turn: std::sync::MutexGuard<'static, ()>,
}

fn start(program: &Path, kind: &str) -> Writer {
    let mut child = Command::new(program)
        .args(["--exact", "writer", "--nocapture"])
        .env(VARIABLE, kind)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    Writer {
        child,
        output: Some(output),
    }
}

/// This program without its debug information, which would take most of the time of a recording to be read.
fn small_program(folder: &Path) -> PathBuf {
    let program = folder.join("writer");
    let own = std::env::current_exe().unwrap();
    let stripped = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&program)
        .arg(&own)
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(own, &program).unwrap();
    }
    program
}

/// A program of its own for a hostile writer, in a folder of its own with a name that no terminal should see.
fn own_program(original: &Path, folder: &Path, kind: &str) -> PathBuf {
    let folder = folder.join(format!("{kind}{EVIL}"));
    fs::create_dir(&folder).unwrap();
    let program = folder.join(format!("evil{EVIL}"));
    fs::copy(original, &program).unwrap();
    let mut head = vec![0; 64 << 10];
    let file = File::options()
        .read(true)
        .write(true)
        .open(&program)
        .unwrap();
    file.read_exact_at(&mut head, 0).unwrap();
    fs::write(folder.join("head"), &head).unwrap();
    if kind == "sparse" {
        files::sections_far(&mut head);
        file.write_all_at(&head[..64], 0).unwrap();
        file.set_len(4 << 30).unwrap();
    }
    program
}

impl Writers {
    pub(crate) fn start(hostile: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let limit = Raised::new();
        let original = small_program(folder.path());
        let hostile = hostile
            .iter()
            .map(|kind| {
                let mut writer = start(&own_program(&original, folder.path(), kind), kind);
                let mut lines = writer.output.iter_mut().flatten().map(|line| line.unwrap());
                let is_ready = lines.any(|line| line == "ready");
                assert!(is_ready, "{kind} did not come to work");
                writer
            })
            .collect();
        let mut good = start(&original, "good");
        let output = good.output.take();
        let rounds = Arc::new(Mutex::new(BTreeMap::new()));
        let told = Arc::clone(&rounds);
        thread::spawn(move || {
            for line in output.into_iter().flatten() {
                let Ok(line) = line else { return };
                let mut words = line.split(' ');
                if words.next() == Some("round") {
                    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
                    let round = u32::try_from(number()).unwrap();
                    let cpu = Duration::from_nanos(number());
                    told.lock().unwrap().insert(round, cpu);
                }
            }
        });
        Self {
            good,
            rounds,
            hostile,
            folder,
            _limit: limit,
            _turn: turn,
        }
    }

    /// Records all of them, until the good one has done `wanted` rounds meanwhile.
    pub(crate) fn record(self, wanted: usize) -> Recorded {
        let path = self.folder.path().join("profile.pb.gz");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"));
        command
            .args(["record", "--freq", "997", "--by", "hostile", "-o"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for writer in self.hostile.iter().chain([&self.good]) {
            command.args(["-p", &writer.child.id().to_string()]);
        }
        let mut child = command.spawn().unwrap();
        // Both are read at once: neither must fill up.
        let mut errors = child.stderr.take().unwrap();
        let messages = thread::spawn(move || {
            let mut messages = String::new();
            errors.read_to_string(&mut messages).map(|_| messages)
        });
        self.await_rounds(&mut child, wanted);
        let mut table = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut table)
            .unwrap();
        let messages = messages.join().unwrap().unwrap();
        let (status, max_resident_kib) = wait(&child);
        let profile = File::open(&path).ok().map(|file| {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(file)
                .read_to_end(&mut bytes)
                .unwrap();
            proto::Profile::decode(&bytes[..]).unwrap()
        });
        // None of them has come to harm.
        let mut writers = self.hostile;
        writers.push(self.good);
        let good = writers.last().map_or(0, |good| good.child.id());
        for writer in &mut writers {
            let ended = writer.child.try_wait().unwrap();
            assert_eq!(ended, None, "a writer has ended; {messages}");
        }
        let rounds = self.rounds.lock().unwrap().clone();
        Recorded {
            status,
            max_resident_kib,
            table,
            messages,
            good,
            rounds,
            profile: profile.unwrap_or_default(),
        }
    }
}

impl Writers {
    /// Waits until the reader samples, and then for that many rounds; tells the reader to stop.
    fn await_rounds(&self, reader: &mut Child, wanted: usize) {
        let begin = Instant::now();
        let rounds = || self.rounds.lock().unwrap().len();
        let mut before = None;
        while before.is_none_or(|before| rounds() < before + wanted) || begin.elapsed() < SHORTEST {
            assert!(
                begin.elapsed() < PATIENCE,
                "{:?} rounds, then {}",
                before,
                rounds()
            );
            if before.is_none() && is_sampling(reader.id()) {
                before = Some(rounds());
            }
            // One that has ended says why, which is looked at later.
            if !ebpf_reader::process::is_alive(reader.id()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let pid = rustix::process::Pid::from_child(reader);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }
}

/// Whether a process has attached programs to the clocks that interrupt the CPUs.
fn is_sampling(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"));
    files.into_iter().flatten().flatten().any(|file| {
        fs::read_link(file.path()).is_ok_and(|link| {
            let link = link.to_string_lossy();
            link.contains("bpf_link") || link.contains("perf_event")
        })
    })
}

/// Waits for the reader; its exit status, and how much memory it had at most, in KiB.
fn wait(child: &Child) -> (ExitStatus, i64) {
    use std::os::unix::process::ExitStatusExt as _;

    let mut status = 0;
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid for the kernel to write to; the child is ours and nobody else waits for it.
    let pid = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    assert_eq!(pid, child.id() as i32);
    (ExitStatus::from_raw(status), usage.ru_maxrss)
}

/// What the reader has written.
pub(crate) struct Recorded {
    pub(crate) status: ExitStatus,
    pub(crate) max_resident_kib: i64,
    pub(crate) table: String,
    pub(crate) messages: String,
    good: u32,
    rounds: BTreeMap<u32, Duration>,
    profile: proto::Profile,
}

/// One round of the good writer: the samples that the reader took, and the CPU time that the writer counted.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) samples: u32,
    pub(crate) cpu: Duration,
}

impl Recorded {
    /// Everything that a person reads.
    pub(crate) fn has_no_control_characters(&self) {
        for text in [&self.table, &self.messages] {
            let evil = text
                .lines()
                .find(|line| line.contains(|c: char| c.is_control() || c == '\u{202e}'));
            assert_eq!(evil, None);
        }
    }

    /// What the table counts: lost samples, too.
    pub(crate) fn last_line(&self) -> &str {
        self.table.lines().last().unwrap_or_default()
    }

    /// Samples that were unreadable, by the table's last line.
    pub(crate) fn unreadable(&self) -> u64 {
        let (before, _) = self.table.rsplit_once(" unreadable").unwrap();
        let (_, number) = before.rsplit_once(' ').unwrap();
        number.parse().unwrap()
    }

    /// The rounds of the good writer that were sampled, in their order. Checks each of its samples.
    pub(crate) fn rounds_of_the_good_one(&self) -> Vec<Round> {
        let string =
            |index: i64| self.profile.string_table[usize::try_from(index).unwrap()].as_str();
        let mut samples: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut all, mut without) = (0, 0);
        for sample in &self.profile.sample {
            // Names as in OpenTelemetry, or with underscores instead.
            let label = |key: &str| {
                let mut labels = sample.label.iter();
                labels.find(|label| string(label.key).replace('.', "_") == key)
            };
            let text = |key: &str| label(key).map(|label| string(label.str));
            let process = label("process_id").or_else(|| label("process_pid"));
            if process.map(|label| label.num) != Some(i64::from(self.good)) {
                let trace = text("trace_id").unwrap_or_default();
                assert!(
                    !trace.starts_with(good::TRACE),
                    "the good one's trace elsewhere"
                );
                continue;
            }
            let count = u32::try_from(sample.value[0]).unwrap();
            all += count;
            let Some(trace) = text("trace_id") else {
                // Between two rounds.
                without += count;
                continue;
            };
            let round = u32::from_str_radix(trace.strip_prefix(good::TRACE).unwrap(), 16).unwrap();
            let (_, span_id) = good::ids(round);
            let span: String = span_id.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text("span_id"), Some(span.as_str()));
            assert_eq!(text("http_route"), Some(good::ROUTE));
            assert_eq!(text("service_name"), Some(good::SERVICE));
            *samples.entry(round).or_default() += count;
        }
        assert!(
            without * 100 <= all,
            "{without} of {all} samples without a context"
        );
        let first = samples.keys().next().copied().unwrap_or(1);
        let last = samples.keys().last().copied().unwrap_or(0);
        (first..=last)
            .map(|round| Round {
                samples: samples.get(&round).copied().unwrap_or(0),
                // The last round may not have ended.
                cpu: self.rounds.get(&round).copied().unwrap_or(Duration::MAX),
            })
            .collect()
    }
}
