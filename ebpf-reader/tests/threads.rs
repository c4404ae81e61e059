//! `ebpf-reader threads` on a real program: threads that run and threads that sleep, and a process context that is
//! withdrawn, published elsewhere under other names, and gone after an exec.
//!
//! The program is this very test binary, started again: see the module `target`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::process_context::Reader;
use ebpf_reader::threads::{NotRead, Watch};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// The process that is looked at.
mod target {
    use std::io::{Write as _, stdin};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, exit};
    use std::thread;

    use otel_profiling::process_context::{self, ProcessContext};
    use otel_profiling::{AttributeKey, Record, SpanIds};

    /// The variable that makes this binary a target.
    pub(crate) const VARIABLE: &str = "THREADS_TEST_TARGET";

    fn say(text: &str) {
        // In one piece, whichever thread it comes from.
        std::io::stdout()
            .write_all(format!("\n{text}\n").as_bytes())
            .unwrap();
    }

    /// A thread that publishes a trace of its own while it does something that does not end by itself.
    fn thread(name: &'static str, trace: u8, during: fn() -> i64) {
        let route = AttributeKey::new("http.route").unwrap();
        let run = move || {
            let ids = SpanIds::new([trace; 16], [trace; 8], 1).unwrap();
            let result = Record::with_attributes(ids, &[(route, name)]).publish_while(during);
            say(&format!("woken {name} {result}"));
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .unwrap();
    }

    fn in_epoll_wait() -> i64 {
        // SAFETY: plain system calls; `event` is valid for the kernel to write to.
        unsafe {
            let epoll = libc::epoll_create1(0);
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            i64::from(libc::epoll_wait(epoll, &raw mut event, 1, -1))
        }
    }

    fn in_sigwait() -> i64 {
        // SAFETY: plain system calls on a set that is initialized first.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR2);
            i64::from(libc::sigwaitinfo(&raw const set, std::ptr::null_mut()))
        }
    }

    fn in_futex() -> i64 {
        loop {
            thread::park();
        }
    }

    fn spinning() -> i64 {
        loop {
            std::hint::black_box(());
        }
    }

    /// A mapping of another form than otel_profiling makes, named as told, with the payload after the header.
    fn publish_raw(form: &str, payload: &[u8]) -> bool {
        let flags = match form {
            "anon" => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            _ => libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        };
        let size = 4096;
        // SAFETY: a new mapping, which nothing else knows of, filled within its size; the name is a C string.
        unsafe {
            let memory = libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            assert_ne!(memory, libc::MAP_FAILED);
            let address = memory.expose_provenance();
            let mut header = b"OTEL_CTX".to_vec();
            header.extend(2_u32.to_ne_bytes());
            header.extend((payload.len() as u32).to_ne_bytes());
            header.extend(12345_u64.to_ne_bytes());
            header.extend((address as u64 + 64).to_ne_bytes());
            let bytes = memory.cast::<u8>();
            bytes.copy_from_nonoverlapping(header.as_ptr(), header.len());
            bytes
                .add(64)
                .copy_from_nonoverlapping(payload.as_ptr(), payload.len());
            libc::prctl(
                libc::PR_SET_VMA,
                libc::PR_SET_VMA_ANON_NAME as libc::c_ulong,
                address,
                size,
                c"OTEL_CTX".as_ptr(),
            ) == 0
        }
    }

    /// A payload that says no more than a service's name.
    fn payload(service: &str) -> Vec<u8> {
        let wrap = |tag: u8, inner: &[u8]| {
            let mut outer = vec![tag, inner.len() as u8];
            outer.extend(inner);
            outer
        };
        let key = wrap(0x0a, b"service.name");
        let value = wrap(0x12, &wrap(0x0a, service.as_bytes()));
        let attribute = [key, value].concat();
        wrap(0x0a, &wrap(0x0a, &attribute))
    }

    pub(crate) fn run(kind: &str) -> ! {
        if kind == "threads" {
            let context = ProcessContext::new()
                .resource("service.name", "cart\u{1b}[2J")
                .resource("service.version", "1.2")
                .resource("service.instance.id", "i-1");
            process_context::publish(&context).unwrap();
            thread("epoll", 1, in_epoll_wait);
            thread("sigwait", 2, in_sigwait);
            thread("futex", 3, in_futex);
            thread("spin\u{7}", 4, spinning);
        }
        say("ready");
        let mut published = kind == "threads";
        for line in stdin().lines() {
            let line = line.unwrap();
            let (what, service) = line.split_once(' ').unwrap_or((&line, ""));
            let done = match what {
                "publish" => {
                    let named = |context: ProcessContext| {
                        context.resource("service.name", service.to_owned())
                    };
                    if published {
                        process_context::update_with(named).is_ok()
                    } else {
                        published = true;
                        process_context::publish(&named(ProcessContext::new())).is_ok()
                    }
                }
                "withdraw" => {
                    published = false;
                    process_context::withdraw();
                    true
                }
                "anon" | "anon_shmem" => publish_raw(what, &payload(service)),
                "exec" => {
                    let program = std::env::current_exe().unwrap();
                    let mut command = Command::new(program);
                    command
                        .args(std::env::args_os().skip(1))
                        .env(VARIABLE, "quiet");
                    panic!("exec failed: {}", command.exec());
                }
                other => panic!("no such command: {other}"),
            };
            say(if done { "done" } else { "refused" });
        }
        exit(0)
    }
}

