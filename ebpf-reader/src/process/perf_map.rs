//! The list of functions that a compiler at run time writes for perf: `/tmp/perf-PID.map`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Opens the list of `pid`, as the process sees it, if the process itself can have written it.
pub(super) fn open(pid: u32) -> Option<File> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_ascii_whitespace())
    };
    // It is named by the process's id in its own namespace, the innermost one.
    let own_pid: u32 = field("NSpid:")?.next_back()?.parse().ok()?;
    let user: u32 = field("Uid:")?.nth(1)?.parse().ok()?;

    let root = openat(
        CWD,
        format!("/proc/{pid}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    // Links are the process's own: they must not lead out of its root, and a pipe must not make us wait.
    let file = openat2(
        root,
        format!("tmp/perf-{own_pid}.map"),
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()?;
    let file = File::from(file);
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && (metadata.uid() == user || metadata.uid() == 0)).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_of_the_process_counts() {
        let pid = std::process::id();
        let path = format!("/tmp/perf-{pid}.map");
        assert!(open(pid).is_none());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        let link = open(pid);
        fs::remove_file(&path).unwrap();
        assert!(link.is_none());
        fs::write(&path, "1000 10 name\n").unwrap();
        let file = open(pid);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.unwrap().metadata().unwrap().len(), 13);
        assert!(open(u32::MAX).is_none());
    }
}
