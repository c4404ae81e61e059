//! Loads what an object file holds: types, contents of maps, programs; and attaches programs to raw tracepoints.
//!
//! The kernel copies what it is given: nothing here needs to outlive a call.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{
    MAP_FREEZE, MAP_UPDATE_ELEM, MapElement, MapFreeze, PROG_LOAD, PROG_TYPE_RAW_TRACEPOINT,
    ProgramLoad, bpf, own,
};

const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BTF_LOAD: libc::c_long = 18;

const PROG_TYPE_PERF_EVENT: u32 = 7;

/// Room for what the verifier says about a program that it refuses: what is usually enough, and the most that it takes.
const LOG_SIZES: [usize; 2] = [1 << 20, (u32::MAX >> 8) as usize];

/// One instruction, or a half of one with a constant of 64 bits.
pub(crate) type Instruction = aya_obj::generated::bpf_insn;

const _: () = assert!(size_of::<Instruction>() == 8);

#[repr(C)]
struct TypesLoad {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

/// What runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramKind {
    PerfEvent,
    RawTracepoint,
}

/// What a program is made from.
pub(crate) struct ProgramSource<'a> {
    pub(crate) kind: ProgramKind,
    /// What tools list it as: letters, digits, `_` and `.`, of which the kernel gets the first 15.
    pub(crate) name: &'a str,
    pub(crate) license: &'a CStr,
    pub(crate) instructions: &'a [Instruction],
    /// The types, and the records in which the functions of the program refer to them.
    pub(crate) types: Option<(BorrowedFd<'a>, Records<'a>, Records<'a>)>,
}

/// Records of one size, in bytes: `struct bpf_func_info` or `struct bpf_line_info`.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) size: usize,
}

impl Records<'_> {
    fn count(self) -> usize {
        self.bytes.len().checked_div(self.size).unwrap_or(0)
    }
}

/// A program that the kernel does not take.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: io::Error,
    /// What the verifier says about it, line by line; empty if it was not asked.
    pub(crate) log: String,
}

/// Has the kernel check a description of types (BTF).
pub(crate) fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let mut argument = TypesLoad {
        types: types.as_ptr().expose_provenance() as u64,
        log: 0,
        size: u32::try_from(types.len()).map_err(io::Error::other)?,
        log_size: 0,
        log_level: 0,
        padding: 0,
    };
    // SAFETY: so many bytes lie there, and are only read.
    let descriptor = unsafe { bpf(BTF_LOAD, &mut argument)? };
    // SAFETY: the descriptor of the new description.
    unsafe { own(descriptor) }
}

/// Writes the first element of an array.
pub(crate) fn fill(map: &aya::maps::MapData, value: &[u8]) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size(), info.value_size() as usize) != (4, value.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let key = 0_u32;
    let mut argument = MapElement {
        map: number(map.fd().as_fd()),
        padding: 0,
        key: std::ptr::from_ref(&key).expose_provenance() as u64,
        value: value.as_ptr().expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: key and value are as long as those of the map, as was just asked, and are only read.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut argument)? };
    Ok(())
}

/// From now on this process cannot write to a map, and the verifier knows what is in it.
pub(crate) fn freeze(map: &aya::maps::MapData) -> io::Result<()> {
    let mut argument = MapFreeze {
        map: number(map.fd().as_fd()),
    };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(MAP_FREEZE, &mut argument)? };
    Ok(())
}

