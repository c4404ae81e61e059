//! The files that a check looks at, each read once.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::symbols::is_executable;
use crate::elf::{Elf, Pointer, Reference, Symbol};
use crate::error::Error;
use crate::process::{self, Maps, Modules};
use crate::text::printable;

/// Files of one process that are looked at.
const MAX_FILES: usize = 2048;

/// A program or a shared object.
#[derive(Debug)]
pub(super) struct Module {
    /// Its file's name, fit to be shown.
    pub(super) name: String,
    /// Its file's name without folders, as it is.
    pub(super) file_name: String,
    pub(super) is_executable: bool,
    pub(super) elf: Elf,
    pub(super) references: Vec<Reference>,
    file: File,
}

impl Module {
    fn new(path: &str, file: File, elf: Elf, is_executable: bool) -> Self {
        let file_name = path.rsplit('/').next().unwrap_or(path);
        // A table of relocations that cannot be read is as good as none.
        let references = elf.references(&file).unwrap_or_default();
        Self {
            name: printable(file_name).into_owned(),
            file_name: file_name.to_owned(),
            is_executable,
            elf,
            references,
            file,
        }
    }

    /// Whether one of the names is in one of its tables.
    fn names_any(&self) -> bool {
        Pointer::ALL.into_iter().any(|pointer| {
            let named = self.elf.named(pointer);
            named
                .exported
                .or(named.in_dynsym)
                .or(named.in_symtab)
                .is_some()
        })
    }

    /// The word that the file has for an address of its own.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.bytes(address, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The value of a symbol of 4 bytes.
    pub(super) fn constant(&self, symbol: &Symbol) -> Option<u32> {
        let mut bytes = [0; 4];
        self.bytes(symbol.value, &mut bytes)?;
        Some(u32::from_le_bytes(bytes))
    }

    fn bytes(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let (load, within) = self.elf.loads.iter().find_map(|load| {
            let within = address.checked_sub(load.vaddr)?;
            (within < load.filesz).then_some((load, within))
        })?;
        self.file
            .read_exact_at(bytes, load.offset.checked_add(within)?)
            .ok()
    }
}

/// Reads one file.
pub(super) fn of_file(path: &Path) -> Result<Module, Error> {
    let shown = || format!("{:?}", path.display().to_string());
    // Without waiting: it may be a named pipe.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| Error::io(format!("open {}", shown()), error))?;
    let elf = Elf::read_with_symtab(&file).map_err(|source| Error::Program {
        program: shown(),
        source: Box::new(source),
    })?;
    let executable = is_executable(&elf);
    Ok(Module::new(&path.to_string_lossy(), file, elf, executable))
}

/// Reads the program of a process and those of its shared objects that have to do with the symbols: at least the
/// program, and it first.
pub(super) fn of_process(pid: u32) -> Result<Vec<Module>, Error> {
    let program = process::open_program(pid)?;
    let elf = Elf::read_with_symtab(&program).map_err(|source| Error::Program {
        program: process::describe(pid),
        source: Box::new(source),
    })?;
    let inode = program.metadata().map(|metadata| metadata.ino()).ok();
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let path = path.to_string_lossy();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let mut modules = vec![Module::new(path, program, elf, true)];

    let maps = Maps::read(pid)?;
    let mut files = Modules::default();
    let mut seen = Vec::new();
    for mapping in maps
        .iter()
        .filter(|mapping| mapping.executable && mapping.is_file())
    {
        let key = (mapping.device, mapping.inode);
        if Some(mapping.inode) == inode || seen.contains(&key) || seen.len() >= MAX_FILES {
            continue;
        }
        seen.push(key);
        let file = files
            .open(pid, mapping)
            .and_then(|id| files.file(id)?.try_clone().ok());
        // What cannot be opened or is no ELF file exports nothing that a reader could find.
        let Some(file) = file else { continue };
        let Ok(elf) = Elf::read_with_symtab(&file) else {
            continue;
        };
        let module = Module::new(mapping.path(), file, elf, false);
        if module.names_any() || !module.references.is_empty() {
            modules.push(module);
        }
    }
    Ok(modules)
}
