//! Finds where the threads of a process keep their thread-local pointers, and finds it again when objects
//! were loaded meanwhile.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::files::{ElfFiles, Facts};
use super::loaded::{self, Executable};
use super::maps::Mapping;
use super::memory::Memory;
use super::modules::open_mapped;
use super::resolve::Process;
use super::{describe, is_alive, open_program};
use crate::elf::{Elf, Machine, Pointer, Reference};
use crate::error::Error;
use crate::sample::{Libc, Locations, Place, Places};

/// How often [`locate`] looks while the dynamic linker is at work.
const ATTEMPTS: u32 = 20;
/// Pause between two of its looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Finds where `pid` keeps its thread-local pointers now, by the ELF files of its program and shared objects.
///
/// # Errors
/// As [`Locator::refresh`], and [`Error::NoSymbols`] if no module of the process exports any of the symbols,
/// [`Error::NamelessStatic`] if its program has no symbols at all, [`Error::Unresolved`] if a module exports
/// them and nothing in the process leads to it.
pub fn locate(pid: u32) -> Result<Locations, Error> {
    let mut files = ElfFiles::new();
    let mut locator = Locator::new(pid);
    let mut attempt = 0;
    loop {
        let locations = locator.refresh(&mut files)?;
        attempt += 1;
        if attempt >= ATTEMPTS || !locator.is_unresolved() {
            locator.missing().map_or(Ok(()), Err)?;
            return Ok(locations);
        }
        std::thread::sleep(PAUSE);
    }
}

/// A module that has to do with the pointers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocatedModule {
    /// Path of its file in the mount namespace of the process, as the kernel tells it: may hold any character.
    pub path: String,
    /// What has to be added to the addresses of the file.
    pub base: u64,
    /// Whether it is the main executable, whose block has a fixed offset.
    pub is_main: bool,
    /// What its file says.
    pub elf: Arc<Elf>,
    /// What in it refers to the pointers, and where that leads; `None` if it is not filled in yet.
    pub references: Vec<(Reference, Option<Place>)>,
}

/// Keeps finding the places of one process, whatever it loads or executes, until it ends. Keeps no file open.
///
/// A look costs one read of `/proc/PID/maps` while no file was mapped executable since the last one.
#[derive(Debug)]
pub struct Locator {
    pid: u32,
    fingerprint: Option<u64>,
    /// Looked at once more: slots may have been filled in since.
    settled: bool,
    /// Files by the mapping that was seen, `None` if they are not ELF files or cannot be opened.
    known: HashMap<Mapping, Option<Arc<Facts>>>,
    found: Found,
}

/// What was found at one look.
#[derive(Clone, Debug, Default)]
struct Found {
    locations: Locations,
    modules: Vec<LocatedModule>,
    left_out: usize,
    /// A module that exports a pointer to which nothing leads yet.
    unresolved: Option<String>,
    is_nameless: bool,
}

