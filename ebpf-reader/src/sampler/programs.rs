//! The programs of `bpf/reader.bpf.c`: loads and attaches them, and says what is missing where that is refused.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::perf_event::{
    PerfEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::programs::{ProgramError, ProgramType, RawTracePoint};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::util::{KernelVersion, online_cpus};
use aya::{Ebpf, EbpfError, EbpfLoader};

use super::ebpf::Options;
use super::privileges;
use crate::error::Error;
use crate::sys;

#[cfg(target_arch = "x86_64")]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/reader.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/reader.aarch64.bpf.o");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static OBJECT: &[u8] = &[];

/// Inode of the initial pid namespace, fixed in the kernel (PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Description of the kernel's types, by which the kernel side is fitted to it.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Before this version maps are charged to RLIMIT_MEMLOCK.
const UNCHARGED_MAPS: KernelVersion = KernelVersion::new(5, 11, 0);

/// The oldest kernel with a ring buffer and the program types that are used.
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(5, 10, 0);

/// Tracepoints on which the table of targets is kept, by the program that does it.
const LIFE_PROGRAMS: [(&str, &str); 3] = [
    ("on_fork", "sched_process_fork"),
    ("on_exec", "sched_process_exec"),
    ("on_exit", "sched_process_exit"),
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

/// Loads the programs, fitted to the kernel and to the reader.
pub(super) fn load(options: &Options) -> Result<Ebpf, Error> {
    // The loader reads it, and only says that there is none when it is needed.
    fs::File::open(KERNEL_TYPES).map_err(|error| Error::Unsupported {
        what: "sampling with eBPF".to_owned(),
        why: format!(
            "{KERNEL_TYPES} cannot be read ({error}): the kernel needs CONFIG_DEBUG_INFO_BTF"
        ),
    })?;
    let namespace = fs::metadata("/proc/self/ns/pid")
        .map_err(|error| Error::io("look at /proc/self/ns/pid", error))?
        .ino();
    // Inode numbers of namespaces have 32 bits.
    let inode = namespace as u32;
    let initial = u32::from(namespace == INITIAL_PID_NAMESPACE);
    let (everything, kernel_stacks) = (
        u32::from(options.everything),
        u32::from(options.kernel_stacks),
    );
    let reader = std::process::id();
    // As an upstream number or by a distribution's own doing.
    let has_registers = u32::from(
        is_helper_supported(ProgramType::PerfEvent, BpfHelper::BPF_FUNC_task_pt_regs)
            .unwrap_or(false),
    );
    let page_size = u32::try_from(rustix::param::page_size()).unwrap_or(0);
    let kernel_stack_size = KERNEL_STACK_SIZE.max(page_size);
    let mut loader = EbpfLoader::new();
    if !options.everything {
        // Not used: it need not take room.
        loader.map_max_entries("told", 1);
    }
    loader
        .override_global("EVERYTHING", &everything, true)
        .override_global("KERNEL_STACKS", &kernel_stacks, true)
        .override_global("READER_PID", &reader, true)
        .override_global("HAS_TASK_PT_REGS", &has_registers, true)
        .override_global("KERNEL_STACK_SIZE", &kernel_stack_size, true)
        .override_global("READER_PID_NAMESPACE", &inode, true)
        .override_global("READER_IN_INITIAL_NAMESPACE", &initial, true)
        .load(OBJECT)
        .map_err(|error| {
            match errno(&error).and_then(|cause| privileges::refused("load eBPF programs", cause)) {
                Some(refused) => refused,
                None => bpf::<EbpfError>("load the eBPF object", error),
            }
        })
}

pub(super) fn take_map(programs: &mut Ebpf, name: &str) -> Result<Map, Error> {
    programs.take_map(name).ok_or_else(|| {
        bpf::<io::Error>(
            format!("find the map {name}"),
            io::ErrorKind::NotFound.into(),
        )
    })
}

pub(super) fn hash_map<V: aya::Pod>(
    programs: &mut Ebpf,
    name: &str,
) -> Result<HashMap<MapData, u32, V>, Error> {
    HashMap::try_from(take_map(programs, name)?)
        .map_err(|error| bpf(format!("open the map {name}"), error))
}

/// Attaches the programs: from now on there are samples.
pub(super) fn attach(programs: &mut Ebpf, options: &Options) -> Result<(), Error> {
    // The table is kept before the first sample is taken.
    for (program, tracepoint) in LIFE_PROGRAMS {
        attach_to_tracepoint(programs, program, tracepoint)?;
    }
    if options.off_cpu {
        attach_to_tracepoint(programs, "on_switch", "sched_switch")?;
    }
    attach_to_clocks(programs, "sample_cpu", options.frequency_hz)
}

fn attach_to_tracepoint(programs: &mut Ebpf, name: &str, tracepoint: &str) -> Result<(), Error> {
    let program: &mut RawTracePoint = program(programs, name)?;
    program
        .load()
        .map_err(|error| program_error("load", name, error))?;
    program
        .attach(tracepoint)
        .map_err(|error| program_error("attach", name, error))?;
    Ok(())
}

fn attach_to_clocks(programs: &mut Ebpf, name: &str, frequency_hz: u64) -> Result<(), Error> {
    let program: &mut PerfEvent = program(programs, name)?;
    program
        .load()
        .map_err(|error| program_error("load", name, error))?;
    let cpus = online_cpus().map_err(|(file, error)| Error::io(format!("read {file}"), error))?;
    for cpu in cpus {
        program
            .attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                SamplePolicy::Frequency(frequency_hz),
                false,
            )
            .map_err(|error| program_error("attach", name, error))?;
    }
    Ok(())
}

fn program<'a, P>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    programs
        .program_mut(name)
        .ok_or(ProgramError::UnexpectedProgramType)
        .and_then(TryInto::try_into)
        .map_err(|error| bpf(format!("find the program {name}"), error))
}

fn program_error(verb: &str, name: &str, error: ProgramError) -> Error {
    let action = format!("{verb} the eBPF program {name}");
    if let Some(refused) = errno(&error).and_then(|cause| privileges::refused(&action, cause)) {
        return refused;
    }
    match error {
        // The verifier's log has thousands of lines; its conclusion is at the end.
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let conclusion = log
                .lines()
                .rfind(|line| !line.starts_with("processed ") && !line.trim().is_empty())
                .unwrap_or("no verifier log");
            bpf::<io::Error>(format!("{action} ({conclusion})"), io_error)
        }
        error => bpf(action, error),
    }
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
