//! What can go wrong while reading other processes, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a process could not be read, sampled or reported.
///
/// The text says what failed and what to do about it; the cause, where there is one, is the
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No process has this id.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// The process id that was asked for.
        pid: u32,
    },

    /// The id is one of a thread, not of a process.
    #[error("{tid} is a thread of process {pid}: name that one")]
    NotAProcess {
        /// The id that was asked for.
        tid: u32,
        /// The process of that thread.
        pid: u32,
    },

    /// The operating system refused, for want of a privilege.
    #[error("no permission to {action}: needs {needs}")]
    Permission {
        /// What was refused, as in "read the memory of process 7".
        action: String,
        /// The capabilities or settings that would allow it, as in "CAP_BPF and CAP_PERFMON".
        needs: String,
    },

    /// The kernel or the machine cannot do this at all.
    #[error("{what} is not supported here: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What is missing.
        why: String,
    },

    /// The sampling frequency is zero or above what the kernel allows.
    #[error(
        "a sampling frequency of {frequency_hz} Hz is not possible: choose 1 to {max_hz} Hz{hint}"
    )]
    Frequency {
        /// The frequency that was asked for.
        frequency_hz: u64,
        /// The highest possible one.
        max_hz: u64,
        /// How to raise the limit, starting with a separator, or nothing.
        hint: String,
    },

    /// A program does not publish anything that a reader could find.
    #[error(
        "{program} does not export otel_thread_ctx_v1 or custom_labels_current_set: add otel-profiling-tracer to \
         it and call wrap(provider); if it does that already, call otel_profiling::build::export_symbols() in its \
         build.rs, or link it with rust-lld"
    )]
    NoSymbols {
        /// The process or the file.
        program: String,
    },

    /// A program that was linked and stripped so that its symbols have no names anywhere.
    #[error(
        "{program} is a static executable at a fixed address, and stripped: no reader can find its symbols; link it \
         static-pie and call otel_profiling::build::export_symbols() in its build.rs, or do not strip it"
    )]
    NamelessStatic {
        /// The process or the file.
        program: String,
    },

    /// A shared object exports the symbols, and no module of the process refers to them in a way that leads
    /// there.
    #[error(
        "{program}: {module} exports otel_thread_ctx_v1 or custom_labels_current_set, but nothing in the process \
         leads to it yet: if that lasts, compile the code that uses it with TLS descriptors, or link otel-profiling \
         into the main executable"
    )]
    Unresolved {
        /// The process.
        program: String,
        /// The shared object.
        module: String,
    },

    /// The file of a program could not be understood.
    #[error("cannot read the ELF file of {program}")]
    Program {
        /// The process or the file.
        program: String,
        /// The cause.
        #[source]
        source: Box<crate::elf::ElfError>,
    },

    /// Neither a process nor a control group nor a command was named.
    #[error(
        "nothing to record: name a process with -p PID, a cgroup with --cgroup, a command after --, or all with -a"
    )]
    NothingToRecord,

    /// A result cannot be written in the form that was asked for.
    #[error("cannot tell the format of {}: its name must end in {expected}", path.display())]
    UnknownFormat {
        /// The name that was given.
        path: PathBuf,
        /// The suffixes that are known.
        expected: &'static str,
    },

    /// A result is there, and something is missing in it.
    #[error("{count} {what}")]
    Incomplete {
        /// How many.
        count: u64,
        /// Of what, and what that means.
        what: &'static str,
    },

    /// An operation of the operating system failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried, as in "open /proc/7/maps".
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// The eBPF programs could not be loaded or attached, for another reason than a privilege.
    #[error("cannot {action}")]
    Bpf {
        /// What was tried, as in "load the program on_sample".
        action: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Profiles cannot be pushed as it was asked for.
    #[cfg(feature = "push")]
    #[error("cannot push profiles")]
    Push {
        /// The cause.
        #[source]
        source: crate::push::ConfigError,
    },

    /// Addresses could not be turned into names.
    #[error("cannot {action}")]
    Symbolize {
        /// What was tried.
        action: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// An [`Error::Io`] that names what was tried.
    pub fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            action: action.into(),
            source,
        }
    }
}

impl Error {
    /// Whether a process was read, and has no symbols that lead anywhere: it may load or execute something
    /// that has.
    pub fn is_about_symbols(&self) -> bool {
        matches!(
            self,
            Self::NoSymbols { .. } | Self::NamelessStatic { .. } | Self::Unresolved { .. }
        )
    }

    /// The error and its causes in one line.
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line.replace('\n', " ")
    }
}
