//! What `deploy/` holds: both ways give the same capabilities, and the program works with these and no others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CAPABILITIES: [&str; 6] = [
    "BPF",
    "PERFMON",
    "SYS_PTRACE",
    "DAC_READ_SEARCH",
    "CHECKPOINT_RESTORE",
    "SYSLOG",
];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap()
}

#[test]
fn both_ways_give_the_same_capabilities() {
    let unit = read("systemd/ebpf-reader.service");
    let with_prefix = CAPABILITIES.map(|name| format!("CAP_{name}")).join(" ");
    for setting in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let line = format!("\n{setting}={with_prefix}\n");
        assert!(unit.contains(&line), "{setting}");
    }
    let daemon_set = read("kubernetes/daemonset.yaml");
    let (_, added) = daemon_set.split_once("add:\n").unwrap();
    let added: Vec<&str> = added
        .lines()
        .map_while(|line| line.trim().strip_prefix("- "))
        .collect();
    assert_eq!(added, CAPABILITIES);
    for line in [
        "privileged: false",
        "drop: [ALL]",
        "hostPID: true",
        "readOnlyRootFilesystem: true",
    ] {
        assert!(daemon_set.contains(line), "{line}");
    }
    let explained = read("README.md");
    for name in CAPABILITIES {
        assert!(explained.contains(&format!("`CAP_{name}`")), "{name}");
    }
}

#[test]
fn systemd_understands_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("ebpf-reader.service");
    let text = read("systemd/ebpf-reader.service");
    // The program has to be where the unit says.
    let text = text.replace(
        "/usr/local/bin/ebpf-reader",
        env!("CARGO_BIN_EXE_ebpf-reader"),
    );
    fs::write(&unit, text).unwrap();
    let Ok(output) = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
    else {
        println!("skipped: needs systemd-analyze");
        return;
    };
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A user without any rights of its own, and these capabilities.
fn as_nobody(capabilities: &[&str]) -> Command {
    let list: Vec<String> = capabilities
        .iter()
        .map(|name| format!("+{}", name.to_lowercase()))
        .collect();
    let list = format!("-all,{}", list.join(","));
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
        ])
        .arg(format!("--inh-caps={list}"))
        .arg(format!("--ambient-caps={list}"))
        .arg(format!("--bounding-set={list}"));
    command
}

#[test]
fn it_works_with_just_these_capabilities() {
    if !may_give_them_away() || Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: needs root with these capabilities, and setpriv");
        return;
    }
    // Where everybody may run it.
    let folder = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = folder.path().join("ebpf-reader");
    fs::copy(env!("CARGO_BIN_EXE_ebpf-reader"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // Another user's process, whose program only that user may read.
    let target = folder.path().join("target");
    fs::copy(std::env::current_exe().unwrap(), &target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    let target = Command::new(&target)
        .args(["--exact", "spin_in_another_process", "--nocapture"])
        .env(VARIABLE, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let target = Running(target);

    let output = folder.path().join("output");
    let log = fs::File::create(&output).unwrap();
    let serve = as_nobody(&CAPABILITIES)
        .arg(&program)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--window",
            "1",
            "--freq",
            "199",
        ])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let serve = Running(serve);
    let begin = Instant::now();
    let patience = Duration::from_secs(120);
    let wait = |what: &str| {
        let log = fs::read_to_string(&output).unwrap();
        assert!(begin.elapsed() < patience, "{what}: {log}");
        std::thread::sleep(Duration::from_millis(100));
        log
    };
    let address = loop {
        let log = wait("an address");
        if let Some((_, address)) = log.split_once("listening at http://") {
            break address.lines().next().unwrap().to_owned();
        }
    };
    let path = format!("/api/flame?attribute=process.pid%3D{}", target.0.id());
    loop {
        if get(&address, &path).contains("spin_visibly") {
            break;
        }
        wait("a function's name");
    }
    drop(serve);

    // And without the first two it says what is missing.
    let output = as_nobody(&CAPABILITIES[2..])
        .arg(&program)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        error.contains("needs CAP_BPF and CAP_PERFMON, of which both are missing"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// Whether this process has these capabilities, and those for becoming another user.
fn may_give_them_away() -> bool {
    // SETGID, SETUID, SETPCAP, and in the order of the list.
    let numbers = [6, 7, 8, 39, 38, 19, 2, 40, 34];
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = u64::from_str_radix(set.unwrap().trim(), 16).unwrap();
    numbers.iter().all(|number| set & (1 << number) != 0)
}

/// An answer of the server.
fn get(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// The variable that makes this binary the program that is profiled.
const VARIABLE: &str = "DEPLOY_TEST_TARGET";

#[test]
fn spin_in_another_process() {
    if std::env::var_os(VARIABLE).is_none() {
        assert_eq!(spin_visibly(1), 1);
        return;
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(300) {
        std::hint::black_box(spin_visibly(10_000_000));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[inline(never)]
fn spin_visibly(rounds: u64) -> u64 {
    (0..rounds).fold(1, |sum, round| {
        std::hint::black_box(sum) | std::hint::black_box(round)
    })
}
