//! Names for the places in a profile: functions, also inlined ones, with file and line.
//!
//! Where a place lies decides who knows its name: the ELF file ([`file`], with debug information beside it,
//! `debug_file`), the kernel, or the list that a compiler at run time writes for perf (`addresses`). Files
//! are looked into in private copies (`copy`) and in a process that may die ([`worker`]).

mod addresses;
mod copy;
mod debug_file;
mod file;
mod functions;
mod kernel;
pub mod worker;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use self::file::{Failure, Named};
use self::functions::{Functions, Known};
use self::worker::{Lookup, Lost};
use crate::error::Error;
use crate::process::{ModuleId, Modules, VDSO, own_vdso};
use crate::profile::{KERNEL, Profile};

/// The longest that one file may take, and with the symbol table alone when that was too long.
const MAX_TIME: Duration = Duration::from_secs(30);
const MAX_TIME_TABLES: Duration = Duration::from_secs(10);

/// Places of a file that are looked up at once.
const PLACES_AT_ONCE: usize = 2048;

/// Bytes of one perf map that are read, and of all of them for one profile.
const MAX_PERF_MAP: u64 = 64 << 20;
const MAX_PERF_MAPS: u64 = 256 << 20;

/// Warnings that are remembered, so that they are not told again.
const MAX_TOLD: usize = 256;

/// Names places, one profile after another: what was found is remembered, in bounded memory. The profiles have to
/// come from the same [`crate::profile::Aggregator`], which numbers the files.
#[derive(Debug)]
pub struct Symbolizer {
    lookup: Lookup,
    known: Known,
    /// Files that cannot be looked into; they are not tried again.
    failed: HashSet<Source>,
    /// Warnings that were returned.
    told: HashSet<String>,
    vdso: Option<File>,
}

/// Who knows a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    Kernel,
    Vdso,
    PerfMap(ModuleId),
    File(ModuleId),
}

impl Source {
    /// A number of its own, for what is remembered.
    fn number(self) -> u64 {
        match self {
            Self::Kernel => u64::MAX,
            Self::Vdso => 0,
            Self::PerfMap(module) | Self::File(module) => module.number() as u64,
        }
    }
}

