//! The processes of a control group and of the groups inside it.
//!
//! Which processes these are is looked up again and again: moving a process into a group is no event that
//! the samplers tell. Children of a followed process are followed by the sampler itself.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Most groups that are looked at; whoever may make groups could nest them without end.
const MAX_GROUPS: usize = 10_000;

/// A control group: version 2, or a hierarchy of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The group with this path, or this name under /sys/fs/cgroup.
    pub(super) fn find(name: &Path) -> Result<Self, Error> {
        // As in /proc/PID/cgroup, where names start with a slash too.
        let inner = name.strip_prefix("/").unwrap_or(name);
        let candidates = [name.to_owned(), Path::new(ROOT).join(inner)];
        let path = candidates
            .into_iter()
            .find(|path| path.is_absolute() && path.join("cgroup.procs").exists())
            .ok_or_else(|| {
                Error::io(
                    format!(
                        "find the control group {}: neither it nor {ROOT}/{} has a file cgroup.procs",
                        name.display(),
                        inner.display()
                    ),
                    io::ErrorKind::NotFound.into(),
                )
            })?;
        Ok(Self { path })
    }

    /// Whether the group is still there.
    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The processes in it, as far as they can be listed.
    pub(super) fn processes(&self) -> HashSet<u32> {
        let mut processes = HashSet::new();
        let mut groups = vec![self.path.clone()];
        let mut looked_at = 0;
        while let Some(group) = groups.pop() {
            looked_at += 1;
            if looked_at > MAX_GROUPS {
                break;
            }
            // Groups of threads do not list processes: the group around them does.
            let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            // Zero stands for a process outside the reader's pid namespace.
            processes.extend(
                list.lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|&pid: &u32| pid != 0),
            );
            for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    groups.push(entry.path());
                }
            }
        }
        processes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a group with a group inside.
    fn group() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("cgroup.procs"), "10\n0\n11\n").unwrap();
        fs::write(inner.join("cgroup.procs"), "12\n10\nnonsense\n").unwrap();
        folder
    }

    #[test]
    fn processes_of_inner_groups_belong_to_it() {
        let folder = group();
        let cgroup = Cgroup::find(folder.path()).unwrap();
        assert_eq!(cgroup.processes(), HashSet::from([10, 11, 12]));
        assert!(cgroup.exists());
        drop(folder);
        assert!(!cgroup.exists());
        assert!(cgroup.processes().is_empty());
    }

    #[test]
    fn what_is_no_group_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in [folder.path(), Path::new("no/such/group"), Path::new("")] {
            if name == Path::new("") && Path::new(ROOT).join("cgroup.procs").exists() {
                continue;
            }
            let error = Cgroup::find(name).unwrap_err().to_string();
            assert!(error.contains(&name.display().to_string()), "{error}");
            assert!(error.contains("cgroup.procs"), "{error}");
        }
    }
}
