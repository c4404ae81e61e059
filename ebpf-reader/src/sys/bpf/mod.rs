//! The system call of eBPF.
//!
//! Arguments are laid out as in the kernel's `union bpf_attr`, of which each command reads the beginning. The kernel
//! checks programs before it takes them, and takes no more of an argument than its size says.

mod load;
mod on_demand;

pub(crate) use load::{
    ProgramKind, ProgramSource, Records, Refused, attach_to_tracepoint, fill, freeze, load_program,
    load_types,
};
pub(crate) use on_demand::{Program, Shared};

use std::io;
use std::mem::offset_of;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const MAP_FREEZE: libc::c_long = 22;

const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct MapFreeze {
    map: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_size: u32,
    lines: u64,
    line_count: u32,
    padding: u32,
}

const _: () = {
    assert!(offset_of!(ProgramLoad, name) == 48);
    assert!(offset_of!(ProgramLoad, types) == 72);
    assert!(offset_of!(ProgramLoad, functions) == 80);
    assert!(offset_of!(ProgramLoad, lines) == 96);
    assert!(size_of::<ProgramLoad>() == 112);
};

/// # Safety
/// `T` is the beginning of `union bpf_attr` for `command`, and the addresses in it are those of memory that is as large
/// as the command takes it to be, and may be written to where it writes.
unsafe fn bpf<T>(command: libc::c_long, argument: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the argument is borrowed for the whole call; what it refers to is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(argument),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Takes hold of a new file descriptor.
///
/// # Safety
/// `descriptor` was returned by a command that makes one, and nobody else has it.
unsafe fn own(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: by this function's own conditions.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