impl Locator {
    /// Has not looked at the process yet.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            fingerprint: None,
            settled: false,
            known: HashMap::new(),
            found: Found::default(),
        }
    }

    /// Looks at the process again, and tells where it keeps its pointers now: nowhere, if no module exports any
    /// symbol.
    ///
    /// # Errors
    /// If the process is gone or may not be read, or its program is not understood.
    pub fn refresh(&mut self, files: &mut ElfFiles) -> Result<Locations, Error> {
        for _ in 0..ATTEMPTS {
            let executable = Executable::read(self.pid)?;
            if executable.anchors.is_empty() && !is_alive(self.pid) {
                return Err(Error::NoSuchProcess { pid: self.pid });
            }
            let is_new = self.fingerprint != Some(executable.fingerprint);
            if !is_new && self.settled {
                return Ok(self.found.locations);
            }
            let memory = Memory::open(self.pid)?;
            self.found = self.look(&executable, &memory, files)?;
            self.fingerprint = Some(executable.fingerprint);
            // What was just loaded may not be relocated yet.
            self.settled = !is_new && self.found.unresolved.is_none();
            // The memory is that of one program: when another one is executed during a look, the look is
            // worthless.
            if executable.is_in(&memory) {
                return Ok(self.found.locations);
            }
            self.fingerprint = None;
        }
        Err(Error::NoSuchProcess { pid: self.pid })
    }

    /// The modules that export or use a pointer, main executable first, then in the order in which they
    /// were loaded.
    pub fn modules(&self) -> &[LocatedModule] {
        &self.found.modules
    }

    /// Places beyond [`MAX_PLACES`](crate::sample::MAX_PLACES), which are not looked at.
    pub fn left_out(&self) -> usize {
        self.found.left_out
    }

    /// Whether a module exports a pointer to which nothing leads yet: it may be just being loaded.
    pub fn is_unresolved(&self) -> bool {
        self.found.unresolved.is_some()
    }

    /// Why nothing was found at the last look; `None` if something was.
    pub fn missing(&self) -> Option<Error> {
        let program = || describe(self.pid);
        if !self.found.locations.is_empty() {
            None
        } else if self.found.is_nameless {
            Some(Error::NamelessStatic { program: program() })
        } else if let Some(module) = &self.found.unresolved {
            Some(Error::Unresolved {
                program: program(),
                module: module.escape_debug().to_string(),
            })
        } else {
            Some(Error::NoSymbols { program: program() })
        }
    }

    fn look(
        &mut self,
        executable: &Executable,
        memory: &Memory,
        files: &mut ElfFiles,
    ) -> Result<Found, Error> {
        let pid = self.pid;
        let unreadable = |source| Error::Program {
            program: describe(pid),
            source: Box::new(source),
        };
        let program = open_program(pid)?;
        let facts = files.read(&program).map_err(unreadable)?;
        let Some(elf) = facts.elf.clone() else {
            // It could not be understood the first time either.
            return Err(unreadable(Elf::read(&program).err().unwrap_or(
                crate::elf::ElfError::Malformed("changed while it was read"),
            )));
        };
        let inode = program.metadata().map(|metadata| metadata.ino()).ok();
        let base = loaded::base_of_program(pid, &elf);
        self.open(executable, files);

        // A program that was started by naming the dynamic loader is one of the loader's modules.
        let is_loader = elf.interpreter.is_none() && !elf.defines_any() && elf.dynamic.is_some();
        let mut modules = vec![Module {
            path: String::new(),
            base: base.unwrap_or_default(),
            is_main: true,
            facts: Arc::clone(&facts),
            elf,
            mapping: None,
        }];
        let mut seen = HashSet::new();
        for mapping in &executable.mappings {
            let Some(Some(facts)) = self.known.get(mapping) else {
                continue;
            };
            let Some(elf) = facts.elf.clone() else {
                continue;
            };
            let Some(start) = loaded::base(&elf, mapping) else {
                continue;
            };
            if Some(facts.id.inode) == inode && (base == Some(start) || base.is_none()) {
                if let Some(program) = modules.first_mut()
                    && program.mapping.is_none()
                {
                    program.base = start;
                    program.path = mapping.path().to_owned();
                    program.mapping = Some(mapping.clone());
                }
            } else if seen.insert((facts.id, start)) {
                let is_main = is_loader
                    && elf
                        .dynamic
                        .as_ref()
                        .is_some_and(|dynamic| dynamic.has_debug);
                modules.push(Module {
                    path: mapping.path().to_owned(),
                    base: start,
                    is_main,
                    facts: Arc::clone(facts),
                    elf,
                    mapping: Some(mapping.clone()),
                });
            }
        }
        let libc = libc_of(&modules);
        if modules.iter().all(|module| !module.elf.defines_any()) {
            let is_nameless = modules
                .first()
                .is_some_and(|program| program.elf.is_nameless());
            return Ok(Found {
                locations: Locations {
                    libc,
                    ..Locations::default()
                },
                is_nameless,
                ..Found::default()
            });
        }
        if let Some(main) = modules
            .iter()
            .find(|module| module.is_main && has_debug(&module.elf))
        {
            let order = loaded::load_order(memory, &main.elf, main.base);
            modules.sort_by_key(|module| {
                let position = order.get(&module.base).copied().unwrap_or(usize::MAX);
                (!module.is_main, position, module.base)
            });
        }
        Ok(resolve(pid, memory, &modules, libc, executable))
    }

    /// Opens the files of mappings that were not there before, and forgets those that are gone.
    fn open(&mut self, executable: &Executable, files: &mut ElfFiles) {
        let mut known = std::mem::take(&mut self.known);
        for mapping in &executable.mappings {
            let facts = known.remove(mapping).unwrap_or_else(|| {
                let file = open_mapped(self.pid, mapping)?;
                files.read(&file).ok()
            });
            self.known.insert(mapping.clone(), facts);
        }
    }
}

