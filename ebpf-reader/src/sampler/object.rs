//! The object file of the kernel side: fitted to the running kernel and loaded.
//!
//! The crate `aya-obj` takes the file apart and relocates it, and `aya` makes the maps. What is done here instead of
//! by aya's own loader: it gives the former no more of the kernel's types than the programs refer to. See ADR 13.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::maps::{Map, MapData};
use aya_obj::btf::Btf;
use aya_obj::{EbpfSectionKind, ProgramSection};

use super::kernel_types;
use super::privileges;
use super::programs::{bpf, errno};
use crate::error::Error;
use crate::sys::bpf::{self as kernel, ProgramKind, ProgramSource, Records, Refused};

/// Description of the kernel's types, by which the kernel side is fitted to it.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The kernel side: its maps are in the kernel, its programs are fitted and can be loaded.
pub(super) struct Object {
    parsed: aya_obj::Object,
    maps: HashMap<String, MapData>,
    /// The programs' own types, known to the kernel.
    types: Option<OwnedFd>,
}

impl Object {
    /// Fits an object file to the kernel and makes its maps. `constants` replaces the values of variables that no
    /// program writes to, `max_entries` the sizes of maps.
    pub(super) fn fit(
        bytes: &[u8],
        constants: &[(&str, u32)],
        max_entries: &[(&str, u32)],
    ) -> Result<Self, Error> {
        let mut parsed = aya_obj::Object::parse(bytes).map_err(failed("parse"))?;
        let constants: Vec<_> = constants
            .iter()
            .map(|&(name, value)| (name, value.to_ne_bytes()))
            .collect();
        let values = constants
            .iter()
            .map(|(name, value)| (*name, (&value[..], true)));
        parsed
            .patch_map_data(values.collect())
            .map_err(failed("set constants in"))?;
        let kernel_types = kernel_types(&parsed)?;
        let features = aya::features();
        // Before what older kernels do not know in it is replaced, the names of types have been looked up.
        let types = match features.btf() {
            Some(features) => parsed
                .fixup_and_sanitize_btf(features)
                .map_err(failed("fit the types of"))?,
            None => None,
        };
        let types = types
            .map(|types| kernel::load_types(&types.to_bytes()))
            .transpose()
            .map_err(failed("load the types of"))?;
        parsed.relocate_btf(&kernel_types).map_err(failed("fit"))?;

        let mut maps = HashMap::new();
        for (name, mut definition) in std::mem::take(&mut parsed.maps) {
            if let Some(&(_, entries)) = max_entries.iter().find(|&&(map, _)| map == name) {
                definition.set_max_entries(entries);
            }
            let map = create_map(&name, &definition, types.as_ref())?;
            maps.insert(name, (definition, map));
        }
        let sections = parsed
            .functions
            .keys()
            .map(|&(section, _)| section)
            .collect();
        let numbered = maps.iter().map(|(name, (definition, map))| {
            (name.as_str(), map.fd().as_fd().as_raw_fd(), definition)
        });
        parsed
            .relocate_maps(numbered, &sections)
            .map_err(failed("link the maps of"))?;
        parsed.relocate_calls(&sections).map_err(failed("link"))?;
        parsed.sanitize_functions(features);
        let maps = maps
            .into_iter()
            .map(|(name, (_, map))| (name, map))
            .collect();
        Ok(Self {
            parsed,
            maps,
            types,
        })
    }

    /// A map, for good. It has to stay open until all programs are loaded.
    pub(super) fn take_map(&mut self, name: &str) -> Result<Map, Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the eBPF object has no such map");
        let map = self.maps.remove(name).ok_or_else(missing);
        let map = map.map_err(|error| bpf(format!("find the map {name}"), error))?;
        Map::from_map_data(map).map_err(|error| bpf(format!("open the map {name}"), error))
    }

    /// Has the kernel check a program.
    pub(super) fn load_program(&self, name: &str) -> Result<OwnedFd, Error> {
        let found = self.parsed.programs.get(name).and_then(|program| {
            let kind = match program.section {
                ProgramSection::PerfEvent => ProgramKind::PerfEvent,
                ProgramSection::RawTracePoint => ProgramKind::RawTracepoint,
                _ => return None,
            };
            let function = self.parsed.functions.get(&program.function_key())?;
            Some((kind, program, function))
        });
        let Some((kind, program, function)) = found else {
            let error = io::Error::new(
                io::ErrorKind::NotFound,
                "the eBPF object has no such program",
            );
            return Err(bpf(format!("find the program {name}"), error));
        };
        let functions = function.func_info.func_info_bytes();
        let lines = function.line_info.line_info_bytes();
        let records = |bytes, size| Records { bytes, size };
        kernel::load_program(&ProgramSource {
            kind,
            name,
            license: &program.license,
            instructions: &function.instructions,
            types: self.types.as_ref().map(|types| {
                (
                    types.as_fd(),
                    records(&functions, function.func_info_rec_size),
                    records(&lines, function.line_info_rec_size),
                )
            }),
        })
        .map_err(|refused| refusal(name, refused))
    }
}

