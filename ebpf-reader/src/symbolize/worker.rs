//! Looks into files in a process of its own, which may die or be killed.
//!
//! Debug information is written by whoever is profiled. The library that reads it does so in memory it maps,
//! recursively, and for as long as it takes; a file made for that purpose can end it, or keep it busy for ever. So
//! the program starts itself once more ([`serve_if_asked`]), hands over one open file after the other, and waits for
//! a limited time. What is lost with the worker is the names in one file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::set_name;
use serde::{Deserialize, Serialize};

use super::file::{Failure, Named, SymbolFile};

/// The one argument of a program that is to serve as a worker.
const ARGUMENT: &str = "--serve-as-symbol-worker";

/// Memory that a worker may map: copies of the largest files, and what is found in them.
const MAX_ADDRESS_SPACE: u64 = 4 << 30;

/// Memory with which a worker may stay.
const MAX_RESIDENT: u64 = 64 << 20;

/// Size of the files that are kept open for the next look-up.
const MAX_OPEN: u64 = 256 << 20;

/// Longest request and answer.
const MAX_MESSAGE: usize = 64 << 20;

/// Whether this program can be its own worker.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// To be called first thing in `main`, by a program that wants [`super::Symbolizer`] to use a process of its own
/// for what it looks up. `true` if this process has been such a worker: it is done then, and has to end.
///
/// Without this call, look-ups happen in the calling process, and a hostile file may end it.
pub fn serve_if_asked() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(ARGUMENT)) {
        AVAILABLE.store(true, Ordering::Relaxed);
        return false;
    }
    // Without these it works, too. The name is that of a file in /proc otherwise.
    let _ = set_name(c"ebpf-reader-sym");
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    let _ = setrlimit(Resource::As, limit(MAX_ADDRESS_SPACE));
    let _ = setrlimit(Resource::Core, limit(0));
    if let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() {
        // The other side has gone, or makes no sense: nobody is there to be told.
        let _ = serve(UnixStream::from(socket));
    }
    true
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    file: u64,
    path: String,
    offsets: Vec<u64>,
    tables_only: bool,
}

type Answer = Result<Vec<Vec<Named>>, Failure>;

fn serve(mut socket: UnixStream) -> io::Result<()> {
    let mut files = Files::default();
    loop {
        let (file, size) = receive_file(&socket)?;
        let request: Request = serde_json::from_slice(&message(&mut socket, size)?)?;
        let path = Path::new(&request.path);
        let answer: Answer = files.names(
            request.file,
            &file,
            path,
            &request.offsets,
            request.tables_only,
        );
        let answer = serde_json::to_vec(&answer)?;
        socket.write_all(&size_of_message(&answer)?)?;
        socket.write_all(&answer)?;
    }
}

