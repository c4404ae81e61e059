//! Files that are mapped into followed processes, opened while the processes are still there.
//!
//! Names of functions are looked up after a recording, when a process may be gone and its file
//! replaced. An open file is both still there and the right one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, OnceLock};

use super::{Mapping, perf_map};
use crate::elf::BuildId;

/// Files that are kept open; the usual limit is 1,024 for everything that a process has open.
const MAX_OPEN: usize = 512;

/// Files that are known, also those that could not be opened.
const MAX_KNOWN: usize = 1 << 16;

/// Number of a file in [`Modules`]; numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(usize);

impl ModuleId {
    /// The number: from 1 on.
    pub(crate) fn number(self) -> usize {
        self.0
    }
}

/// The files of all followed processes, each once. A clone keeps the same files open.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    files: HashMap<ModuleId, Arc<OpenFile>>,
    /// Those that are no programs but lists of functions.
    perf_maps: HashSet<ModuleId>,
    last: usize,
    by_inode: HashMap<((u32, u32), u64), Option<ModuleId>>,
}

/// A file, and what was read of it.
#[derive(Debug)]
struct OpenFile {
    file: File,
    build_id: OnceLock<Option<BuildId>>,
}

impl Modules {
    /// Opens the file behind a mapping of `pid`, unless that was done before; `None` if it cannot be
    /// opened or too many are open already.
    pub fn open(&mut self, pid: u32, mapping: &Mapping) -> Option<ModuleId> {
        if !mapping.is_file() {
            return None;
        }
        let key = (mapping.device, mapping.inode);
        if let Some(known) = self.by_inode.get(&key) {
            return *known;
        }
        let module = (self.files.len() < MAX_OPEN)
            .then(|| open_mapped(pid, mapping))
            .flatten()
            .map(|file| self.add(file));
        if self.by_inode.len() < MAX_KNOWN {
            self.by_inode.insert(key, module);
        }
        module
    }

    fn add(&mut self, file: File) -> ModuleId {
        self.last += 1;
        let module = ModuleId(self.last);
        let build_id = OnceLock::new();
        self.files
            .insert(module, Arc::new(OpenFile { file, build_id }));
        module
    }

    /// Opens the list of functions that a compiler at run time has written for `pid`, if there is one.
    pub fn open_perf_map(&mut self, pid: u32) -> Option<ModuleId> {
        if self.files.len() >= MAX_OPEN {
            return None;
        }
        let module = self.add(perf_map::open(pid)?);
        self.perf_maps.insert(module);
        Some(module)
    }

    /// Whether a file is such a list.
    pub fn is_perf_map(&self, module: ModuleId) -> bool {
        self.perf_maps.contains(&module)
    }

    /// An open file.
    pub fn file(&self, module: ModuleId) -> Option<&File> {
        self.files.get(&module).map(|open| &open.file)
    }

    /// The build id of an open file, if it is an ELF file with one; read when it is asked for the first time.
    pub fn build_id(&self, module: ModuleId) -> Option<&BuildId> {
        if self.is_perf_map(module) {
            return None;
        }
        let open = self.files.get(&module)?;
        let read = || BuildId::read(&open.file).ok().flatten();
        open.build_id.get_or_init(read).as_ref()
    }

    /// Closes the files that are not to be kept. Those that could not be opened may be tried again.
    pub fn retain(&mut self, keep: impl Fn(ModuleId) -> bool) {
        self.files.retain(|&module, _| keep(module));
        self.perf_maps.retain(|&module| keep(module));
        self.by_inode.retain(|_, module| module.is_some_and(&keep));
    }
}

/// Opens exactly the mapped file through `map_files`, which needs privileges; else the file of that path
/// in the process's mount namespace, if it still is the same one.
pub(super) fn open_mapped(pid: u32, mapping: &Mapping) -> Option<File> {
    let exactly = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    let by_path = format!("/proc/{pid}/root{}", mapping.path());
    [exactly, by_path]
        .iter()
        .find_map(|path| open_regular(path).filter(|(_, inode)| *inode == mapping.inode))
        .map(|(file, _)| file)
}

/// Opens a regular file and nothing else: a process may have put a named pipe in the place of its file, or
/// have mapped a device. Looked at first, and opened only then.
fn open_regular(path: &str) -> Option<(File, u64)> {
    let found = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .ok()?;
    let metadata = found.metadata().ok()?;
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = metadata.is_file().then(|| File::open(same).ok())??;
    Some((file, metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn mapping(path: &str, inode: u64) -> Mapping {
        Mapping {
            // No mapping of the process: what is found is found by its path.
            start: 1,
            end: 2,
            inode,
            name: path.to_owned(),
            ..Mapping::default()
        }
    }

    #[test]
    fn without_map_files_the_same_file_is_opened_by_its_path() {
        let pid = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a file");
        fs::write(&path, "content").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let name = path.to_str().unwrap();
        assert!(open_mapped(pid, &mapping(name, inode)).is_some());
        // Another file has taken its place.
        assert!(open_mapped(pid, &mapping(name, inode + 1)).is_none());
        fs::remove_file(&path).unwrap();
        assert!(open_mapped(pid, &mapping(name, inode)).is_none());
    }

    #[test]
    fn what_is_not_a_regular_file_is_not_opened() {
        let pid = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let status = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        // Opening it would wait for a writer, for ever.
        for path in [path.to_str().unwrap(), "/dev/zero", "/"] {
            let inode = fs::metadata(path).unwrap().ino();
            assert!(open_mapped(pid, &mapping(path, inode)).is_none(), "{path}");
        }
    }
}
