//! Files that are mapped into followed processes, opened while the processes are still there.
//!
//! Names of functions are looked up after a recording, when a process may be gone and its file
//! replaced. An open file is both still there and the right one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::Mapping;

/// Files that are kept open; the usual limit is 1,024 for everything that a process has open.
const MAX_OPEN: usize = 512;

/// Index of a file in [`Modules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(usize);

/// The files of all followed processes, each once.
#[derive(Debug, Default)]
pub struct Modules {
    files: Vec<File>,
    by_inode: HashMap<((u32, u32), u64), Option<ModuleId>>,
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
            .map(|file| {
                self.files.push(file);
                ModuleId(self.files.len() - 1)
            });
        self.by_inode.insert(key, module);
        module
    }

    /// An open file.
    pub fn file(&self, module: ModuleId) -> Option<&File> {
        self.files.get(module.0)
    }
}

/// Opens exactly the mapped file through `map_files`, which needs privileges; else the file of that path
/// in the process's mount namespace, if it still is the same one.
fn open_mapped(pid: u32, mapping: &Mapping) -> Option<File> {
    // Without waiting: a process may have put a named pipe in the place of its file.
    let open = |path: String| -> io::Result<File> {
        File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    };
    let file = open(format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    ))
    .or_else(|_| open(format!("/proc/{pid}/root{}", mapping.path())))
    .ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.ino() == mapping.inode).then_some(file)
}
