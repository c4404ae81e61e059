//! Names for the places in a profile: functions, also inlined ones, with file and line.
//!
//! Each file is looked up in a private copy of the file that was open since the recording. The library
//! that reads debug information maps files into memory; a program that truncates its own file
//! meanwhile would kill the reader, and a copy cannot be truncated by anybody else.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{self, Input, Sym, Symbolized};

use crate::error::Error;
use crate::process::{ModuleId, Modules};
use crate::profile::{Frame, Function, Profile};

/// Largest file that is looked into. The debug information of large programs is some hundred megabytes.
const MAX_FILE_SIZE: u64 = 1 << 30;

/// Names places, one profile after another.
#[derive(Debug, Default)]
pub struct Symbolizer {}

impl Symbolizer {
    /// Nothing looked up yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the locations of a profile. What cannot be named stays as file and offset.
    ///
    /// Returns one warning for each file that could not be looked into.
    pub fn symbolize(&mut self, profile: &mut Profile, modules: &Modules) -> Vec<Error> {
        symbolize(profile, modules)
    }
}

/// Names the locations of a profile. What cannot be named stays as file and offset.
///
/// Returns one warning for each file that could not be looked into.
pub fn symbolize(profile: &mut Profile, modules: &Modules) -> Vec<Error> {
    let mut by_module: BTreeMap<ModuleId, Vec<(usize, u64)>> = BTreeMap::new();
    for (index, location) in profile.locations.iter().enumerate() {
        let mapping = location
            .mapping
            .and_then(|mapping| profile.mappings.get(mapping));
        if let Some((mapping, module)) =
            mapping.and_then(|mapping| Some((mapping, mapping.module?)))
        {
            by_module
                .entry(module)
                .or_default()
                .push((index, mapping.file_offset(location.address)));
        }
    }
    let mut functions = Functions::starting_with(std::mem::take(&mut profile.functions));
    let mut warnings = Vec::new();
    for (module, places) in by_module {
        let Some(file) = modules.file(module) else {
            continue;
        };
        let offsets: Vec<u64> = places.iter().map(|&(_, offset)| offset).collect();
        match names(file, &offsets, &mut functions) {
            Ok(named) => {
                for (&(index, _), frames) in places.iter().zip(named) {
                    if let Some(location) = profile.locations.get_mut(index) {
                        location.frames = frames;
                    }
                }
            }
            Err((action, source)) => {
                let mapping = profile
                    .mappings
                    .iter()
                    .find(|mapping| mapping.module == Some(module));
                let name = mapping
                    .map_or("", |mapping| mapping.name.as_str())
                    .escape_debug();
                warnings.push(Error::Symbolize {
                    action: format!("{action} {name}"),
                    source,
                });
            }
        }
    }
    profile.functions = functions.list;
    warnings
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The functions at each of the file offsets, innermost first.
fn names(
    file: &File,
    offsets: &[u64],
    functions: &mut Functions,
) -> Result<Vec<Vec<Frame>>, (&'static str, Cause)> {
    let copy = private_copy(file).map_err(|error| ("copy", error.into()))?;
    let with_debug_syms = |debug_syms| {
        let mut elf = Elf::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        elf.debug_syms = debug_syms;
        Source::Elf(elf)
    };
    let (table, debug) = (with_debug_syms(false), with_debug_syms(true));
    let symbolizer = symbolize::Symbolizer::new();
    let from_table = symbolizer.symbolize(&table, Input::FileOffset(offsets));
    let symbols = match (
        symbolizer.symbolize(&debug, Input::FileOffset(offsets)),
        &from_table,
    ) {
        (Ok(symbols), _) => symbols,
        // The symbol table may be good where the debug information is not understood.
        (Err(_), Ok(table)) if table.iter().any(|symbol| symbol.as_sym().is_some()) => {
            table.clone()
        }
        (Err(error), _) => return Err(("find functions in", error.into())),
    };
    let from_table = from_table.unwrap_or_default();
    Ok(symbols
        .iter()
        .enumerate()
        .map(|(index, symbol)| match symbol {
            Symbolized::Sym(symbol) => {
                let in_table = from_table.get(index).and_then(Symbolized::as_sym);
                functions.frames(symbol, in_table.map(|symbol| symbol.name.as_ref()))
            }
            Symbolized::Unknown(_) => Vec::new(),
        })
        .collect())
}

/// An unnamed temporary file with the same contents.
fn private_copy(file: &File) -> io::Result<File> {
    if file.metadata()?.len() > MAX_FILE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 1 GiB",
        ));
    }
    // Opened anew, so that the position of the original does not matter.
    let original = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut copy = tempfile::tempfile()?;
    io::copy(&mut original.take(MAX_FILE_SIZE), &mut copy)?;
    Ok(copy)
}

