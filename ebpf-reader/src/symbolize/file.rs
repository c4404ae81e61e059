//! Functions at places of one ELF file, by its debug information and its symbol table.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{self, CodeInfo, Input, Sym, Symbolized};
use serde::{Deserialize, Serialize};

use super::copy::{disarm, private_copy, segments};
use super::debug_file;

/// Longest name and path that are kept, in bytes.
const MAX_NAME: usize = 2048;

/// Addresses in files are lower.
const MAX_ADDRESS: u64 = 1 << 62;

/// Functions that were inlined into each other at one place.
const MAX_INLINED: usize = 64;

/// One function at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    /// The source file, or nothing.
    pub(super) file: String,
    pub(super) line: Option<u32>,
}

/// Why a file could not be looked into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Copy(String),
    #[error("{0}")]
    Find(String),
    #[error("its symbols are malformed")]
    Malformed,
}

/// A file that is looked into.
#[derive(Debug)]
pub(super) struct SymbolFile {
    symbolizer: symbolize::Symbolizer,
    /// Offset, address and size of what is loaded.
    segments: Vec<(u64, u64, u64)>,
    copy: File,
    /// Debug information in a file of its own.
    debug: Option<File>,
    /// Size of the files, a measure of what the look-ups keep in memory.
    size: u64,
}

impl SymbolFile {
    /// Prepares the look-up. `path` is where the process found the file.
    pub(super) fn open(file: &File, path: &Path) -> Result<Self, Failure> {
        Self::open_with(Path::new(debug_file::FOLDER), file, path)
    }