/// Also the way into the program: the tests start this binary with this test's name.
#[test]
fn target_is_started_only_when_it_is_asked_for() {
    if let Ok(kind) = std::env::var(target::VARIABLE) {
        target::run(&kind);
    }
    assert!(std::env::var_os(target::VARIABLE).is_none());
}

struct Target {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Target {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "target_is_started_only_when_it_is_asked_for",
                "--nocapture",
            ])
            .env(target::VARIABLE, kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut target = Self {
            child,
            input,
            output,
        };
        assert_eq!(target.answer(), "ready");
        target
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self) -> String {
        loop {
            let line = self.output.next().expect("the target lives").unwrap();
            assert!(
                !line.starts_with("woken"),
                "its system call was disturbed: {line}"
            );
            if ["ready", "done", "refused"].contains(&line.as_str()) {
                return line;
            }
        }
    }

    #[track_caller]
    fn tell(&mut self, command: &str) -> bool {
        writeln!(self.input, "{command}").unwrap();
        self.answer() != "refused"
    }

    fn system_call(&self, name: &str) -> Option<libc::c_long> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let path = task.unwrap().path();
            if std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            {
                let call = std::fs::read_to_string(path.join("syscall")).ok()?;
                return call.split(' ').next()?.parse().ok();
            }
        }
        None
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(arguments: &[&str], pid: u32) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .arg("threads")
        .args(arguments)
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn exports_symbols() -> bool {
    if let Err(Error::NoSymbols { .. }) = ebpf_reader::process::locate(std::process::id()) {
        eprintln!("skipped: needs a linker that exports the symbols by default, such as rust-lld");
        return false;
    }
    true
}

/// A target whose threads do what they are there for.
fn with_threads() -> Target {
    let target = Target::start("threads");
    let deadline = Instant::now() + PATIENCE;
    let asleep = |name, call| target.system_call(name) == Some(call);
    while !(asleep("epoll", libc::SYS_epoll_pwait) || asleep("epoll", EPOLL_WAIT))
        || !asleep("sigwait", libc::SYS_rt_sigtimedwait)
        || !asleep("futex", libc::SYS_futex)
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    target
}

#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_wait;
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_pwait;

#[test]
fn every_thread_is_shown_and_none_is_disturbed() {
    if !exports_symbols() {
        return;
    }
    let mut target = with_threads();
    let mut watch = Watch::new(target.pid()).unwrap();
    for _ in 0..50 {
        let threads = watch.look().unwrap();
        // Elsewhere than with glibc a thread in such a system call may have to be left alone.
        let traces: BTreeMap<_, _> = threads
            .threads
            .iter()
            .filter(|thread| thread.not_read != Some(NotRead::Asleep) || cfg!(target_env = "gnu"))
            .filter_map(|thread| Some((thread.name.as_str(), thread.trace_id?.to_string())))
            .collect();
        let expected = [("epoll", 1), ("futex", 3), ("sigwait", 2), ("spin\u{7}", 4)]
            .map(|(name, trace): (&str, u8)| (name, format!("{trace:02x}").repeat(16)));
        if cfg!(target_env = "gnu") {
            assert_eq!(traces, BTreeMap::from(expected), "{threads:?}");
        }
        for thread in &threads.threads {
            if thread.trace_id.is_some() {
                assert_eq!(thread.trace_flags, Some(1));
                assert_eq!(
                    thread.attributes,
                    [("http.route".to_owned(), thread.name.clone())]
                );
            }
        }
    }
    let service = watch.look().unwrap().context.unwrap();
    assert_eq!(
        service.service().unwrap().to_string(),
        "cart\\u{1b}[2J 1.2 (i-1)"
    );
    // Would be told before the answer.
    assert!(target.tell("publish x"));
}

