//! Both samplers against real processes that publish contexts.
//!
//! The targets are this very test binary, started again: see the module `target`. Tests with eBPF need
//! CAP_BPF and CAP_PERFMON; where a process has them, they have to pass.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::sample::{Event, Label, Libc, Locations, Place, Sample, Sampler};
use ebpf_reader::sampler::{EbpfSampler, PtraceSampler};

const FREQUENCY_HZ: u64 = 199;
const PATIENCE: Duration = Duration::from_secs(60);

const TRACE_ID: [u8; 16] = *b"0123456789abcdef";
const SPAN_ID: [u8; 8] = *b"spanspan";
const ATTRS: [u8; 8] = [0, 3, b'G', b'E', b'T', 1, 1, b'/'];

/// The process that is sampled.
mod target {
    use std::cell::Cell;
    use std::io::{BufRead as _, stdin};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, exit};
    use std::ptr::null;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use otel_profiling::abi::custom_labels::{Label, LabelSet, Str};
    use otel_profiling::abi::thread_context::{RecordHeader, VALID};

    use super::{ATTRS, SPAN_ID, TRACE_ID};

    /// The variable that makes this binary a target, and says of which kind.
    pub(crate) const VARIABLE: &str = "SAMPLER_TEST_TARGET";

    thread_local! {
        static THREAD_CONTEXT: Cell<*const Record> = const { Cell::new(null()) };
        static CUSTOM_LABELS: Cell<*const LabelSet> = const { Cell::new(null()) };
    }

    #[repr(C)]
    struct Record {
        header: RecordHeader,
        attrs: [u8; ATTRS.len()],
    }

    const RECORD: Record = Record {
        header: RecordHeader {
            trace_id: TRACE_ID,
            span_id: SPAN_ID,
            valid: VALID,
            trace_flags: 1,
            attrs_data_size: ATTRS.len() as u16,
        },
        attrs: ATTRS,
    };

    /// Offsets of the two pointers from the thread pointer.
    pub(crate) fn locations() -> (i64, i64) {
        let thread_pointer: u64;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the psABI puts the thread pointer's own value at fs:0; only reads.
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, readonly));
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: reads a register that every thread may read.
        unsafe {
            std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread_pointer, options(nostack, nomem));
        }
        let offset = |address: u64| address.wrapping_sub(thread_pointer).cast_signed();
        (
            THREAD_CONTEXT.with(|cell| offset(cell as *const _ as u64)),
            CUSTOM_LABELS.with(|cell| offset(cell as *const _ as u64)),
        )
    }

    fn string(text: &'static str) -> Str {
        Str {
            len: text.len(),
            buf: text.as_ptr(),
        }
    }

    fn publish() {
        let skipped = Str {
            len: 9,
            buf: null(),
        };
        let labels = Vec::leak(vec![
            Label {
                key: string("otel_traceid"),
                value: string("30313233"),
            },
            Label {
                key: skipped,
                value: string("skipped"),
            },
            Label {
                key: string("empty"),
                value: string(""),
            },
        ]);
        let set: &'static LabelSet = Box::leak(Box::new(LabelSet {
            storage: labels.as_ptr(),
            count: labels.len(),
            capacity: labels.len(),
        }));
        THREAD_CONTEXT.set(Box::leak(Box::new(RECORD)));
        CUSTOM_LABELS.set(set);
    }

    fn spin() -> ! {
        loop {
            std::hint::black_box(());
        }
    }

    /// Uses CPU time: on a busy machine that takes longer than the time itself.
    fn spin_for(time: Duration) {
        let cpu_time = || {
            let mut used = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: `used` is a valid timespec that the kernel may write to during the call.
            unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut used) };
            Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
        };
        let start = cpu_time();
        while cpu_time() - start < time {}
    }

    fn ready() {
        let (thread_context, custom_labels) = locations();
        println!("\nready {thread_context} {custom_labels}");
    }

    fn thread(name: &str, run: impl FnOnce() + Send + 'static) {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .expect("a thread");
    }

    /// Runs on until standard input ends.
    fn wait_for_end() -> ! {
        for line in stdin().lock().lines() {
            if line.is_err() {
                break;
            }
        }
        exit(0);
    }

    fn wait_for_line() {
        let mut line = String::new();
        stdin()
            .lock()
            .read_line(&mut line)
            .expect("a line on standard input");
    }

    static SIGNALLED: AtomicBool = AtomicBool::new(false);

    extern "C" fn on_signal(_signal: i32) {
        SIGNALLED.store(true, Ordering::Relaxed);
    }

    pub(crate) fn run(kind: &str) -> ! {
        match kind {
            "busy" => {
                thread("with", || {
                    publish();
                    spin()
                });
                thread("without", || spin());
            }
            "wild" => {
                thread("odd", || {
                    THREAD_CONTEXT.set(std::ptr::without_provenance(0x1001));
                    spin()
                });
                thread("unmapped", || {
                    THREAD_CONTEXT.set(std::ptr::without_provenance(0x10));
                    spin()
                });
                thread("labels", || {
                    CUSTOM_LABELS.set(std::ptr::without_provenance(0xffff_8000_0000_0000));
                    spin()
                });
            }
            "fork" => {
                ready();
                wait_for_line();
                // On the heap: a child does not get its parent's mappings of file pages until it touches
                // them, and what is not mapped cannot be read at a sample.
                let record: &Record = Box::leak(Box::new(RECORD));
                // SAFETY: the child only spins, stores to its thread-locals and ends by _exit.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    THREAD_CONTEXT.set(record);
                    spin_for(Duration::from_millis(600));
                    // SAFETY: ends the process, nothing else.
                    unsafe { libc::_exit(0) };
                }
                let mut status = 0;
                // SAFETY: `status` is a valid int that the kernel may write to during the call.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                println!("\nchild {child} {status}");
                wait_for_end();
            }
            "exec" => {
                ready();
                thread("before", || {
                    publish();
                    spin()
                });
                wait_for_line();
                let program = std::env::current_exe().expect("own path");
                let mut command = Command::new(program);
                command
                    .args(std::env::args_os().skip(1))
                    .env(VARIABLE, "busy");
                panic!("exec failed: {}", command.exec());
            }
            "signals" => {
                let handler: extern "C" fn(i32) = on_signal;
                // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
                unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
                thread("spinning", || spin());
                ready();
                let mut caught = 0;
                while caught < 20 {
                    // Sleeps are not cut short by the sampler, only by signals that were sent.
                    thread::sleep(Duration::from_millis(5));
                    if SIGNALLED.swap(false, Ordering::Relaxed) {
                        caught += 1;
                        println!("\ncaught {caught}");
                    }
                }
                // Many short threads while being traced.
                for _ in 0..50 {
                    thread::spawn(|| spin_for(Duration::from_millis(1)))
                        .join()
                        .expect("a thread");
                }
                println!("\ndone");
            }
            other => panic!("no such target: {other}"),
        }
        ready();
        wait_for_end();
    }
}