/// The functions seen so far, each once.
#[derive(Default)]
struct Functions {
    list: Vec<Function>,
    indices: HashMap<Function, usize>,
}

impl Functions {
    fn starting_with(list: Vec<Function>) -> Self {
        let indices = list.iter().cloned().zip(0..).collect();
        Self { list, indices }
    }

    /// The frames of one place: blazesym names the outermost function, then what was inlined into it.
    fn frames(&mut self, symbol: &Sym<'_>, in_table: Option<&str>) -> Vec<Frame> {
        // Debug information with nothing but lines has no paths, which the symbol table has.
        let name = match in_table {
            Some(path) if path.contains("::") && !symbol.name.contains("::") => path,
            _ => &symbol.name,
        };
        let mut frames = Vec::with_capacity(symbol.inlined.len() + 1);
        frames.push(self.frame(name, symbol.code_info.as_deref()));
        for inlined in &symbol.inlined {
            frames.push(self.frame(&inlined.name, inlined.code_info.as_ref()));
        }
        frames.reverse();
        frames
    }

    fn frame(&mut self, name: &str, code: Option<&symbolize::CodeInfo<'_>>) -> Frame {
        let function = Function {
            name: name.to_owned(),
            file: code
                .map(|code| code.to_path().to_string_lossy().into_owned())
                .unwrap_or_default(),
        };
        let index = match self.indices.get(&function) {
            Some(&index) => index,
            None => {
                self.list.push(function.clone());
                self.indices.insert(function, self.list.len() - 1);
                self.list.len() - 1
            }
        };
        Frame {
            function: index,
            line: code.and_then(|code| code.line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::profile::{Aggregator, Settings};
    use crate::sample::{Event, Sample};

    #[inline(never)]
    fn a_function_with_a_name_of_its_own() -> u32 {
        std::hint::black_box(7)
    }

    fn profile_of(stack: Vec<u64>) -> (Profile, Modules) {
        let mut aggregator = Aggregator::new(Settings {
            period_ns: 1,
            trace_label: String::new(),
            span_label: String::new(),
        });
        aggregator.event(Event::Sample(Sample {
            pid: std::process::id(),
            user_stack: stack,
            ..Sample::default()
        }));
        aggregator.finish(SystemTime::now(), Duration::ZERO, 0)
    }

    #[test]
    fn functions_of_this_test_are_named() {
        assert_eq!(a_function_with_a_name_of_its_own(), 7);
        let leaf = a_function_with_a_name_of_its_own as fn() -> u32 as usize as u64;
        let caller = functions_of_this_test_are_named as fn() as usize as u64;
        // A return address right at the start of a function belongs to whatever is before it.
        let (mut profile, modules) = profile_of(vec![leaf, caller + 1, 0x10, caller]);
        let warnings = symbolize(&mut profile, &modules);
        assert!(warnings.is_empty(), "{warnings:?}");

        let names: Vec<_> = profile
            .locations
            .iter()
            .map(|location| profile.names(location))
            .collect();
        let stack: Vec<_> = profile.stacks[0]
            .iter()
            .map(|&location| names[location].join(" < "))
            .collect();
        let module = module_path!();
        assert_eq!(
            stack[0],
            format!("{module}::a_function_with_a_name_of_its_own")
        );
        assert_eq!(
            stack[1],
            format!("{module}::functions_of_this_test_are_named")
        );
        assert_eq!(stack[2], "[unknown] 0xf");
        assert_ne!(stack[3], stack[1]);

        let frame = &profile.locations[profile.stacks[0][0]].frames[0];
        assert!(
            profile.functions[frame.function]
                .file
                .ends_with("symbolize.rs")
        );
        assert!(frame.line.is_some());
    }

    #[test]
    fn a_file_that_is_no_program_is_a_warning() {
        let mut functions = Functions::default();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"no program at all").unwrap();
        assert!(names(&file, &[0], &mut functions).is_err());
        file.set_len(MAX_FILE_SIZE + 1).unwrap();
        let (action, cause) = names(&file, &[0], &mut functions).unwrap_err();
        assert_eq!(
            (action, cause.to_string().as_str()),
            ("copy", "the file is larger than 1 GiB")
        );
    }
}