    fn open_with(folder: &Path, file: &File, path: &Path) -> Result<Self, Failure> {
        let copy = private_copy(file).map_err(|error| Failure::Copy(error.to_string()))?;
        let debug = debug_file::find(folder, &copy, path);
        disarm(&copy);
        let size_of = |file: &File| file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self {
            symbolizer: symbolize::Symbolizer::new(),
            segments: segments(&copy),
            size: size_of(&copy) + debug.as_ref().map_or(0, size_of),
            copy,
            debug,
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The functions at each of the file offsets, innermost first; nothing for those that are not known.
    pub(super) fn names(
        &self,
        offsets: &[u64],
        tables_only: bool,
    ) -> Result<Vec<Vec<Named>>, Failure> {
        let addresses: Vec<Option<u64>> =
            offsets.iter().map(|&offset| self.address(offset)).collect();
        let inside: Vec<u64> = addresses.iter().flatten().copied().collect();
        let mut names = self.names_at(&inside, tables_only)?.into_iter();
        let place = |address: Option<u64>| address.and_then(|_| names.next());
        Ok(addresses
            .into_iter()
            .map(place)
            .map(Option::unwrap_or_default)
            .collect())
    }

    /// The same by address in the file's own address space.
    fn names_at(&self, addresses: &[u64], tables_only: bool) -> Result<Vec<Vec<Named>>, Failure> {
        let file = self.debug.as_ref().unwrap_or(&self.copy);
        let mut named = self.names_in(file, addresses, tables_only)?;
        if self.debug.is_some() && named.iter().any(Vec::is_empty) {
            // What the linker has added may be named in the program alone.
            let own = self.names_in(&self.copy, addresses, true);
            for (found, own) in named.iter_mut().zip(own.unwrap_or_default()) {
                if found.is_empty() {
                    *found = own;
                }
            }
        }
        Ok(named)
    }

    fn address(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|&(start, address, size)| {
            let from_start = offset.checked_sub(start)?;
            let address = address.checked_add(from_start)?;
            // The library computes with addresses and does not expect the last ones.
            (from_start < size && address < MAX_ADDRESS).then_some(address)
        })
    }

    fn names_in(
        &self,
        file: &File,
        addresses: &[u64],
        tables_only: bool,
    ) -> Result<Vec<Vec<Named>>, Failure> {
        let look_up = |debug_syms| {
            let mut elf = Elf::new(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
            elf.debug_syms = debug_syms;
            self.symbolizer
                .symbolize(&Source::Elf(elf), Input::VirtOffset(addresses))
        };
        let from_table = look_up(false);
        let from_debug = if tables_only {
            None
        } else {
            Some(look_up(true))
        };
        let symbols = match (from_debug, &from_table) {
            (Some(Ok(symbols)), _) => symbols,
            // The symbol table may be good where the debug information is not understood.
            (Some(Err(_)), Ok(table)) if table.iter().any(|symbol| symbol.as_sym().is_some()) => {
                table.clone()
            }
            (None, Ok(table)) => table.clone(),
            (Some(Err(error)), _) => return Err(Failure::Find(one_line(&error))),
            (None, Err(error)) => return Err(Failure::Find(one_line(error))),
        };
        let from_table = from_table.unwrap_or_default();
        Ok(symbols
            .iter()
            .enumerate()
            .map(|(index, symbol)| match symbol {
                Symbolized::Sym(symbol) => {
                    let in_table = from_table.get(index).and_then(Symbolized::as_sym);
                    functions(symbol, in_table.map(|symbol| symbol.name.as_ref()))
                }
                Symbolized::Unknown(_) => Vec::new(),
            })
            .collect())
    }
}

fn one_line(error: &blazesym::Error) -> String {
    error.to_string().replace('\n', " ")
}

/// The functions of one place, innermost first: the library names the outermost one, then what was inlined into it.
fn functions(symbol: &Sym<'_>, in_table: Option<&str>) -> Vec<Named> {
    // Debug information with nothing but lines has no paths, which the symbol table has.
    let name = match in_table {
        Some(path) if path.contains("::") && !symbol.name.contains("::") => path,
        _ => &symbol.name,
    };
    let mut functions = vec![named(name, symbol.code_info.as_deref())];
    let inlined = symbol.inlined.iter().take(MAX_INLINED);
    functions.extend(inlined.map(|inlined| named(&inlined.name, inlined.code_info.as_ref())));
    functions.reverse();
    functions
}

fn named(name: &str, code: Option<&CodeInfo<'_>>) -> Named {
    let file = code.map(|code| code.to_path().to_string_lossy().into_owned());
    Named {
        name: shortened(name).to_owned(),
        file: shortened(&file.unwrap_or_default()).to_owned(),
        line: code.and_then(|code| code.line),
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=MAX_NAME.min(text.len())).rfind(|&end| text.is_char_boundary(end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use super::*;
    use crate::symbolize::copy::contents;

    /// A function that is inlined into another one, in a program without symbols; they are in a file of their own.
    #[test]
    fn a_stripped_program_has_the_names_of_its_debug_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let source = "volatile int sink;\n\
            static inline __attribute__((always_inline)) void inner(void) { sink += 1; }\n\
            __attribute__((noinline)) void outer(void) {\n    inner();\n}\n\
            int main(void) { outer(); return 0; }\n";
        std::fs::write(path("p.c"), source).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let status = command.args(arguments).current_dir(folder.path()).status();
            status.is_ok_and(|status| status.success())
        };
        std::fs::create_dir_all(path("debug/opt")).unwrap();
        if !run(
            "cc",
            &["-O1", "-g", "-Wl,--build-id=none", "-o", "p", "p.c"],
        ) || !run("objcopy", &["--only-keep-debug", "p", "debug/opt/p.debug"])
        {
            eprintln!("skipped: needs cc and objcopy");
            return;
        }
        let whole = File::open(path("p")).unwrap();
        let symbols = SymbolFile::open(&whole, Path::new("/opt/p")).unwrap();
        let (start, _, size) = symbols.segments[1];
        let places: Vec<u64> = (start..start + size).collect();
        let expected = symbols.names(&places, false).unwrap();
        let inlined = |names: &[Named]| {
            names.len() == 2 && names[0].name == "inner" && names[1].name == "outer"
        };
        let at = expected.iter().position(|names| inlined(names)).unwrap();
        assert_eq!(expected[at][1].line, Some(4));
        assert!(expected[at][1].file.ends_with("p.c"));

        std::fs::copy(path("p"), path("stripped")).unwrap();
        let link = "--add-gnu-debuglink=debug/opt/p.debug";
        assert!(run("objcopy", &["-S", link, "stripped"]));
        let stripped = File::open(path("stripped")).unwrap();
        if stripped.metadata().unwrap().uid() != 0 {
            eprintln!("skipped: needs root: only files of root's are taken");
            return;
        }
        let symbols =
            SymbolFile::open_with(&path("debug"), &stripped, Path::new("/opt/p")).unwrap();
        assert!(symbols.debug.is_some());
        assert_eq!(
            symbols.names(&places[at..=at], false).unwrap()[0],
            expected[at]
        );
        // The library sees no link that it could follow.
        assert!(contents(&stripped, b".gnu_debuglink", 4096).is_some());
        assert!(contents(&symbols.copy, b".gnu_debuglink", 4096).is_none());
        let without = SymbolFile::open(&stripped, Path::new("/opt/p")).unwrap();
        assert!(without.debug.is_none());
        assert_ne!(
            without.names(&places[at..=at], false).unwrap()[0],
            expected[at]
        );
    }
}
