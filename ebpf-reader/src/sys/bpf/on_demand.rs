//! A program of a few instructions that is run on demand: no object file, no types.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::{
    MAP_FREEZE, MAP_UPDATE_ELEM, MapElement, MapFreeze, PROG_LOAD, PROG_TYPE_RAW_TRACEPOINT,
    ProgramLoad, bpf, own,
};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const PROG_TEST_RUN: libc::c_long = 10;

const MAP_TYPE_ARRAY: u32 = 2;
const RDONLY_PROG: u32 = 1 << 7;

const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgramTestRun {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

/// Memory of the kernel that programs see: a map with one element.
#[derive(Debug)]
pub(crate) struct Shared<const SIZE: usize>(OwnedFd);

impl<const SIZE: usize> Shared<SIZE> {
    fn create(map_flags: u32) -> io::Result<Self> {
        let mut argument = MapCreate {
            map_type: MAP_TYPE_ARRAY,
            key_size: size_of::<u32>() as u32,
            value_size: u32::try_from(SIZE).map_err(io::Error::other)?,
            max_entries: 1,
            map_flags,
        };
        // SAFETY: there are no addresses in it.
        let descriptor = unsafe { bpf(MAP_CREATE, &mut argument)? };
        // SAFETY: the descriptor of the new map.
        Ok(Self(unsafe { own(descriptor)? }))
    }

    /// Zeros, which programs may change.
    pub(crate) fn zeros() -> io::Result<Self> {
        Self::create(0)
    }

    /// Bytes that nobody can change any more.
    pub(crate) fn constant(bytes: &[u8; SIZE]) -> io::Result<Self> {
        let map = Self::create(RDONLY_PROG)?;
        // SAFETY: as many bytes as an element has, which the command only reads.
        unsafe { map.element(MAP_UPDATE_ELEM, bytes.as_ptr().expose_provenance())? };
        let mut argument = MapFreeze { map: map.number() };
        // SAFETY: there are no addresses in it.
        unsafe { bpf(MAP_FREEZE, &mut argument)? };
        Ok(map)
    }

    /// What it holds now.
    pub(crate) fn read(&self) -> io::Result<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        // SAFETY: as many bytes as an element has, which may be written to; nothing else refers to them.
        unsafe { self.element(MAP_LOOKUP_ELEM, bytes.as_mut_ptr().expose_provenance())? };
        Ok(bytes)
    }

    /// A command for the element, with the address of a value.
    ///
    /// # Safety
    /// At the address lie `SIZE` bytes that may be read, and written to if the command does.
    unsafe fn element(&self, command: libc::c_long, value: usize) -> io::Result<()> {
        let key = 0_u32;
        let mut argument = MapElement {
            map: self.number(),
            padding: 0,
            key: std::ptr::from_ref(&key).expose_provenance() as u64,
            value: value as u64,
            flags: 0,
        };
        // SAFETY: the key has the size that the map was made with, and is only read; so has the value, by this
        // function's own conditions.
        unsafe { bpf(command, &mut argument)? };
        Ok(())
    }

    /// Its number in instructions that refer to it.
    pub(crate) fn number(&self) -> u32 {
        // Descriptors are not negative.
        self.0.as_raw_fd().unsigned_abs()
    }
}

/// A program that is run on demand, with one argument.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Has the kernel check a program. The maps in it live at least as long as it does: the kernel holds them.
    pub(crate) fn load(instructions: &[u64]) -> io::Result<Self> {
        let mut argument = ProgramLoad {
            program_type: PROG_TYPE_RAW_TRACEPOINT,
            instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            instructions: instructions.as_ptr().expose_provenance() as u64,
            license: LICENSE.as_ptr().expose_provenance() as u64,
            ..ProgramLoad::default()
        };
        // SAFETY: so many instructions of eight bytes lie there, and a string that ends; both are only read.
        let descriptor = unsafe { bpf(PROG_LOAD, &mut argument)? };
        // SAFETY: the descriptor of the new program.
        Ok(Self(unsafe { own(descriptor)? }))
    }

    /// Runs it to its end. Linux 5.10 and later.
    pub(crate) fn run(&self, argument: u64) -> io::Result<()> {
        let context = [argument];
        let mut argument = ProgramTestRun {
            program: self.0.as_raw_fd().unsigned_abs(),
            context_size_in: size_of_val(&context) as u32,
            context_in: context.as_ptr().expose_provenance() as u64,
            ..ProgramTestRun::default()
        };
        // SAFETY: the context has the size that is said, and is only read; nothing else is referred to.
        unsafe { bpf(PROG_TEST_RUN, &mut argument)? };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_stores_is_read() {
        let Ok(result) = Shared::<8>::zeros() else {
            eprintln!("skipped: maps of eBPF need CAP_BPF");
            return;
        };
        let constant = Shared::constant(&7_u64.to_ne_bytes()).unwrap();
        assert_eq!(constant.read().unwrap(), 7_u64.to_ne_bytes());
        let map = |register: u64, map: &Shared<8>| {
            0x18 | register << 8 | 2 << 12 | u64::from(map.number()) << 32
        };
        // r3 = argument; r1 = result; r2 = constant; *r1 = *r2 + r3.
        let program = [
            0x79 | 3 << 8 | 1 << 12,
            map(1, &result),
            0,
            map(2, &constant),
            0,
            0x79 | 4 << 8 | 2 << 12,
            0x0f | 4 << 8 | 3 << 12,
            0x7b | 1 << 8 | 4 << 12,
            0xb7,
            0x95,
        ];
        let program = match Program::load(&program) {
            Ok(program) => program,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                eprintln!("skipped: programs of eBPF need CAP_BPF and CAP_PERFMON");
                return;
            }
        };
        for argument in [1, 1 << 40] {
            program.run(argument).unwrap();
            assert_eq!(result.read().unwrap(), (7 + argument).to_ne_bytes());
        }
        // Not a program: it has no end.
        assert!(Program::load(&[0xb7]).is_err());
    }
}
