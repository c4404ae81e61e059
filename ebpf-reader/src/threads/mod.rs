//! What every thread of a process publishes right now, without eBPF.
//!
//! Each thread is read while it stands still: one that runs is stopped with ptrace for that moment, one that
//! sleeps is read while it goes on sleeping, and believed if it has not woken up meanwhile. Only a thread
//! that sleeps, and whose thread pointer cannot be told from outside (with musl, or before its C library is
//! set up), has to be stopped, too; if its system call would not survive that (`epoll_wait` returns EINTR to the
//! program) the thread is left alone and marked ([`Thread::not_read`]).

mod json;
mod table;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use otel_profiling::abi::thread_context;

pub use self::json::json;
pub use self::table::Table;
use crate::error::Error;
use crate::process;
use crate::process_context::{ProcessContext, Reader};
use crate::profile::{SpanId, TraceId};
use crate::published::Published;
use crate::sample::Locations;
use crate::snapshot::{Limits, Reason, Snapshot, Snapshots};

/// How often a process that executes another program while it is looked at is looked at again.
const ATTEMPTS: usize = 3;

/// What a process publishes, thread by thread.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Threads {
    /// Process id, in the reader's pid namespace.
    pub pid: u32,
    /// The process's name, at most 15 bytes.
    pub name: String,
    /// What it publishes about itself.
    pub context: Option<ProcessContext>,
    /// Its threads, by id.
    pub threads: Vec<Thread>,
    /// Further threads, which were not read because there are too many.
    pub beyond_limit: usize,
}

/// What one thread publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// Thread id, in the reader's pid namespace.
    pub tid: u32,
    /// Name, at most 15 bytes, as the process has set it: may hold anything.
    pub name: String,
    /// Trace id of the thread context.
    pub trace_id: Option<TraceId>,
    /// Span id of the thread context.
    pub span_id: Option<SpanId>,
    /// W3C trace flags of the thread context; `None` without one.
    pub trace_flags: Option<u8>,
    /// Attributes of the thread context by name; `#7` if the process context does not name the key 7. Names are
    /// unique: of repeated ones the last counts.
    pub attributes: Vec<(String, String)>,
    /// Custom labels. Names are unique: of repeated ones the first counts.
    pub custom_labels: Vec<(String, String)>,
    /// A published pointer led to memory that cannot be read, or to something that is not a record.
    pub unreadable: bool,
    /// Something was longer than what is read of it.
    pub truncated: bool,
    /// Why nothing of all that is known, if the thread could not be read.
    pub not_read: Option<NotRead>,
}

/// Why a thread could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRead {
    /// It sleeps in a system call that would end if the thread were stopped, and it is not known where its
    /// thread-local storage is.
    Asleep,
    /// It sleeps uninterruptibly, in the kernel.
    Uninterruptible,
    /// The kernel refuses to trace it, or it is a thread of another word size.
    Refused,
}

impl NotRead {
    /// In a few words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Asleep => "asleep in a system call that a stop would end",
            Self::Uninterruptible => "in an uninterruptible sleep",
            Self::Refused => "refused by the kernel",
        }
    }
}

/// Looks at the threads of one process, as often as wanted.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    snapshots: Snapshots,
    context: Option<Reader>,
}

impl Watch {
    /// Nothing is looked at yet.
    ///
    /// # Errors
    /// If there is no such process, or the id is one of a thread.
    pub fn new(pid: u32) -> Result<Self, Error> {
        match process::of_thread(pid) {
            None => Err(Error::NoSuchProcess { pid }),
            Some(process) if process != pid => Err(Error::NotAProcess {
                tid: pid,
                pid: process,
            }),
            Some(_) => Ok(Self {
                pid,
                snapshots: Snapshots::new(pid),
                context: None,
            }),
        }
    }

    /// What all threads publish right now.
    ///
    /// # Errors
    /// If the process is gone, may not be traced or publishes nothing that could be found.
    pub fn look(&mut self) -> Result<Threads, Error> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let before = program(self.pid);
            // Anew each time: it may have loaded an object, or executed another program.
            let result = process::locate(self.pid).and_then(|locations| self.read(locations));
            // What was read with the places of another program means nothing.
            if before == program(self.pid) || left == 0 {
                return self.named(result?);
            }
        }
    }

    fn read(&mut self, locations: Locations) -> Result<Snapshot<(u32, String, Published)>, Error> {
        self.snapshots.look(Limits::default(), move |thread| {
            let published = Published::read(thread.memory, thread.thread_pointer, locations);
            (thread.tid, thread.name.to_owned(), published)
        })
    }

    /// Names what was read. After reading, because keys are only ever added.
    fn named(&mut self, snapshot: Snapshot<(u32, String, Published)>) -> Result<Threads, Error> {
        let reader = match &mut self.context {
            Some(reader) => reader,
            none => none.insert(Reader::open(self.pid)?),
        };
        reader.refresh_now()?;
        let context = reader.context().cloned();
        let mut threads: Vec<Thread> = snapshot
            .threads
            .into_iter()
            .map(|(tid, name, published)| Thread::new(tid, name, &published, context.as_ref()))
            .collect();
        threads.extend(snapshot.missed_threads.into_iter().map(|missed| Thread {
            tid: missed.tid,
            name: missed.name,
            not_read: Some(match missed.reason {
                Reason::Asleep => NotRead::Asleep,
                Reason::Unstoppable => NotRead::Uninterruptible,
                Reason::Refused => NotRead::Refused,
            }),
            ..Thread::default()
        }));
        threads.sort_by_key(|thread| thread.tid);
        Ok(Threads {
            pid: self.pid,
            name: process::name(self.pid).unwrap_or_default(),
            context,
            threads,
            beyond_limit: snapshot.missed.beyond_limit,
        })
    }
}

/// The program that a process executes, and of which process that is.
fn program(pid: u32) -> Option<(u64, u64)> {
    let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Threads {
    /// Threads that could not be read, those beyond the limit included.
    pub fn not_read(&self) -> usize {
        let missed = self
            .threads
            .iter()
            .filter(|thread| thread.not_read.is_some());
        missed.count() + self.beyond_limit
    }
}

impl Thread {
    fn new(
        tid: u32,
        name: String,
        published: &Published,
        context: Option<&ProcessContext>,
    ) -> Self {
        let record = published.thread_context.as_ref();
        let mut attributes: Vec<(String, String)> = Vec::new();
        let data = record.map_or(&[][..], |record| &record.attrs_data);
        for (index, value) in thread_context::attributes(data) {
            let key = match context.and_then(|context| context.attribute_key(index)) {
                Some(key) => key.to_owned(),
                None => format!("#{index}"),
            };
            let value = String::from_utf8_lossy(value).into_owned();
            match attributes.iter_mut().find(|(name, _)| *name == key) {
                Some((_, earlier)) => *earlier = value,
                None => attributes.push((key, value)),
            }
        }
        let mut seen = HashSet::new();
        let custom_labels = published
            .custom_labels
            .iter()
            .map(|label| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                (text(label.key), text(label.value))
            })
            .filter(|(key, _)| seen.insert(key.clone()))
            .collect();
        Self {
            tid,
            name,
            trace_id: record.and_then(|record| TraceId::some(record.trace_id)),
            span_id: record.and_then(|record| SpanId::some(record.span_id)),
            trace_flags: record.map(|record| record.trace_flags),
            attributes,
            custom_labels,
            unreadable: published.unreadable,
            truncated: published.truncated,
            not_read: None,
        }
    }
}

#[cfg(test)]
mod tests;