/// What the programs refer to of the kernel's types.
fn kernel_types(object: &aya_obj::Object) -> Result<Btf, Error> {
    let kernel = fs::read(KERNEL_TYPES).map_err(|error| Error::Unsupported {
        what: "sampling with eBPF".to_owned(),
        why: format!(
            "{KERNEL_TYPES} cannot be read ({error}): the kernel needs CONFIG_DEBUG_INFO_BTF"
        ),
    })?;
    let own = object.btf.as_ref().map(Btf::to_bytes).unwrap_or_default();
    let types = kernel_types::cut_out(&kernel, &own)
        .map_err(|error| bpf(format!("read {KERNEL_TYPES}"), error))?;
    Btf::parse(&types, object.endianness)
        .map_err(|error| bpf(format!("read {KERNEL_TYPES}"), error))
}

fn create_map(
    name: &str,
    definition: &aya_obj::Map,
    types: Option<&OwnedFd>,
) -> Result<MapData, Error> {
    let map = MapData::create(definition.clone(), name, types.map(OwnedFd::as_fd))
        .map_err(failed("make the maps of"))?;
    if !definition.data().is_empty() {
        kernel::fill(&map, definition.data()).map_err(failed("fill the maps of"))?;
    }
    // Only then does the verifier leave out what a constant excludes.
    if definition.section_kind() == EbpfSectionKind::Rodata {
        kernel::freeze(&map).map_err(failed("freeze the constants of"))?;
    }
    Ok(map)
}

/// Turns what went wrong into this crate's error.
fn failed<E: StdError + Send + Sync + 'static>(verb: &str) -> impl Fn(E) -> Error {
    move |error| {
        let refused =
            errno(&error).and_then(|cause| privileges::refused("load eBPF programs", cause));
        refused.unwrap_or_else(|| bpf(format!("{verb} the eBPF object"), error))
    }
}

fn refusal(name: &str, refused: Refused) -> Error {
    let action = format!("load the eBPF program {name}");
    // The log has thousands of lines; its conclusion is at the end.
    let conclusion = refused
        .log
        .lines()
        .rfind(|line| !line.starts_with("processed ") && !line.trim().is_empty());
    match conclusion {
        // Whatever the number of its error: the verifier is asked after the privileges.
        Some(conclusion) => bpf(format!("{action} ({conclusion})"), refused.error),
        None => privileges::refused(&action, &refused.error)
            .unwrap_or_else(|| bpf(format!("{action} (no verifier log)"), refused.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::programs::OBJECT;
    use super::*;

    #[test]
    fn what_the_verifier_says_is_told_and_is_no_want_of_privileges() {
        let told = |number, log: &str| {
            let error = io::Error::from_raw_os_error(number);
            let log = log.to_owned();
            refusal("on_fork", Refused { error, log }).to_string()
        };
        let log = "0: R1=ctx()\ninvalid mem access 'scalar'\nprocessed 1 insns\n\n";
        for number in [libc::EACCES, libc::EPERM, libc::EINVAL] {
            let told = told(number, log);
            assert!(
                told.contains("on_fork (invalid mem access 'scalar')"),
                "{told}"
            );
            assert!(!told.contains("CAP_BPF"), "{told}");
        }
        assert!(told(libc::EPERM, "").contains("CAP_BPF"));
        assert!(told(libc::EINVAL, "").contains("no verifier log"));
    }

    #[test]
    fn the_part_of_the_types_fits_as_the_whole_does() {
        let parse = || aya_obj::Object::parse(OBJECT).unwrap();
        let Ok(whole) = Btf::from_sys_fs() else {
            eprintln!("skipped: the kernel does not describe its types");
            return;
        };
        let part = kernel_types(&parse()).unwrap();
        let (size, size_of_whole) = (part.to_bytes().len(), whole.to_bytes().len());
        assert!(size < size_of_whole / 10, "{size} of {size_of_whole}");

        let fitted = |types| {
            let mut object = parse();
            object.relocate_btf(types).unwrap();
            object
        };
        let (by_part, by_whole) = (fitted(&part), fitted(&whole));
        let mut changed = 0;
        for (key, function) in &by_whole.functions {
            let bytes = |object: &aya_obj::Object| {
                let instructions = &object.functions[key].instructions;
                let code = instructions.iter().map(|one| (one.code, one.off, one.imm));
                code.collect::<Vec<_>>()
            };
            assert_eq!(bytes(&by_part), bytes(&by_whole), "{}", function.name);
            changed += usize::from(bytes(&by_part) != bytes(&parse()));
        }
        assert!(changed > 0, "the programs refer to the kernel's types");
    }
}