/// A place: its index in the profile, and where it lies in its source.
type Place = (usize, u64);

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Names, or what could not be done and why.
type Found = Result<Vec<Vec<Named>>, (&'static str, Cause)>;

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer {
    /// Nothing looked up yet.
    pub fn new() -> Self {
        Self {
            lookup: Lookup::new(),
            known: Known::default(),
            failed: HashSet::new(),
            told: HashSet::new(),
            vdso: None,
        }
    }

    /// Names the locations of a profile. What cannot be named stays as file and offset.
    ///
    /// Returns a warning for each file that could not be looked into, the first time that it is met, and the same
    /// warning once.
    pub fn symbolize(&mut self, profile: &mut Profile, modules: &Modules) -> Vec<Error> {
        let mut functions = Functions::starting_with(std::mem::take(&mut profile.functions));
        let mut warnings = Vec::new();
        let mut perf_maps_left = MAX_PERF_MAPS;
        for (source, places) in places(profile, modules) {
            let mut unknown = Vec::new();
            for (index, offset) in places {
                match self.known.get(source.number(), offset) {
                    Some(names) => set(profile, index, functions.frames(names)),
                    None => unknown.push((index, offset)),
                }
            }
            if unknown.is_empty() || self.failed.contains(&source) {
                continue;
            }
            let mut offsets: Vec<u64> = unknown.iter().map(|&(_, offset)| offset).collect();
            offsets.sort_unstable();
            offsets.dedup();
            let name = name_of(profile, source, &unknown);
            let found = self.find(source, modules, &name, &offsets, &mut perf_maps_left);
            match found {
                Ok(names) => {
                    for (index, offset) in unknown {
                        let at = offsets.binary_search(&offset).ok();
                        if let Some(names) = at.and_then(|at| names.get(at)) {
                            set(profile, index, functions.frames(names));
                        }
                    }
                    // Code that is made at run time may be made anew.
                    if !matches!(source, Source::PerfMap(_)) {
                        for (&offset, names) in offsets.iter().zip(&names) {
                            self.known.insert(source.number(), offset, names);
                        }
                    }
                }
                Err((action, cause)) => {
                    self.failed.insert(source);
                    let action = format!("{action} {}", name.escape_debug());
                    if self.is_news(format!("{action}: {cause}")) {
                        warnings.push(Error::Symbolize {
                            action,
                            source: cause,
                        });
                    }
                }
            }
        }
        self.lookup.settle();
        // Numbers of files are not used again.
        self.failed.retain(|source| match source {
            Source::Kernel | Source::Vdso => true,
            Source::PerfMap(module) | Source::File(module) => modules.file(*module).is_some(),
        });
        profile.functions = functions.into_list();
        warnings
    }

    /// Whether this was not told before. A file that is replaced again and again is a new one each time.
    fn is_news(&mut self, warning: String) -> bool {
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert(warning)
    }

    /// Looks up offsets in rising order.
    fn find(
        &mut self,
        source: Source,
        modules: &Modules,
        name: &str,
        offsets: &[u64],
        perf_maps_left: &mut u64,
    ) -> Found {
        match source {
            Source::Kernel => in_kernel(offsets),
            Source::PerfMap(module) => {
                let limit = MAX_PERF_MAP.min(*perf_maps_left);
                let file = modules.file(module).ok_or_else(closed)?;
                let size = file.metadata().map_or(0, |metadata| metadata.len());
                *perf_maps_left -= size.min(limit);
                reopened(file)
                    .and_then(|file| addresses::perf_map(BufReader::new(file), limit, offsets))
                    .map_err(|error| ("read", error.into()))
            }
            Source::File(module) => {
                let file = modules.file(module).ok_or_else(closed)?;
                in_file(&mut self.lookup, source, file, Path::new(name), offsets)
            }
            Source::Vdso => {
                if self.vdso.is_none() {
                    self.vdso = Some(vdso_as_file().map_err(|error| ("copy", error.into()))?);
                }
                let file = self.vdso.as_ref().ok_or_else(closed)?;
                in_file(&mut self.lookup, source, file, Path::new(name), offsets)
            }
        }
    }
}

/// The places of a profile by who knows their names.
fn places(profile: &Profile, modules: &Modules) -> BTreeMap<Source, Vec<Place>> {
    let mut places: BTreeMap<Source, Vec<Place>> = BTreeMap::new();
    for (index, location) in profile.locations.iter().enumerate() {
        let Some(mapping) = location
            .mapping
            .and_then(|mapping| profile.mappings.get(mapping))
        else {
            continue;
        };
        let offset = mapping.file_offset(location.address);
        let (source, offset) = match mapping.module {
            Some(module) if modules.is_perf_map(module) => {
                (Source::PerfMap(module), location.address)
            }
            Some(module) => (Source::File(module), offset),
            None if mapping.name == KERNEL => (Source::Kernel, location.address),
            None if mapping.name == VDSO => (Source::Vdso, offset),
            None => continue,
        };
        places.entry(source).or_default().push((index, offset));
    }
    places
}

fn set(profile: &mut Profile, index: usize, frames: Vec<crate::profile::Frame>) {
    if let Some(location) = profile.locations.get_mut(index) {
        location.frames = frames;
    }
}

/// How a source is called in a warning, and where its file is.
fn name_of(profile: &Profile, source: Source, places: &[Place]) -> String {
    if let Source::PerfMap(_) = source {
        return "the perf map of a process".to_owned();
    }
    let mapping = places
        .first()
        .and_then(|&(index, _)| profile.locations.get(index)?.mapping)
        .and_then(|mapping| profile.mappings.get(mapping));
    mapping.map_or_else(String::new, |mapping| mapping.name.clone())
}

fn closed() -> (&'static str, Cause) {
    ("open", io::Error::from(io::ErrorKind::NotFound).into())
}

fn in_kernel(offsets: &[u64]) -> Found {
    match kernel::names(offsets) {
        Ok(Some(names)) => Ok(names),
        Ok(None) => Err((
            "find functions in",
            "the kernel hides its addresses: needs CAP_BPF and CAP_PERFMON, CAP_SYSLOG, or kernel.kptr_restrict=0".into(),
        )),
        Err(error) => Err(("find functions in", error.into())),
    }
}

/// The functions at offsets of an ELF file: first by everything it has, and if that ends badly, by the symbol table.
fn in_file(
    lookup: &mut Lookup,
    source: Source,
    file: &File,
    path: &Path,
    offsets: &[u64],
) -> Found {
    let mut attempt = |tables_only, time| -> Result<Vec<Vec<Named>>, Lost> {
        let end = Instant::now() + time;
        let mut names = Vec::with_capacity(offsets.len());
        for some in offsets.chunks(PLACES_AT_ONCE) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Lost::TooSlow);
            }
            names.extend(lookup.names(source.number(), file, path, some, tables_only, left)?);
        }
        Ok(names)
    };
    let lost = match attempt(false, MAX_TIME) {
        Ok(names) => return Ok(names),
        Err(lost) => lost,
    };
    let malformed = Lost::Failure(Failure::Malformed);
    if (matches!(lost, Lost::TooSlow | Lost::Ended(_)) || lost == malformed)
        && let Ok(names) = attempt(true, MAX_TIME_TABLES)
    {
        return Ok(names);
    }
    let action = match lost {
        Lost::Failure(Failure::Copy(_)) => "copy",
        _ => "find functions in",
    };
    Err((action, lost.into()))
}

/// Opened anew, so that the position of the original does not matter.
fn reopened(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn vdso_as_file() -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&own_vdso())?;
    Ok(file)
}

#[cfg(test)]
mod tests;