/// Has the kernel check a program. The maps in it live at least as long as it does: the kernel holds them.
pub(crate) fn load_program(source: &ProgramSource<'_>) -> Result<OwnedFd, Refused> {
    let first = match try_load(source, &mut []) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // It takes longer with a log: it is written when there is something to tell.
    for size in LOG_SIZES {
        let mut log = vec![0; size];
        match try_load(source, &mut log) {
            Ok(program) => return Ok(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
            Err(error) => {
                let end = log.iter().position(|&byte| byte == 0);
                log.truncate(end.unwrap_or(size));
                let log = String::from_utf8_lossy(&log).into_owned();
                return Err(Refused { error, log });
            }
        }
    }
    Err(Refused {
        error: first,
        log: String::new(),
    })
}

fn try_load(source: &ProgramSource<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let count = |count: usize| u32::try_from(count).map_err(io::Error::other);
    let mut argument = ProgramLoad {
        program_type: match source.kind {
            ProgramKind::PerfEvent => PROG_TYPE_PERF_EVENT,
            ProgramKind::RawTracepoint => PROG_TYPE_RAW_TRACEPOINT,
        },
        instruction_count: count(source.instructions.len())?,
        instructions: source.instructions.as_ptr().expose_provenance() as u64,
        license: source.license.as_ptr().expose_provenance() as u64,
        ..ProgramLoad::default()
    };
    let last = argument.name.len() - 1;
    for (place, byte) in argument.name.iter_mut().zip(source.name.bytes()).take(last) {
        *place = byte;
    }
    if let Some((types, functions, lines)) = source.types {
        argument.types = number(types);
        argument.function_size = count(functions.size)?;
        argument.functions = functions.bytes.as_ptr().expose_provenance() as u64;
        argument.function_count = count(functions.count())?;
        argument.line_size = count(lines.size)?;
        argument.lines = lines.bytes.as_ptr().expose_provenance() as u64;
        argument.line_count = count(lines.count())?;
    }
    if !log.is_empty() {
        argument.log_level = 1;
        argument.log_size = count(log.len())?;
        argument.log = log.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: at each address lies as much as the field beside it says, borrowed by the caller for this call, and a
    // string that ends; only the log is written to, and nothing else refers to it.
    let descriptor = unsafe { bpf(PROG_LOAD, &mut argument)? };
    // SAFETY: the descriptor of the new program.
    unsafe { own(descriptor) }
}

/// Runs a program at each pass of a tracepoint, until the result is dropped.
pub(crate) fn attach_to_tracepoint(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut argument = RawTracepointOpen {
        name: name.as_ptr().expose_provenance() as u64,
        program: number(program),
        padding: 0,
    };
    // SAFETY: a string that ends, and is only read.
    let descriptor = unsafe { bpf(RAW_TRACEPOINT_OPEN, &mut argument)? };
    // SAFETY: the descriptor of the new attachment.
    unsafe { own(descriptor) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // Descriptors are not negative.
    descriptor.as_raw_fd().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(bytes: u64) -> Instruction {
        let bytes = bytes.to_ne_bytes();
        let [instruction] = aya_obj::copy_instructions(&bytes).unwrap()[..] else {
            panic!("eight bytes are one instruction")
        };
        instruction
    }

    fn source(instructions: &[Instruction]) -> ProgramSource<'_> {
        ProgramSource {
            kind: ProgramKind::RawTracepoint,
            name: "longer_than_there_is_room_for",
            license: c"GPL",
            instructions,
            types: None,
        }
    }

    #[test]
    fn a_program_is_loaded_and_attached() {
        // r0 = 0; return.
        let returns = [instruction(0xb7), instruction(0x95)];
        let program = match load_program(&source(&returns)) {
            Ok(program) => program,
            Err(refused) => {
                assert_eq!(refused.error.kind(), io::ErrorKind::PermissionDenied);
                eprintln!("skipped: programs of eBPF need CAP_BPF and CAP_PERFMON");
                return;
            }
        };
        attach_to_tracepoint(c"sched_switch", program.as_fd()).unwrap();
        let error = attach_to_tracepoint(c"no_such_tracepoint", program.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_the_verifier_says_of_a_program_is_kept() {
        // Returns what was never set.
        let refused = match load_program(&source(&[instruction(0x95)])) {
            Err(refused)
                if refused.error.kind() == io::ErrorKind::PermissionDenied
                    && !refused.log.is_empty() =>
            {
                refused
            }
            Err(refused) if refused.error.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: programs of eBPF need CAP_BPF and CAP_PERFMON");
                return;
            }
            other => panic!("{other:?}"),
        };
        assert!(refused.log.contains("R0 !read_ok"), "{}", refused.log);
    }
}