/// Also the way into a target: the tests start this binary with this test's name.
#[test]
fn target_finds_the_same_locations_in_every_thread() {
    if let Ok(kind) = std::env::var(target::VARIABLE) {
        target::run(&kind);
    }
    let here = target::locations();
    let there = std::thread::spawn(target::locations)
        .join()
        .expect("a thread");
    assert_eq!(here, there);
}

/// A running target.
struct Target {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    locations: Locations,
}

impl Target {
    fn start(kind: &str) -> Self {
        let program = std::env::current_exe().expect("own path");
        let mut child = Command::new(program)
            .args([
                "--exact",
                "target_finds_the_same_locations_in_every_thread",
                "--nocapture",
            ])
            .env(target::VARIABLE, kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the target starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut target = Self {
            child,
            input,
            output,
            locations: Locations::default(),
        };
        target.await_ready();
        target
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The words after the first one of the next line that starts with it.
    fn await_line(&mut self, start: &str) -> Vec<i64> {
        loop {
            let line = self
                .output
                .next()
                .expect("the target lives")
                .expect("a line");
            if let Some(rest) = line.strip_prefix(start) {
                return rest
                    .split_whitespace()
                    .map(|word| word.parse().expect("a number"))
                    .collect();
            }
        }
    }

    fn await_ready(&mut self) {
        let offsets = self.await_line("ready");
        self.locations = Locations {
            libc: Libc::Glibc,
            thread_context: Place::Static { offset: offsets[0] }.into(),
            custom_labels: Place::Static { offset: offsets[1] }.into(),
        };
    }

    fn send_line(&mut self) {
        let input = self.input.as_mut().expect("not ended yet");
        input.write_all(b"go\n").expect("the target lives");
    }

    /// Tells the target to end.
    fn end(&mut self) {
        self.input = None;
    }

    /// Ends the target, which must not have come to harm. The sampler has to be gone by now: a parent
    /// that waits for a child that its own process traces takes the child's stops for its exit.
    fn finish(mut self) {
        self.end();
        let status = self.child.wait().expect("the target ends");
        assert!(status.success(), "the target came to harm: {status}");
    }

    fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the target lives");
        tasks
            .map(|task| {
                let account = task.expect("a thread").path().join("schedstat");
                let account = fs::read_to_string(account).expect("the target's threads live");
                account
                    .split(' ')
                    .next()
                    .and_then(|ns| ns.parse::<u64>().ok())
                    .expect("a number")
            })
            .sum()
    }
}

/// Polls until `enough` says so.
fn collect(sampler: &mut dyn Sampler, mut enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    let start = Instant::now();
    while !enough(&events) {
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain; last: {:?}",
            events.last()
        );
        sampler
            .poll(Duration::from_millis(50), &mut |event| events.push(event))
            .expect("sampling works");
    }
    events
}

