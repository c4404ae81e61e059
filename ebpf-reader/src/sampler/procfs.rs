//! What is read about processes and threads in /proc.

use std::fs;
use std::io;

use crate::error::Error;

/// PF_EXITING in a thread's flags.
const EXITING: u64 = 4;

/// The threads of a process.
pub(crate) fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Some(tid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            threads.push(tid);
        }
    }
    Ok(threads)
}

/// Fails unless `pid` is a process of which a thread is still alive.
pub(crate) fn check_alive(pid: u32) -> Result<(), Error> {
    let alive = status(pid).is_some_and(|status| status.process == pid)
        && threads(pid).is_ok_and(|threads| {
            threads
                .into_iter()
                .any(|tid| stat(tid).is_some_and(|stat| !stat.exiting))
        });
    if alive {
        Ok(())
    } else {
        Err(Error::NoSuchProcess { pid })
    }
}

/// The parts of /proc/TID/status that samplers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The process that the thread belongs to.
    pub(crate) process: u32,
    /// That process's parent.
    pub(crate) parent: u32,
    /// The thread that traces this one; 0 if none does.
    pub(crate) tracer: u32,
}

/// The status of a thread, or `None` if it is gone.
pub(crate) fn status(tid: u32) -> Option<Status> {
    parse_status(&fs::read_to_string(format!("/proc/{tid}/status")).ok()?)
}

fn parse_status(text: &str) -> Option<Status> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some(Status {
        process: field("Tgid:")?,
        parent: field("PPid:")?,
        tracer: field("TracerPid:")?,
    })
}

/// The parts of /proc/TID/stat that samplers need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The thread's name.
    pub(crate) name: String,
    /// `R` for running, `S` for sleeping, `Z` for a zombie, …
    pub(crate) state: char,
    /// It has begun to exit, and will not run its program any more.
    pub(crate) exiting: bool,
    /// When it started, in clock ticks since the machine did.
    pub(crate) started: u64,
    /// The CPU on which the thread ran last.
    pub(crate) cpu: u32,
}

/// The state of a thread, or `None` if it is gone.
pub(crate) fn stat(tid: u32) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{tid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes))
}

/// The name is in parentheses and may hold anything, parentheses included.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, fields) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = fields.split_ascii_whitespace();
    // Fields 3, 9, 22 and 39 of proc(5).
    let state = fields.next()?.chars().next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let started = fields.nth(12)?.parse().ok()?;
    let cpu = fields.nth(16)?.parse().ok()?;
    Some(Stat {
        name: name.to_owned(),
        state,
        exiting: flags & EXITING != 0 || matches!(state, 'Z' | 'X'),
        started,
        cpu,
    })
}

/// CPU time in a schedstat file, in nanoseconds.
pub(crate) fn parse_schedstat(text: &[u8]) -> Option<u64> {
    let digits = text.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_thread() {
        let pid = std::process::id();
        assert!(check_alive(pid).is_ok());
        assert_eq!(status(pid).expect("own status").process, pid);
        let own = threads(pid).expect("own threads");
        assert!(own.contains(&pid));
        // A thread is not a process.
        for tid in own.into_iter().filter(|&tid| tid != pid) {
            assert!(check_alive(tid).is_err());
        }
        assert!(matches!(
            check_alive(0),
            Err(Error::NoSuchProcess { pid: 0 })
        ));
        assert!(check_alive(u32::MAX).is_err());
    }

    #[test]
    fn a_name_may_hold_parentheses() {
        let numbers = (4..=52)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = parse_stat(&format!("7 (a) R (b) S {numbers}")).expect("valid");
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.started, stat.cpu),
            ("a) R (b", 'S', 22, 39)
        );
        // The flags are 9 here.
        assert!(!stat.exiting);
        assert!(parse_stat("7 (a) Z 0 0 0 0 0 0").is_none());
        for bad in ["", "7", "7 (a", "7 (a)", "7 (a) S", "7 (a) S 1 2"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn schedstat_starts_with_cpu_time() {
        assert_eq!(parse_schedstat(b"123 45 6\n"), Some(123));
        assert_eq!(parse_schedstat(b""), None);
        assert_eq!(parse_schedstat(b"x 1 2"), None);
    }
}
