//! The processes to follow at the start: those that were named, and their descendants.

use std::fs;

use super::Progress;
use crate::error::Error;
use crate::process;
use crate::sample::Locations;

/// A process to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pid: u32,
    /// `None`: its program does not export the symbols; a child's program may.
    pub(super) locations: Option<Locations>,
}

impl Target {
    /// A process that does not keep any pointers, or of which that is not known.
    pub(super) fn without_locations(pid: u32) -> Self {
        Self {
            pid,
            locations: None,
        }
    }
}

/// Finds the processes and where they keep their pointers.
///
/// A named process has to export the symbols, unless a descendant of it or another named process does.
pub(super) fn find(
    pids: &[u32],
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Target>, Error> {
    let mut targets: Vec<Target> = Vec::new();
    let mut without = Vec::new();
    for &named in pids {
        let known = |targets: &[Target], pid| targets.iter().any(|target| target.pid == pid);
        if known(&targets, named) {
            continue;
        }
        if let Some(pid) = process::of_thread(named).filter(|&pid| pid != named) {
            return Err(Error::NotAProcess { tid: named, pid });
        }
        let mut found = false;
        let mut missing = None;
        match locate(named) {
            Ok(target) => {
                found = true;
                targets.push(target);
            }
            Err(error) if error.is_about_symbols() => {
                missing = Some(error);
                targets.push(Target::without_locations(named));
            }
            Err(error) => return Err(error),
        }
        for pid in process::descendants(named) {
            if known(&targets, pid) {
                continue;
            }
            // Children of which nothing is known may have ended meanwhile, or may yet execute something else.
            let target = locate(pid).unwrap_or_else(|_| Target::without_locations(pid));
            found |= target.locations.is_some();
            targets.push(target);
        }
        if !found {
            without.extend(missing);
        }
    }
    let found = targets.iter().any(|target| target.locations.is_some());
    for error in without {
        if !found {
            return Err(error);
        }
        on_progress(Progress::Warning(error));
    }
    Ok(targets)
}

/// All processes but this one. Of those that keep no pointers, or may not be looked at, samples are counted
/// without contexts.
pub(super) fn all() -> Vec<Target> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| pid != std::process::id())
        .map(|pid| locate(pid).unwrap_or_else(|_| Target::without_locations(pid)))
        .collect()
}

/// A process and where it keeps its pointers.
pub(super) fn locate(pid: u32) -> Result<Target, Error> {
    let locations = Some(process::locate(pid)?);
    Ok(Target { pid, locations })
}