fn collect_for(sampler: &mut dyn Sampler, time: Duration) -> Vec<Event> {
    let start = Instant::now();
    collect(sampler, |_| start.elapsed() >= time)
}

fn samples(events: &[Event]) -> impl Iterator<Item = &Sample> {
    events.iter().filter_map(|event| match event {
        Event::Sample(sample) => Some(sample),
        _ => None,
    })
}

fn count(events: &[Event], thread: &str) -> usize {
    samples(events)
        .filter(|sample| sample.thread_name == thread)
        .count()
}

/// The sampler under test, or `None`, with a message, where it cannot work for want of privileges.
fn ebpf() -> Option<EbpfSampler> {
    let status = fs::read_to_string("/proc/self/status").expect("own status");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("a set");
    let effective = u64::from_str_radix(effective.trim(), 16).expect("a number");
    let has = |capability: u32| effective & (1 << capability) != 0;
    let ids = fs::read_to_string("/proc/self/uid_map").expect("own id map");
    let initial_user_namespace = ids.split_whitespace().eq(["0", "0", "4294967295"]);
    if initial_user_namespace && (has(21) || (has(38) && has(39))) {
        Some(EbpfSampler::new(FREQUENCY_HZ).expect("the privileges are there"))
    } else {
        println!("skipped: needs CAP_BPF and CAP_PERFMON");
        None
    }
}

fn ptrace() -> PtraceSampler {
    PtraceSampler::new(FREQUENCY_HZ).expect("needs nothing")
}

fn reads_contexts_and_labels(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let events = collect(sampler, |events| {
        count(events, "with") >= 50 && count(events, "without") >= 50
    });
    let labels = [("otel_traceid", "30313233"), ("empty", "")].map(|(key, value)| Label {
        key: key.into(),
        value: value.into(),
    });
    for sample in samples(&events) {
        assert_eq!(sample.pid, target.pid());
        assert!(!sample.unreadable, "{sample:?}");
        assert!(
            !sample.user_stack.is_empty() && sample.user_stack[0] != 0,
            "{sample:?}"
        );
        if sample.thread_name == "with" {
            let context = sample.thread_context.as_ref().expect("a context");
            assert_eq!((context.trace_id, context.span_id), (TRACE_ID, SPAN_ID));
            assert_eq!(
                (context.trace_flags, &context.attrs_data[..]),
                (1, &ATTRS[..])
            );
            assert_eq!(sample.custom_labels, labels);
        } else {
            assert_eq!(sample.thread_context, None, "{sample:?}");
            assert!(sample.custom_labels.is_empty(), "{sample:?}");
        }
    }
    // Threads keep apart, and each is a thread of the target in this pid namespace.
    let mut threads: HashMap<&str, u32> = HashMap::new();
    for sample in samples(&events) {
        let known = *threads.entry(&sample.thread_name).or_insert(sample.tid);
        assert_eq!(known, sample.tid);
        assert!(fs::exists(format!("/proc/{}/task/{known}", target.pid())).expect("procfs"));
    }
    assert!(threads.len() >= 2);
    assert_eq!(sampler.counters().lost_samples, 0);
}

