use std::time::{Duration, SystemTime};

use super::*;
use crate::process::Maps;
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
    let mut symbolizer = Symbolizer::new();
    let warnings = symbolizer.symbolize(&mut profile, &modules);
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
            .ends_with("symbolize/tests.rs")
    );
    assert!(frame.line.is_some());
}

/// A profile with one sample for each of the addresses in this process.
fn profile_here(addresses: &[u64]) -> (Profile, Modules) {
    profile_of(addresses.to_vec())
}

fn names(profile: &Profile) -> Vec<String> {
    let names = |location| profile.names(location).join(" < ");
    profile.locations.iter().map(names).collect()
}

#[test]
fn what_was_found_is_remembered() {
    let leaf = a_function_with_a_name_of_its_own as fn() -> u32 as usize as u64;
    let (mut first, modules) = profile_here(&[leaf]);
    let mut second = first.clone();
    let mut symbolizer = Symbolizer::new();
    symbolizer.symbolize(&mut first, &modules);
    // The file is not there any more; what is known of it is.
    symbolizer.symbolize(&mut second, &Modules::default());
    assert_eq!(names(&first), names(&second));
    assert!(names(&first)[0].ends_with("a_function_with_a_name_of_its_own"));
}

#[test]
fn the_kernels_own_code_in_a_process_is_named() {
    let maps = Maps::read(std::process::id()).unwrap();
    let Some(vdso) = maps.iter().find(|mapping| mapping.name == VDSO) else {
        return;
    };
    // Somewhere in it is the clock.
    let addresses: Vec<u64> = (vdso.start..vdso.end).step_by(64).collect();
    let (mut profile, modules) = profile_here(&addresses);
    let mapping = &profile.mappings[0];
    assert_eq!(mapping.name, VDSO);
    assert_eq!(mapping.build_id, crate::process::vdso_build_id());
    let warnings = Symbolizer::new().symbolize(&mut profile, &modules);
    assert!(warnings.is_empty(), "{warnings:?}");
    let clock = |name: &String| name.contains("clock_gettime");
    assert!(names(&profile).iter().any(clock), "{:?}", names(&profile));
}

#[test]
fn kernel_frames_are_named_or_the_missing_privilege_is() {
    let list = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let known = list.lines().find(|line| line.ends_with(" T schedule"));
    let address = known.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
    let address = address.unwrap_or(0);
    let mut aggregator = Aggregator::new(Settings {
        period_ns: 1,
        trace_label: String::new(),
        span_label: String::new(),
    });
    aggregator.event(Event::Sample(Sample {
        pid: std::process::id(),
        kernel_stack: vec![address.max(1 << 63) + 1],
        ..Sample::default()
    }));
    let (mut profile, modules) = aggregator.finish(SystemTime::now(), Duration::ZERO, 0);
    let build_id = crate::process::kernel_build_id();
    assert_eq!(profile.mappings[0].build_id, build_id);
    let warnings = Symbolizer::new().symbolize(&mut profile, &modules);
    if address == 0 {
        let warning = warnings.first().unwrap().one_line();
        assert!(
            warning.contains("CAP_SYSLOG") && warning.contains(KERNEL),
            "{warning}"
        );
    } else {
        assert_eq!(names(&profile), ["schedule"]);
    }
}

/// A profile with a mapping of a file that this test has made.
fn profile_of_file(contents: &[u8]) -> (Profile, Modules, tempfile::NamedTempFile) {
    use std::os::unix::fs::MetadataExt as _;

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    let metadata = file.as_file().metadata().unwrap();
    let mapping = crate::process::Mapping {
        start: 0x1000,
        end: 0x2000,
        executable: true,
        inode: metadata.ino(),
        name: file.path().to_str().unwrap().to_owned(),
        ..crate::process::Mapping::default()
    };
    let mut modules = Modules::default();
    let module = modules.open(std::process::id(), &mapping);
    assert!(module.is_some());
    let profile = Profile {
        mappings: vec![crate::profile::Mapping {
            start: 0x1000,
            end: 0x2000,
            offset: 0,
            name: mapping.name,
            module,
            build_id: None,
        }],
        locations: vec![crate::profile::Location {
            mapping: Some(0),
            address: 0x1100,
            frames: Vec::new(),
        }],
        ..Profile::default()
    };
    (profile, modules, file)
}

#[test]
fn a_file_that_is_no_program_is_a_warning_once() {
    let (mut profile, modules, file) = profile_of_file(b"no program at all");
    let mut symbolizer = Symbolizer::new();
    let warnings = symbolizer.symbolize(&mut profile, &modules);
    assert_eq!(warnings.len(), 1);
    let name = file.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(names(&profile), [format!("{name}+0x100")]);
    assert!(symbolizer.symbolize(&mut profile, &modules).is_empty());

    file.as_file().set_len(copy::MAX_FILE_SIZE + 1).unwrap();
    let warnings = Symbolizer::new().symbolize(&mut profile, &modules);
    assert_eq!(
        warnings[0].one_line(),
        format!(
            "cannot copy {}: the file is larger than 1 GiB",
            file.path().display()
        )
    );
}

#[test]
fn the_same_warning_is_told_once() {
    let (profile, modules, _file) = profile_of_file(b"not an ELF file");
    let mut symbolizer = Symbolizer::new();
    let warnings = symbolizer.symbolize(&mut profile.clone(), &modules);
    assert_eq!(warnings.len(), 1);
    // It is gone, and comes again under another number.
    symbolizer.symbolize(&mut Profile::default(), &Modules::default());
    assert!(symbolizer.failed.is_empty());
    let warnings = symbolizer.symbolize(&mut profile.clone(), &modules);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(!symbolizer.failed.is_empty(), "it was looked into");
}
