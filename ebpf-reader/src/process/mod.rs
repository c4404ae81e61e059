//! Processes as `/proc` shows them: their programs, children and mappings.
//!
//! Everything goes through `/proc/PID`, so that processes in other mount namespaces are found too.

mod address_space;
mod auxv;
mod cgroup;
mod files;
mod kernel;
mod loaded;
mod locate;
mod maps;
mod memory;
mod modules;
mod perf_map;
mod resolve;
mod vdso;

use std::fs::{self, File};
use std::io::{self, Read};

pub use address_space::{AddressSpace, Piece};
pub(crate) use auxv::Image;
pub use cgroup::origin;
pub use files::ElfFiles;
pub(crate) use kernel::{kernel_build_id, vdso_build_id};
pub use locate::{LocatedModule, Locator, locate};
pub use maps::{Mapping, Maps};
pub use memory::Memory;
pub use modules::{ModuleId, Modules};
pub(crate) use vdso::{VDSO, own_vdso};

use crate::error::Error;

/// Opens the program that `pid` executes, also when its file has been replaced or deleted.
///
/// # Errors
/// If there is no such process, or its program may not be opened.
pub fn open_program(pid: u32) -> Result<File, Error> {
    File::open(format!("/proc/{pid}/exe"))
        .map_err(|error| unreadable(pid, "open the program", "CAP_SYS_PTRACE", error))
}

/// The process's name, at most 15 bytes; `None` when it is gone.
pub fn name(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(
        String::from_utf8_lossy(&bytes)
            .trim_end_matches('\n')
            .to_owned(),
    )
}

/// Path of the program that a process runs, in its mount namespace; `None` when it is gone or may not be read.
pub fn executable(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.to_string_lossy();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
}

/// Whether a process (not a mere thread) with this id exists, and has not ended.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'))
}

/// When a process started, as a CLOCK_BOOTTIME in nanoseconds; `None` when it is gone.
pub(crate) fn started_ns(pid: u32) -> Option<u64> {
    // USER_HZ is 100 wherever this runs.
    const NS_PER_TICK: u64 = 10_000_000;
    crate::sampler::procfs::stat(pid).map(|stat| stat.started.saturating_mul(NS_PER_TICK))
}

/// The process of a thread: itself if it is the process's first one. `None` when it is gone.
pub fn of_thread(tid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{tid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let mut lines = status.lines();
    lines.find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// All processes that descend from `pid`, nearest first, without itself.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|child: u32| Some((child, stat(child)?.parent)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        for &(child, of) in &parents {
            // Processes come and go while the folder is read; a pid used twice must not loop.
            if of == parent && !found.contains(&child) {
                found.push(child);
            }
        }
        next += 1;
    }
    found.remove(0);
    found
}

/// How a process is called in messages: its id and its name.
pub fn describe(pid: u32) -> String {
    match name(pid) {
        Some(name) => format!("process {pid} ({})", name.escape_debug()),
        None => format!("process {pid}"),
    }
}

/// Turns the failure of reading something of `pid` into an error that says which privilege is missing.
fn unreadable(pid: u32, action: &str, needs: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound if !is_alive(pid) => Error::NoSuchProcess { pid },
        io::ErrorKind::PermissionDenied => Error::Permission {
            action: format!("{action} of process {pid}"),
            needs: format!("the same user or {needs}"),
        },
        _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Error::NoSuchProcess { pid }
        }
        _ => Error::io(format!("{action} of process {pid}"), error),
    }
}

struct Stat {
    state: u8,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/stat"))
        .ok()?
        .take(4096)
        .read_to_end(&mut text)
        .ok()?;
    // The name is in parentheses and may hold anything, parentheses too: what follows the last one counts.
    let after_name = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(after_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Stat {
        state: *fields.next()?.as_bytes().first()?,
        parent: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_child_of_its_parent() {
        let pid = std::process::id();
        assert!(is_alive(pid));
        assert!(descendants(std::os::unix::process::parent_id()).contains(&pid));
        assert!(!descendants(pid).contains(&pid));
    }

    #[test]
    fn a_thread_belongs_to_its_process() {
        let pid = std::process::id();
        assert_eq!(of_thread(pid), Some(pid));
        // The thread of this test, which is not the first one of its process.
        let link = fs::read_link("/proc/thread-self").unwrap();
        let tid = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert_ne!(tid, pid);
        assert_eq!(of_thread(tid), Some(pid));
        assert_eq!(of_thread(u32::MAX), None);
    }

    #[test]
    fn a_process_that_has_ended_is_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while is_alive(child.id()) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // It is a zombie: its folder in /proc is still there.
        assert!(matches!(
            locate(child.id()),
            Err(Error::NoSuchProcess { .. })
        ));
        child.wait().unwrap();
    }

    #[test]
    fn an_unknown_pid_is_named() {
        assert!(!is_alive(u32::MAX));
        assert_eq!(
            locate(u32::MAX).unwrap_err().to_string(),
            format!("there is no process {}", u32::MAX)
        );
    }

    #[test]
    fn a_program_without_the_symbols_says_what_to_do() {
        let mut sleep = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let error = locate(sleep.id()).unwrap_err().to_string();
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        assert!(
            error.contains("(sleep) does not export otel_thread_ctx_v1"),
            "{error}"
        );
        assert!(error.contains("export_symbols()"), "{error}");
    }
}
