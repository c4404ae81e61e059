//! `ebpf-reader top` on a real terminal, which tmux is, with a real program.

#[path = "../serve/writer.rs"]
mod writer;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

const READER: &str = env!("CARGO_BIN_EXE_ebpf-reader");

/// A terminal of its own, gone when dropped.
struct Tmux {
    socket: String,
}

impl Tmux {
    /// Runs a command line of the shell; `None` where there is no tmux.
    fn start(name: &str, folder: &Path, line: &str) -> Option<Self> {
        let tmux = Self {
            socket: format!("ebpf-reader-{name}-{}", std::process::id()),
        };
        let folder = folder.to_str().unwrap();
        let version = Command::new("tmux").arg("-V").output();
        if !version.is_ok_and(|output| output.status.success()) {
            println!("skipped: needs tmux");
            return None;
        }
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "30",
            "-c",
            folder,
            line,
        ]);
        Some(tmux)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-u", "-L", &self.socket])
            .args(arguments)
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Waits until the screen is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "waited for {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn alternate(&self) -> bool {
        self.run(&["display-message", "-p", "#{alternate_on}"])
            .trim()
            == "1"
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .stderr(Stdio::null())
            .status();
    }
}

/// The program; it ends when its standard input does.
struct Writer(Child);

impl Writer {
    fn start() -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", writer::TEST, "--nocapture"])
            .env(writer::VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        // The harness, the test, and the thread that works.
        let threads = format!("/proc/{}/task", child.id());
        while fs::read_dir(&threads).unwrap().count() < 3 {
            assert!(start.elapsed() < PATIENCE, "the program does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The view of the program, with the shell's report after it; `None` if it cannot be tested here.
fn view(name: &str, folder: &Path, writer: &Writer) -> Option<Tmux> {
    let pid = writer.0.id();
    let line = format!(
        "{READER} top --freq 499 --off-cpu --pid {pid}; echo ended with $?; stty -a; exec sleep 600"
    );
    let tmux = Tmux::start(name, folder, &line)?;
    let screen = tmux.until("the view", |screen| {
        screen.contains("TRACE (") || screen.contains("ended with")
    });
    if screen.contains("needs CAP_BPF") {
        println!("skipped: needs CAP_BPF and CAP_PERFMON");
        return None;
    }
    Some(tmux)
}

fn cannot_export() -> bool {
    let none = matches!(
        ebpf_reader::process::locate(std::process::id()),
        Err(ebpf_reader::Error::NoSymbols { .. })
    );
    if none {
        println!("skipped: needs a linker that exports the symbols by default, such as rust-lld");
    }
    none
}

/// The terminal is as it was.
fn assert_restored(tmux: &Tmux) {
    let screen = tmux.until("the end", |screen| screen.contains("ended with 0"));
    assert!(!tmux.alternate());
    tmux.until("the settings", |screen| {
        screen.split_whitespace().any(|word| word == "icanon")
            && screen.split_whitespace().any(|word| word == "echo")
    });
    assert!(!screen.contains("panicked"), "{screen}");
    assert_eq!(
        tmux.run(&["display-message", "-p", "#{cursor_flag}"])
            .trim(),
        "1"
    );
}

#[test]
fn from_rows_to_a_flame_graph_to_files() {
    if cannot_export() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Writer::start();
    let Some(tmux) = view("rows", folder.path(), &program) else {
        return;
    };
    let screen = tmux.until("both traces", |screen| {
        screen.contains(writer::CHECKOUT) && screen.contains(writer::SEARCH)
    });
    assert!(screen.contains("BLOCKED ms"), "{screen}");
    assert!(tmux.alternate());
    // A trace works 6 ms, the other one 3: the first one is on top.
    tmux.until("the order", |screen| {
        screen.find(writer::CHECKOUT) < screen.find(writer::SEARCH)
    });

    tmux.keys(&["b"]);
    let screen = tmux.until("the routes", |screen| screen.contains("HTTP.ROUTE (2)"));
    assert!(screen.contains("/checkout"), "{screen}");
    // Too long for the table: the line at the bottom has it all.
    tmux.keys(&["End"]);
    tmux.until("the whole name", |screen| {
        screen.contains("&amp;\\u{1b}[2J")
    });

    tmux.keys(&["/"]);
    tmux.keys(&["-l", "CHECK"]);
    tmux.keys(&["Enter"]);
    tmux.until("what was found", |screen| screen.contains("HTTP.ROUTE (1)"));
    tmux.keys(&["Enter"]);
    tmux.until("the functions", |screen| screen.contains("handle_checkout"));
    tmux.keys(&["w"]);
    tmux.until("the files", |screen| {
        screen.contains("wrote http.route-_checkout.svg")
    });
    let svg = fs::read_to_string(folder.path().join("http.route-_checkout.svg")).unwrap();
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("handle_checkout") && !svg.contains("handle_search"));
    let pprof = folder.path().join("http.route-_checkout.pb.gz");
    let profile = ebpf_reader::read::read(&pprof).unwrap();
    assert!(profile.total().samples > 0);
    let traces = profile.traces();
    assert_eq!(traces.len(), 1);
    assert_eq!(traces[0].trace_id.to_string(), writer::CHECKOUT);
    tmux.keys(&["w"]);
    tmux.until("other files", |screen| {
        screen.contains("http.route-_checkout-2.svg")
    });

    for (width, height) in [("1", "1"), ("7", "3"), ("30", "80"), ("100", "30")] {
        tmux.run(&["resize-window", "-x", width, "-y", height]);
        std::thread::sleep(Duration::from_millis(200));
    }
    tmux.until("the same again", |screen| {
        screen.contains("handle_checkout")
    });

    tmux.keys(&["Escape"]);
    tmux.until("the rows", |screen| screen.contains("HTTP.ROUTE (1)"));
    // What has ended stays until it is left.
    drop(program);
    let screen = tmux.until("the end of the program", |screen| {
        screen.contains("all processes have ended")
    });
    assert!(screen.contains("/checkout"), "{screen}");
    tmux.keys(&["q"]);
    assert_restored(&tmux);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    if cannot_export() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Writer::start();
    let Some(tmux) = view("signal", folder.path(), &program) else {
        return;
    };
    let view = rustix::process::Pid::from_raw(pid_of_view(&tmux)).unwrap();
    rustix::process::kill_process(view, rustix::process::Signal::TERM).unwrap();
    assert_restored(&tmux);
}

/// The process of the view, which the pane's shell has started.
fn pid_of_view(tmux: &Tmux) -> i32 {
    let shell = tmux.run(&["display-message", "-p", "#{pane_pid}"]);
    let children =
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_view_ends_with_its_terminal() {
    if cannot_export() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Writer::start();
    let Some(tmux) = view("hangup", folder.path(), &program) else {
        return;
    };
    let view = pid_of_view(&tmux);
    drop(tmux);
    let start = Instant::now();
    while ebpf_reader::process::is_alive(view.try_into().unwrap()) {
        assert!(
            start.elapsed() < PATIENCE,
            "the view goes on without a terminal"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn errors_come_before_the_screen_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{READER} top; echo ended with $?; exec sleep 600");
    let Some(tmux) = Tmux::start("error", folder.path(), &line) else {
        return;
    };
    let screen = tmux.until("the error", |screen| screen.contains("ended with 1"));
    assert!(screen.contains("error: nothing to record"), "{screen}");
    assert!(!tmux.alternate());
}

#[test]
fn what_is_no_terminal_is_refused() {
    let output = Command::new(READER).args(["top", "-a"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("not a terminal") && said.contains("ebpf-reader record"),
        "{said}"
    );
    assert!(output.stdout.is_empty());
}
