//! Clocks of the CPUs that run a program at each tick.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

const TYPE_SOFTWARE: u32 = 1;
const CPU_CLOCK: u64 = 0;
/// The field after it is a frequency, not a period.
const FREQUENCY: u64 = 1 << 10;
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
/// All processes.
const EVERYBODY: libc::pid_t = -1;
const NO_GROUP: libc::c_int = -1;

const ENABLE: libc::Ioctl = 0x2400;
const SET_BPF: libc::Ioctl = 0x4004_2408;

/// `struct perf_event_attr` as it was at first; the kernel takes the rest as zeros.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    frequency_hz: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint: u32,
    config1: u64,
}

const _: () = {
    assert!(offset_of!(Attributes, flags) == 40);
    assert!(size_of::<Attributes>() == 64);
};

/// Runs a program at each tick of a CPU's own clock, `frequency_hz` times a second, until the result is dropped.
///
/// The clock only runs while the CPU is not idle.
pub(crate) fn run_at_clock_ticks(
    program: BorrowedFd<'_>,
    cpu: u32,
    frequency_hz: u64,
) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        size: size_of::<Attributes>() as u32,
        config: CPU_CLOCK,
        frequency_hz,
        flags: FREQUENCY,
        ..Attributes::default()
    };
    let cpu = libc::c_int::try_from(cpu).map_err(io::Error::other)?;
    // SAFETY: the attributes have the size that they say, and are only read.
    let clock = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(&attributes),
            EVERYBODY,
            cpu,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    if clock < 0 {
        return Err(io::Error::last_os_error());
    }
    let clock = RawFd::try_from(clock).map_err(io::Error::other)?;
    // SAFETY: it was just made, and nobody else has it.
    let clock = unsafe { OwnedFd::from_raw_fd(clock) };
    for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both take a number; the kernel checks that it is a program, and holds it itself.
        let result = unsafe { libc::ioctl(clock.as_raw_fd(), request, argument) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(clock)
}