fn size_of_message(message: &[u8]) -> io::Result<[u8; 4]> {
    match u32::try_from(message.len()) {
        Ok(size) if message.len() <= MAX_MESSAGE => Ok(size.to_ne_bytes()),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Receives a file, and the size of the message that follows.
fn receive_file(socket: &UnixStream) -> io::Result<(File, [u8; 4])> {
    let mut size = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut size)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    match file {
        Some(file) if received.bytes == size.len() => Ok((File::from(file), size)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn message(socket: &mut UnixStream, size: [u8; 4]) -> io::Result<Vec<u8>> {
    let size = u32::from_ne_bytes(size) as usize;
    if size > MAX_MESSAGE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; size];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Files that have been looked into, the last one last.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: Vec<(u64, SymbolFile)>,
}

impl Files {
    /// The functions at offsets of a file. `number` tells files apart.
    pub(super) fn names(
        &mut self,
        number: u64,
        file: &File,
        path: &Path,
        offsets: &[u64],
        tables_only: bool,
    ) -> Answer {
        let known = self.open.iter().position(|&(open, _)| open == number);
        let symbols = match known {
            Some(at) => self.open.remove(at).1,
            None => SymbolFile::open(file, path)?,
        };
        // The library panics on some malformed files; what it has in memory is not used again then.
        let names = catch_unwind(AssertUnwindSafe(|| symbols.names(offsets, tables_only)));
        let Ok(names) = names else {
            return Err(Failure::Malformed);
        };
        self.open.push((number, symbols));
        let mut size: u64 = self.open.iter().map(|(_, file)| file.size()).sum();
        while size > MAX_OPEN && !self.open.is_empty() {
            size -= self.open.remove(0).1.size();
        }
        names
    }
}

/// Where names are looked up.
#[derive(Debug)]
pub(super) enum Lookup {
    /// In this process.
    Here(Files),
    /// In another process, started when it is needed.
    Worker(Option<Worker>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("the look-up took too long")]
    TooSlow,
    #[error("the look-up ended before it was done ({0})")]
    Ended(String),
    #[error("no process can be started for it ({0})")]
    NotStarted(String),
}

impl Lookup {
    pub(super) fn new() -> Self {
        if AVAILABLE.load(Ordering::Relaxed) {
            Self::Worker(None)
        } else {
            Self::Here(Files::default())
        }
    }

    /// The functions at offsets of a file, within a time.
    pub(super) fn names(
        &mut self,
        number: u64,
        file: &File,
        path: &Path,
        offsets: &[u64],
        tables_only: bool,
        time: Duration,
    ) -> Result<Vec<Vec<Named>>, Lost> {
        match self {
            Self::Here(files) => Ok(files.names(number, file, path, offsets, tables_only)?),
            Self::Worker(worker) => {
                let running = match worker {
                    Some(running) => running,
                    None => worker.insert(
                        Worker::start().map_err(|error| Lost::NotStarted(error.to_string()))?,
                    ),
                };
                let request = Request {
                    file: number,
                    path: path.to_string_lossy().into_owned(),
                    offsets: offsets.to_vec(),
                    tables_only,
                };
                match running.ask(file, &request, time) {
                    Ok(answer) => Ok(answer?),
                    Err(error) => {
                        let slow = matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                        );
                        let how = worker.take().and_then(Worker::end);
                        Err(if slow {
                            Lost::TooSlow
                        } else {
                            Lost::Ended(how.unwrap_or_else(|| error.to_string()))
                        })
                    }
                }
            }
        }
    }

    /// Gives memory back after a number of look-ups.
    pub(super) fn settle(&mut self) {
        match self {
            Self::Here(files) => files.open.clear(),
            Self::Worker(worker) => {
                if worker.as_ref().is_some_and(Worker::is_large) {
                    *worker = None;
                }
            }
        }
    }
}

/// A process that looks names up.
#[derive(Debug)]
pub(super) struct Worker {
    process: Child,
    socket: UnixStream,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("ebpf-reader-symbols")
            .arg(ARGUMENT)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            // A worker that ends before its time has nothing to say to the user.
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, socket })
    }

    fn ask(&mut self, file: &File, request: &Request, time: Duration) -> io::Result<Answer> {
        let end = Instant::now() + time;
        self.socket.set_write_timeout(Some(time))?;
        let request = serde_json::to_vec(request)?;
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(
            &self.socket,
            &[IoSlice::new(&size_of_message(&request)?)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        self.socket.write_all(&request)?;

        let mut size = [0; 4];
        self.read(&mut size, end)?;
        let size = u32::from_ne_bytes(size) as usize;
        if size > MAX_MESSAGE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut answer = vec![0; size];
        self.read(&mut answer, end)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Fills the buffer before `end`.
    fn read(&mut self, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => buffer = buffer.get_mut(read..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it has kept too much memory.
    fn is_large(&self) -> bool {
        let pages = || {
            let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id()));
            statm.ok()?.split(' ').nth(1)?.parse::<u64>().ok()
        };
        let page_size = rustix::param::page_size() as u64;
        pages().is_none_or(|pages| pages.saturating_mul(page_size) > MAX_RESIDENT)
    }

    /// Ends it, and tells how it had ended.
    fn end(mut self) -> Option<String> {
        // A moment for one that is just ending by itself.
        std::thread::sleep(Duration::from_millis(10));
        let status = self.process.try_wait().ok()??;
        Some(status.to_string())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
