//! What a recording found: counted samples by thread, context and stack.
//!
//! Samples are merged only when process, thread, context and stack are all equal; everything else
//! (CPU time by trace, pprof, flame graphs) is computed from these rows.

mod aggregate;
mod collect;
mod filter;
mod ids;
pub(crate) mod interned;
#[cfg(any(feature = "serve", feature = "top"))]
pub(crate) mod memory;
mod usage;

use std::time::{Duration, SystemTime};

pub use aggregate::{Aggregator, Settings};
pub use filter::Filter;
pub use ids::{ParseIdError, SpanId, TraceId};
pub use usage::{By, Group, SpanUsage, TraceUsage, Usage};

use crate::elf::BuildId;
use crate::process::ModuleId;
use crate::process_context::ProcessContext;
use crate::sample::Activity;

/// Name of the mapping that holds the kernel's addresses.
pub const KERNEL: &str = "[kernel]";

/// The result of a recording. Tables refer to each other by index.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Profile {
    /// When the recording began; `None` if it did not.
    pub started: Option<SystemTime>,
    /// How long it took.
    pub duration: Duration,
    /// CPU time that one sample stands for, in nanoseconds.
    pub period_ns: u64,
    /// Samples that were taken.
    pub samples: u64,
    /// Samples with a trace id.
    pub with_context: u64,
    /// Samples whose thread published something that could not be read.
    pub unreadable: u64,
    /// Samples in which attributes, labels, keys or values were cut off, or the user stack after its innermost frame.
    pub truncated: u64,
    /// Samples that were taken but not delivered; they are not among [`Profile::samples`].
    pub lost: u64,
    /// Samples of which the thread, the context or the stack is `(others)`: there was no room for so many.
    pub merged: u64,
    /// The programs that were sampled: a process that executes another program is a new entry.
    pub processes: Vec<Process>,
    /// The threads that were sampled.
    pub threads: Vec<Thread>,
    /// The contexts that were seen.
    pub contexts: Vec<Context>,
    /// Pieces of files in the memory of the processes.
    pub mappings: Vec<Mapping>,
    /// Places in the programs.
    pub locations: Vec<Location>,
    /// The functions of [`Frame`].
    pub functions: Vec<Function>,
    /// Stacks, each as indices of locations, innermost first.
    pub stacks: Vec<Vec<usize>>,
    /// The samples.
    pub rows: Vec<Row>,
}

/// One program in one process.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Process {
    /// Process id, in the reader's pid namespace.
    pub pid: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Path of the program in the process's mount namespace; empty if it is not known.
    pub executable: String,
    /// What it published about itself.
    pub context: Option<ProcessContext>,
    /// Where it runs, as resource attributes: `container.id` and the like.
    pub origin: Vec<(String, String)>,
    /// A number that no other program has that this reader has seen; 0 if the profile comes from a file.
    pub instance: u64,
}

impl Process {
    /// Its name and the service that it is, as in `app, service checkout 1.2 (instance)`. The name is as the process
    /// set it; the rest has no control characters.
    pub fn title(&self) -> String {
        let context = self.context.as_ref();
        match context.and_then(ProcessContext::service) {
            Some(service) => format!("{}, service {service}", self.name),
            None => self.name.clone(),
        }
    }
}

/// One thread of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Thread {
    /// Index in [`Profile::processes`].
    pub process: usize,
    /// Thread id, in the reader's pid namespace.
    pub tid: u32,
    /// Name, at most 15 bytes.
    pub name: String,
}

/// What a thread published at a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// The trace id: the thread context's, else the custom labels'.
    pub trace_id: Option<TraceId>,
    /// The span id, from where the trace id is.
    pub span_id: Option<SpanId>,
    /// Attributes of the thread context by name, then custom labels, without the ids. Names are unique.
    pub labels: Vec<(String, String)>,
}

/// A piece of a file in the memory of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// Path of the file in the process's mount namespace, or a name in brackets.
    pub name: String,
    /// The file, if it was opened.
    pub module: Option<ModuleId>,
    /// The file's GNU build id, if it is known and has one; that of the running kernel for [`KERNEL`].
    pub build_id: Option<BuildId>,
}

/// A place in a program, with its name if that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Location {
    /// Index in [`Profile::mappings`], if the address lies in one.
    pub mapping: Option<usize>,
    /// The address: of the sampled instruction, or a byte of the call that a return address follows.
    pub address: u64,
    /// The functions at this place: the innermost inlined one first. Empty if unknown.
    pub frames: Vec<Frame>,
}

/// One function at a location.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Index in [`Profile::functions`].
    pub function: usize,
    /// The line, if it is known.
    pub line: Option<u32>,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// The source file, or nothing.
    pub file: String,
}

/// Equal samples.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Index in [`Profile::threads`].
    pub thread: usize,
    /// Index in [`Profile::contexts`].
    pub context: usize,
    /// Index in [`Profile::stacks`].
    pub stack: usize,
    /// What the thread was doing.
    pub activity: Activity,
    /// How many they are.
    pub samples: u64,
    /// The time that they stand for, in nanoseconds: on the CPU, or off it.
    pub ns: u64,
}

impl Profile {
    /// CPU time of a number of samples, in nanoseconds.
    pub fn cpu_ns(&self, samples: u64) -> u64 {
        samples.saturating_mul(self.period_ns)
    }

    /// Whether a location is in the kernel, by its address: user space has the lower half.
    pub fn is_kernel(&self, location: &Location) -> bool {
        location.address >> 63 == 1
    }

    /// How a location is shown: its functions, innermost first, else the file and the offset in it.
    pub fn names(&self, location: &Location) -> Vec<String> {
        let names: Vec<String> = location
            .frames
            .iter()
            .filter_map(|frame| Some(self.functions.get(frame.function)?.name.clone()))
            .collect();
        if !names.is_empty() {
            return names;
        }
        vec![match location
            .mapping
            .and_then(|mapping| self.mappings.get(mapping))
        {
            Some(mapping) => {
                let file = mapping.name.rsplit('/').next().unwrap_or_default();
                format!("{file}+{:#x}", mapping.file_offset(location.address))
            }
            None => format!("[unknown] {:#x}", location.address),
        }]
    }
}

impl Process {
    /// Name of the executable's file; the process's name where that is not known.
    pub fn executable_name(&self) -> &str {
        match self.executable.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.name,
        }
    }

    /// An attribute of the resource that it published, such as `service.name`.
    pub fn resource(&self, key: &str) -> Option<&str> {
        self.context.as_ref()?.resource(key)
    }
}

impl Mapping {
    /// The offset in the file of an address in this mapping.
    pub fn file_offset(&self, address: u64) -> u64 {
        address.wrapping_sub(self.start).wrapping_add(self.offset)
    }
}

#[cfg(test)]
pub(crate) mod tests;