/// A module and its file.
struct Module {
    path: String,
    base: u64,
    is_main: bool,
    facts: Arc<Facts>,
    elf: Arc<Elf>,
    mapping: Option<Mapping>,
}

impl Module {
    fn references(&self, pid: u32) -> Arc<[Reference]> {
        self.facts.references(|| match &self.mapping {
            Some(mapping) => open_mapped(pid, mapping).or_else(|| self.reopen_program(pid)),
            None => self.reopen_program(pid),
        })
    }

    fn reopen_program(&self, pid: u32) -> Option<File> {
        let file = open_program(pid).ok().filter(|_| self.is_main)?;
        (file.metadata().ok()?.ino() == self.facts.id.inode).then_some(file)
    }
}

/// Whether it is an executable for a dynamic linker.
fn has_debug(elf: &Elf) -> bool {
    elf.dynamic
        .as_ref()
        .is_some_and(|dynamic| dynamic.has_debug)
}

/// glibc unless something says otherwise.
fn libc_of(modules: &[Module]) -> Libc {
    let is_musl = |path: &str| {
        let name = Path::new(path)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        name.starts_with("ld-musl") || name.starts_with("libc.musl")
    };
    let program = modules.first();
    let interpreter = program.and_then(|program| program.elf.interpreter.as_deref());
    let found = match interpreter {
        Some(path) => is_musl(path) || path.contains("/musl/"),
        None => modules.iter().any(|module| is_musl(&module.path)),
    };
    if found { Libc::Musl } else { Libc::Glibc }
}

fn resolve(
    pid: u32,
    memory: &Memory,
    modules: &[Module],
    libc: Libc,
    executable: &Executable,
) -> Found {
    // Whatever the main executable exports, it uses by a fixed offset. Only what a shared object exports is
    // reached through slots that the dynamic linker fills in, in any module.
    let has_shared = modules
        .iter()
        .any(|module| !module.is_main && module.elf.defines_any());
    let mut found = Found {
        locations: Locations {
            libc,
            ..Locations::default()
        },
        ..Found::default()
    };
    let mut located: Vec<LocatedModule> = modules
        .iter()
        .map(|module| LocatedModule {
            path: module.path.clone(),
            base: module.base,
            is_main: module.is_main,
            elf: Arc::clone(&module.elf),
            references: if has_shared {
                module
                    .references(pid)
                    .iter()
                    .map(|&reference| (reference, None))
                    .collect()
            } else {
                Vec::new()
            },
        })
        .collect();
    located.retain(|module| module.elf.defines_any() || !module.references.is_empty());

    for pointer in Pointer::ALL {
        let offsets: Vec<u64> = located
            .iter()
            .filter_map(|module| module.elf.tls_offset(pointer))
            .collect();
        let process = Process {
            machine: Machine::native().unwrap_or(Machine::X86_64),
            libc,
            is_code: &|address| executable.contains(address),
            offsets: &offsets,
        };
        let mut places = Places::NONE;
        let mut add = |place| found.left_out += usize::from(!places.push(place));
        for module in &mut located {
            if module.is_main {
                module.elf.main_executable_place(pointer).map(&mut add);
            }
            for (reference, place) in &mut module.references {
                if reference.pointer == pointer {
                    *place = process.place(memory, &module.elf, module.base, reference);
                    place.map(&mut add);
                }
            }
        }
        let unresolved = located.iter().find(|module| {
            let mut own = module
                .references
                .iter()
                .filter(|(reference, _)| reference.pointer == pointer)
                .peekable();
            !module.is_main
                && module.elf.tls_offset(pointer).is_some()
                && (places.is_empty()
                    || own.peek().is_some() && own.all(|(_, place)| place.is_none()))
        });
        if let Some(module) = unresolved {
            found.unresolved = Some(module.path.clone());
        }
        match pointer {
            Pointer::ThreadContext => found.locations.thread_context = places,
            Pointer::CustomLabels => found.locations.custom_labels = places,
        }
    }
    found.modules = located;
    found
}
