//! What the check found, for a log line or a program's own diagnosis.

use std::fmt;
use std::path::PathBuf;

/// How profilers find what this process publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The thread context and the custom labels.
    pub symbols: Symbols,
    /// The process context; `None` without the feature `process-context`.
    pub process_context: Option<ProcessContext>,
}

/// How profilers find the thread context, and the custom labels with the feature `custom-labels`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbols {
    /// The module that defines the symbols and contains this crate's code.
    pub module: PathBuf,
    /// Whether that is the main executable, the one place where every profiler looks.
    pub in_executable: bool,
    /// Where the slots lie on a thread.
    pub placement: TlsPlacement,
    /// The symbols that were found and are right.
    pub names: Vec<&'static str>,
    /// Other loaded modules that define one of the symbols: what they publish lands in the same slots.
    pub also_defined_in: Vec<PathBuf>,
}

/// Where a module's thread-local block lies on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsPlacement {
    /// At a fixed offset from the thread pointer: every reader finds it.
    Static,
    /// Behind the thread's vector of dynamically loaded blocks, which readers must follow.
    Dynamic,
}

/// How profilers find the process context.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessContext {
    /// The name of the mapping in `/proc/self/maps`.
    pub mapping: String,
    /// Where the mapping starts.
    pub address: u64,
    /// CLOCK_BOOTTIME of the publication in nanoseconds.
    pub published_at: u64,
    /// Bytes of the protobuf message.
    pub payload_size: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.symbols)?;
        match &self.process_context {
            Some(context) => write!(f, "; {context}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placement = match self.placement {
            TlsPlacement::Static => "static",
            TlsPlacement::Dynamic => "dynamic",
        };
        let names = self.names.join(", ");
        write!(f, "{names} in {} ({placement} TLS)", self.module.display())?;
        for other in &self.also_defined_in {
            write!(f, ", defined by {} too", other.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for ProcessContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mapping,
            address,
            payload_size,
            ..
        } = self;
        write!(
            f,
            "process context of {payload_size} bytes in {mapping} at {address:#x}"
        )
    }
}