#[test]
fn the_table_and_the_object() {
    if !exports_symbols() {
        return;
    }
    let target = with_threads();
    let output = reader(&[], target.pid());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}");
    assert!(
        table.contains("service cart\\u{1b}[2J 1.2 (i-1)\n"),
        "{table}"
    );
    assert!(table.contains("  spin\\u{7} "), "{table}");
    assert!(
        table.contains(&format!(
            "  {}  {}  01     http.route=spin",
            "04".repeat(16),
            "04".repeat(8)
        )),
        "{table}"
    );
    assert!(
        table.chars().all(|c| c == '\n' || !c.is_control()),
        "{table:?}"
    );

    let output = reader(&["--json"], target.pid());
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["pid"], target.pid());
    assert_eq!(object["service"]["version"], "1.2");
    let spin = object["threads"].as_array().unwrap();
    let spin = spin
        .iter()
        .find(|thread| thread["name"] == "spin\u{7}")
        .unwrap();
    assert_eq!(spin["span_id"], "04".repeat(8));
    assert_eq!(spin["attributes"]["http.route"], "spin\u{7}");
}

#[test]
fn watching_goes_on_until_the_end() {
    if !exports_symbols() {
        return;
    }
    let mut target = Target::start("quiet");
    assert!(target.tell("publish one"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args([
            "threads",
            "--json",
            "--watch=0.01",
            &target.pid().to_string(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut await_service = |name: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if object["service"]["name"] == name {
                return;
            }
            assert!(Instant::now() < deadline);
        }
    };
    await_service("one");
    assert!(target.tell("publish two"));
    await_service("two");
    drop(target);
    for line in lines {
        line.unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{messages}");
    assert!(messages.ends_with("has ended\n"), "{messages}");
}

#[test]
fn ctrl_c_ends_watching() {
    if !exports_symbols() {
        return;
    }
    let target = Target::start("quiet");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["threads", &target.pid().to_string(), "--watch", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("process "));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_shown_is_told_in_one_line() {
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    for (pid, expected) in [
        (u32::MAX, "error: there is no process"),
        (sleep.id(), "does not export otel_thread_ctx_v1"),
    ] {
        let output = reader(&[], pid);
        let messages = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert_eq!(messages.lines().count(), 1, "{messages}");
        assert!(messages.contains(expected), "{messages}");
    }
    sleep.kill().unwrap();
    sleep.wait().unwrap();
}

fn service(reader: &mut Reader) -> Option<String> {
    reader.refresh_now().unwrap();
    let context = reader.context()?;
    context.resource("service.name").map(str::to_owned)
}

#[test]
fn a_process_context_is_followed_wherever_it_goes() {
    let mut target = Target::start("quiet");
    let mut reader = Reader::open(target.pid()).unwrap();
    assert_eq!(service(&mut reader), None);
    assert!(target.tell("publish one"));
    assert_eq!(service(&mut reader).as_deref(), Some("one"));
    assert!(target.tell("publish two"));
    assert_eq!(service(&mut reader).as_deref(), Some("two"));
    assert!(target.tell("withdraw"));
    assert_eq!(service(&mut reader).as_deref(), Some("two"));
    assert!(target.tell("publish three"));
    assert_eq!(service(&mut reader).as_deref(), Some("three"));
    assert!(target.tell("withdraw"));
    let mut named = 0;
    for form in ["anon", "anon_shmem"] {
        if target.tell(&format!("{form} {form}-x")) {
            // The last one that was published counts, and these two say that they were at the same time.
            let found = service(&mut reader).unwrap();
            assert!(found.ends_with("-x"), "{found}");
            let mut fresh = Reader::open(target.pid()).unwrap();
            assert!(service(&mut fresh).is_some());
            named += 1;
        }
    }
    if named == 0 {
        eprintln!("skipped in part: needs a kernel with CONFIG_ANON_VMA_NAME");
    }
    // Another program in the same process does not have the context of the one before.
    assert!(target.tell("exec"));
    assert_eq!(service(&mut reader), None);
    assert!(target.tell("publish four"));
    assert_eq!(service(&mut reader).as_deref(), Some("four"));
    let pid = target.pid();
    drop(target);
    assert_eq!(
        service_of_ended(&mut reader).as_deref(),
        Some("four"),
        "{pid}"
    );
}

/// What is known of a process that has ended; searching its mappings may fail.
fn service_of_ended(reader: &mut Reader) -> Option<String> {
    let _ = reader.refresh_now();
    let context = reader.context()?;
    context.resource("service.name").map(str::to_owned)
}
