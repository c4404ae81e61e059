//! What the ELF files of all processes say, each file read once.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

use crate::elf::{Elf, ElfError, Reference};

/// Files of which something is remembered; then all are forgotten.
const MAX_FILES: usize = 1 << 13;

/// Which file it is, and that it has not been written to since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    pub(super) inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// What is known of one file.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: FileId,
    /// `None`: it is no ELF file, or a damaged one.
    pub(super) elf: Option<Arc<Elf>>,
    references: OnceLock<Arc<[Reference]>>,
}

impl Facts {
    /// What refers to the pointers; `open` opens the same file again if nobody has asked before.
    pub(super) fn references(&self, open: impl FnOnce() -> Option<File>) -> Arc<[Reference]> {
        let read = || {
            let elf = self.elf.as_ref()?;
            elf.references(&open()?).ok()
        };
        Arc::clone(
            self.references
                .get_or_init(|| read().unwrap_or_default().into()),
        )
    }
}

/// The files of all processes that are looked at. One for a whole program: processes share their files.
#[derive(Debug, Default)]
pub struct ElfFiles {
    known: HashMap<FileId, Arc<Facts>>,
}

impl ElfFiles {
    /// Knows no file yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What an open file says; the error only if it was read now.
    pub(super) fn read(&mut self, file: &File) -> Result<Arc<Facts>, ElfError> {
        let metadata = file.metadata()?;
        let id = FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(facts) = self.known.get(&id) {
            return Ok(Arc::clone(facts));
        }
        let elf = Elf::read(file);
        if self.known.len() >= MAX_FILES {
            self.known.clear();
        }
        let (elf, error) = match elf {
            Ok(elf) => (Some(Arc::new(elf)), None),
            Err(error) => (None, Some(error)),
        };
        let facts = Arc::new(Facts {
            id,
            elf,
            references: OnceLock::new(),
        });
        self.known.insert(id, Arc::clone(&facts));
        error.map_or(Ok(facts), Err)
    }
}
