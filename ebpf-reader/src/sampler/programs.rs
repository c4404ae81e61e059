//! The programs of `bpf/reader.bpf.c`: loads and attaches them, and says what is missing where that is refused.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use aya::maps::{HashMap, MapData};
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use aya::util::{KernelVersion, online_cpus};

use super::ebpf::Options;
use super::object::Object;
use super::privileges;
use crate::error::Error;
use crate::sys;

#[cfg(target_arch = "x86_64")]
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/reader.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/reader.aarch64.bpf.o");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) static OBJECT: &[u8] = &[];

/// Inode of the initial pid namespace, fixed in the kernel (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Before this version maps are charged to RLIMIT_MEMLOCK.
const UNCHARGED_MAPS: KernelVersion = KernelVersion::new(5, 11, 0);

/// The oldest kernel with a ring buffer and the program types that are used.
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(5, 10, 0);

/// Tracepoints on which the table of targets is kept, by the program that does it.
const LIFE_PROGRAMS: [(&str, &CStr); 3] = [
    ("on_fork", c"sched_process_fork"),
    ("on_exec", c"sched_process_exec"),
    ("on_exit", c"sched_process_exit"),
];

/// Size of a thread's stack in the kernel: four pages of 4 KiB, or one of 64.
const KERNEL_STACK_SIZE: u32 = 16384;

/// Refuses a kernel that is too old, or of another architecture.
pub(super) fn check_kernel() -> Result<(), Error> {
    let unsupported = |why: String| Error::Unsupported {
        what: "sampling with eBPF".to_owned(),
        why: format!("{why}; sample with --ptrace"),
    };
    if OBJECT.is_empty() {
        return Err(unsupported(
            "the kernel side exists for x86-64 and aarch64".to_owned(),
        ));
    }
    let Ok(version) = KernelVersion::current() else {
        return Ok(());
    };
    if version < OLDEST_KERNEL {
        return Err(unsupported("it needs Linux 5.10 or later".to_owned()));
    }
    if version < UNCHARGED_MAPS {
        // If it fails, the maps may still fit; if they do not, the error says what to do.
        let _ = sys::lift_locked_memory_limit();
    }
    Ok(())
}

/// The kernel side, fitted to the kernel and to the reader.
pub(super) fn fit(options: &Options) -> Result<Object, Error> {
    let namespace = fs::metadata("/proc/self/ns/pid")
        .map_err(|error| Error::io("look at /proc/self/ns/pid", error))?
        .ino();
    // As an upstream number or by a distribution's own doing.
    let has_registers =
        is_helper_supported(ProgramType::PerfEvent, BpfHelper::BPF_FUNC_task_pt_regs)
            .unwrap_or(false);
    let page_size = u32::try_from(rustix::param::page_size()).unwrap_or(0);
    let constants = [
        ("EVERYTHING", u32::from(options.everything)),
        ("KERNEL_STACKS", u32::from(options.kernel_stacks)),
        ("READER_PID", std::process::id()),
        ("HAS_TASK_PT_REGS", u32::from(has_registers)),
        ("KERNEL_STACK_SIZE", KERNEL_STACK_SIZE.max(page_size)),
        // Inode numbers of namespaces have 32 bits.
        ("READER_PID_NAMESPACE", namespace as u32),
        (
            "READER_IN_INITIAL_NAMESPACE",
            u32::from(namespace == INITIAL_PID_NAMESPACE),
        ),
    ];
    let max_entries: &[_] = if options.everything {
        &[]
    } else {
        // Not used: it need not take room.
        &[("told", 1)]
    };
    Object::fit(OBJECT, &constants, max_entries)
}

pub(super) fn hash_map<V: aya::Pod>(
    object: &mut Object,
    name: &str,
) -> Result<HashMap<MapData, u32, V>, Error> {
    HashMap::try_from(object.take_map(name)?)
        .map_err(|error| bpf(format!("open the map {name}"), error))
}

/// Loads and attaches the programs: from now on there are samples, until the result is dropped.
pub(super) fn attach(object: &Object, options: &Options) -> Result<Vec<OwnedFd>, Error> {
    let mut attached = Vec::new();
    // The table is kept before the first sample is taken.
    for (program, tracepoint) in LIFE_PROGRAMS {
        attach_to_tracepoint(object, program, tracepoint, &mut attached)?;
    }
    if options.off_cpu {
        attach_to_tracepoint(object, "on_switch", c"sched_switch", &mut attached)?;
    }
    attach_to_clocks(object, "sample_cpu", options.frequency_hz, &mut attached)?;
    Ok(attached)
}

fn attach_to_tracepoint(
    object: &Object,
    name: &str,
    tracepoint: &CStr,
    attached: &mut Vec<OwnedFd>,
) -> Result<(), Error> {
    let program = object.load_program(name)?;
    let attachment = sys::bpf::attach_to_tracepoint(tracepoint, program.as_fd());
    attached.push(attachment.map_err(|error| refusal(name, error))?);
    attached.push(program);
    Ok(())
}

fn attach_to_clocks(
    object: &Object,
    name: &str,
    frequency_hz: u64,
    attached: &mut Vec<OwnedFd>,
) -> Result<(), Error> {
    let program = object.load_program(name)?;
    let cpus = online_cpus().map_err(|(file, error)| Error::io(format!("read {file}"), error))?;
    for cpu in cpus {
        let clock = sys::run_at_clock_ticks(program.as_fd(), cpu, frequency_hz);
        attached.push(clock.map_err(|error| refusal(name, error))?);
    }
    attached.push(program);
    Ok(())
}

fn refusal(name: &str, error: io::Error) -> Error {
    let action = format!("attach the eBPF program {name}");
    privileges::refused(&action, &error).unwrap_or_else(|| bpf(action, error))
}

pub(super) fn bpf<E>(action: impl Into<String>, error: E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    Error::Bpf {
        action: action.into(),
        source: Box::new(error),
    }
}

/// The error of the system call that is at the root of an error.
pub(super) fn errno<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}
