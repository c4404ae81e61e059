//! What threads under ptrace are waiting for.

use std::io;

/// Whose changes to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// Any thread that the calling thread traces.
    AnyTraced,
    /// This thread.
    Thread(u32),
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The thread is gone.
    Gone,
    /// The thread stands still until it is told to continue.
    Stopped {
        /// The signal that is about to be delivered, or that goes with the event.
        signal: i32,
        /// A `PTRACE_EVENT_…`, or 0 for the delivery of a signal.
        event: i32,
    },
}

/// The next change of state, if there is one; it stays to be taken.
pub(crate) fn peek(of: Of) -> io::Result<Option<(u32, Change)>> {
    wait(of, libc::WNOWAIT)
}

/// The next change of state, if there is one; it is taken away, and a thread that is gone is reaped.
pub(crate) fn take(tid: u32) -> io::Result<Option<Change>> {
    Ok(wait(Of::Thread(tid), 0)?.map(|(_, change)| change))
}

/// The stop of a thread, if it stands still and that was not taken before: the signal that it is to get when it
/// runs on, 0 for none. An exit is left alone: whoever started the process is to see it.
pub(crate) fn take_stop(tid: u32) -> io::Result<Option<i32>> {
    let options = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
    let stop = waitid(libc::P_PID, tid, options)?;
    Ok(stop.map(|(_, change)| match change {
        Change::Stopped { signal, event: 0 } => signal,
        Change::Stopped { .. } | Change::Gone => 0,
    }))
}

fn wait(of: Of, flags: i32) -> io::Result<Option<(u32, Change)>> {
    let (kind, id, thread_only) = match of {
        Of::AnyTraced => (libc::P_ALL, 0, libc::__WNOTHREAD),
        Of::Thread(tid) => (libc::P_PID, tid, 0),
    };
    let options =
        libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::__WALL | thread_only | flags;
    waitid(kind, id, options)
}

fn waitid(kind: libc::idtype_t, id: u32, options: i32) -> io::Result<Option<(u32, Change)>> {
    // SAFETY: siginfo_t is plain data; all zero is a valid value, and what "nothing" looks like after.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid siginfo_t that the kernel may write to during the call.
    let result = unsafe { libc::waitid(kind, id, &raw mut info, options) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid filled in the members for SIGCHLD, or left all zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let Ok(tid @ 1..) = u32::try_from(pid) else {
        return Ok(None);
    };
    let change = match info.si_code {
        libc::CLD_STOPPED | libc::CLD_TRAPPED => Change::Stopped {
            signal: status & 0xff,
            event: status >> 8,
        },
        _ => Change::Gone,
    };
    Ok(Some((tid, change)))
}