#[test]
fn ebpf_reads_contexts_and_labels() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("busy");
    reads_contexts_and_labels(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_reads_contexts_and_labels() {
    let target = Target::start("busy");
    let mut sampler = ptrace();
    reads_contexts_and_labels(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

fn accounts_cpu_time(sampler: &mut dyn Sampler, target: &Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let before = target.cpu_ns();
    let events = collect_for(sampler, Duration::from_secs(2));
    let used = (target.cpu_ns() - before) as f64;
    let sampled = samples(&events).count() as f64 * sampler.period_ns() as f64;
    assert!(
        (sampled / used - 1.0).abs() < 0.15,
        "sampled {sampled} ns, used {used} ns"
    );
}

#[test]
fn ebpf_accounts_cpu_time() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("busy");
    accounts_cpu_time(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_accounts_cpu_time() {
    let target = Target::start("busy");
    let mut sampler = ptrace();
    accounts_cpu_time(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

fn flags_wild_pointers(sampler: &mut dyn Sampler, target: &Target) {
    let names = ["odd", "unmapped", "labels"];
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let events = collect(sampler, |events| {
        names.iter().all(|name| count(events, name) >= 10)
    });
    for sample in samples(&events) {
        assert_eq!(
            sample.unreadable,
            names.contains(&&*sample.thread_name),
            "{sample:?}"
        );
        assert_eq!(sample.thread_context, None);
        assert!(sample.custom_labels.is_empty());
    }
}

#[test]
fn ebpf_flags_wild_pointers() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("wild");
    flags_wild_pointers(&mut sampler, &target);
    assert!(sampler.counters().unreadable >= 30);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_flags_wild_pointers() {
    let target = Target::start("wild");
    let mut sampler = ptrace();
    flags_wild_pointers(&mut sampler, &target);
    assert!(sampler.counters().unreadable >= 30);
    drop(sampler);
    target.finish();
}

fn follows_children(sampler: &mut dyn Sampler, target: &mut Target) {
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    target.send_line();
    let is_exit_of_child =
        |event: &Event| matches!(event, Event::Exit { pid } if *pid != target.child.id());
    let events = collect(sampler, |events| events.iter().any(is_exit_of_child));
    let told = target.await_line("child");
    assert_eq!(told[1], 0, "the child came to harm");
    let child = u32::try_from(told[0]).expect("a pid");

    let parent = target.pid();
    assert_eq!(
        events
            .iter()
            .filter(|&event| *event == Event::Fork { parent, child })
            .count(),
        1
    );
    assert_eq!(
        events
            .iter()
            .filter(|&event| *event == Event::Exit { pid: child })
            .count(),
        1
    );
    let of_child: Vec<_> = samples(&events)
        .filter(|sample| sample.pid == child)
        .collect();
    assert!(
        of_child.len() >= 30,
        "{} samples of the child",
        of_child.len()
    );
    let with_context = of_child.iter().filter(|sample| {
        sample
            .thread_context
            .as_ref()
            .is_some_and(|context| context.trace_id == TRACE_ID)
    });
    // The first instructions of the child publish nothing yet, the last ones have no memory any more.
    assert!(with_context.count() + 2 >= of_child.len());
}

#[test]
fn ebpf_follows_children() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("fork");
    follows_children(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_follows_children() {
    let mut target = Target::start("fork");
    let mut sampler = ptrace();
    follows_children(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

fn forgets_locations_at_exec(sampler: &mut dyn Sampler, target: &mut Target) {
    let pid = target.pid();
    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed");
    let events = collect(sampler, |events| count(events, "before") >= 10);
    assert!(samples(&events).any(|sample| sample.thread_context.is_some()));

    target.send_line();
    let events = collect(sampler, |events| count(events, "with") >= 20);
    let exec = events
        .iter()
        .position(|event| *event == Event::Exec { pid })
        .expect("an exec event");
    // The new program has the same thread-locals at the same offsets: only forgetting hides them.
    for sample in samples(&events[exec..]) {
        assert_eq!(
            (sample.pid, &sample.thread_context),
            (pid, &None),
            "{sample:?}"
        );
    }

    target.await_ready();
    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed again");
    collect(sampler, |events| {
        samples(events)
            .filter(|sample| sample.thread_context.is_some())
            .count()
            >= 20
    });
}

#[test]
fn ebpf_forgets_locations_at_exec() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("exec");
    forgets_locations_at_exec(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_forgets_locations_at_exec() {
    let mut target = Target::start("exec");
    let mut sampler = ptrace();
    forgets_locations_at_exec(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

fn reports_the_exit(sampler: &mut dyn Sampler, target: &mut Target) {
    let pid = target.pid();
    sampler
        .follow(pid, target.locations)
        .expect("the target can be followed");
    collect(sampler, |events| count(events, "with") >= 5);
    target.end();
    let events = collect(sampler, |events| events.contains(&Event::Exit { pid }));
    assert_eq!(
        events.last(),
        Some(&Event::Exit { pid }),
        "nothing comes after the exit"
    );
    assert!(
        matches!(sampler.follow(pid, target.locations), Err(Error::NoSuchProcess { pid: p }) if p == pid)
    );
}

#[test]
fn ebpf_reports_the_exit() {
    let Some(mut sampler) = ebpf() else { return };
    let mut target = Target::start("busy");
    reports_the_exit(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_reports_the_exit() {
    let mut target = Target::start("busy");
    let mut sampler = ptrace();
    reports_the_exit(&mut sampler, &mut target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_passes_signals_on_and_lets_threads_come_and_go() {
    let mut target = Target::start("signals");
    let mut sampler = ptrace();
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let send = |signal: i32, pid: u32| {
        // SAFETY: sends a signal to a child of this test, which is not reaped before the test's end.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    };
    for number in 1..=20 {
        send(libc::SIGUSR1, target.pid());
        assert_eq!(target.await_line("caught"), [number]);
        // Job control in between: stopped for a while, then on.
        if number == 10 {
            send(libc::SIGSTOP, target.pid());
            std::thread::sleep(Duration::from_millis(100));
            let before = target.cpu_ns();
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(target.cpu_ns(), before, "a stopped target runs");
            send(libc::SIGCONT, target.pid());
        }
    }
    target.await_line("done");
    let events = collect_for(&mut sampler, Duration::from_millis(100));
    assert!(count(&events, "spinning") >= 10);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_of_a_traced_process_is_refused_with_the_reason() {
    let target = Target::start("busy");
    let mut first = ptrace();
    first
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let refused = ptrace()
        .follow(target.pid(), target.locations)
        .expect_err("traced already");
    assert!(
        refused.to_string().contains("traces it already"),
        "{refused}"
    );
    // The first one is not disturbed.
    collect(&mut first, |events| count(events, "with") >= 5);
    drop(first);
    target.finish();
}

/// Runs another test of this file as the first process of a new pid namespace.
#[test]
fn ebpf_works_in_a_pid_namespace() {
    if ebpf().is_none() {
        return;
    }
    let unshare = ["--pid", "--fork", "--mount-proc"];
    let possible = Command::new("unshare").args(unshare).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: needs unshare(1) and CAP_SYS_ADMIN to make a pid namespace");
        return;
    }
    for test in [
        "ebpf_reads_contexts_and_labels",
        "ebpf_follows_children",
        "ebpf_forgets_locations_at_exec",
    ] {
        let output = Command::new("unshare")
            .args(unshare)
            .arg(std::env::current_exe().expect("own path"))
            .args(["--exact", test, "--nocapture"])
            .output()
            .expect("unshare runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            text.contains("1 passed") && !text.contains("skipped:"),
            "{text}"
        );
    }
}

#[test]
fn impossible_requests_are_refused() {
    let mut sampler = ptrace();
    let refused = sampler.follow(u32::MAX, Locations::default());
    assert!(matches!(
        refused,
        Err(Error::NoSuchProcess { pid: u32::MAX })
    ));
    assert!(matches!(
        PtraceSampler::new(0),
        Err(Error::Frequency {
            frequency_hz: 0,
            ..
        })
    ));
    // Checked before privileges, so that it shows everywhere.
    for frequency in [0, 1 << 40] {
        let refused = EbpfSampler::new(frequency).expect_err("not a frequency");
        assert!(
            matches!(refused, Error::Frequency { frequency_hz, .. } if frequency_hz == frequency),
            "{refused}"
        );
    }
    let Some(mut sampler) = ebpf() else { return };
    let refused = sampler.follow(u32::MAX, Locations::default());
    assert!(matches!(
        refused,
        Err(Error::NoSuchProcess { pid: u32::MAX })
    ));
}
