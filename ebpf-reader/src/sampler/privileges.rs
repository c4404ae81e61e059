//! Which privileges this process lacks for sampling with eBPF.

use std::fs;
use std::io;

use crate::error::Error;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Fails with the names of the missing capabilities, before anything is tried.
pub(super) fn check() -> Result<(), Error> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| Error::io("read /proc/self/status", error))?;
    let missing = missing(effective(&status));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Permission {
        action: "sample with eBPF".to_owned(),
        needs: format!(
            "CAP_BPF and CAP_PERFMON, of which {} missing here{}; run as root, grant them with setcap, or sample \
             your own processes with --ptrace",
            match missing.as_slice() {
                [one] => format!("{one} is"),
                _ => "both are".to_owned(),
            },
            paranoid(),
        ),
    })
}

/// Explains a refusal by the kernel that came although the capabilities are there.
pub(super) fn refused(action: &str, error: &io::Error) -> Option<Error> {
    if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
        return None;
    }
    Some(Error::Permission {
        action: action.to_owned(),
        needs: format!(
            "CAP_BPF and CAP_PERFMON in the initial user namespace, a seccomp profile that allows bpf and \
             perf_event_open, no kernel lockdown, and before Linux 5.11 also CAP_SYS_RESOURCE or an unlimited \
             RLIMIT_MEMLOCK (LimitMEMLOCK=infinity){}; or sample with --ptrace",
            paranoid(),
        ),
    })
}

/// The set of effective capabilities in a status file; empty if it does not say.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

/// The capabilities that `effective` does not hold; CAP_SYS_ADMIN stands for both.
fn missing(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|&(capability, _)| !has(capability) && !has(CAP_SYS_ADMIN))
        .map(|(_, name)| name)
        .collect()
}

/// The setting that tells how far perf events are open to everybody, as a remark.
fn paranoid() -> String {
    fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")
        .map(|level| format!(" (kernel.perf_event_paranoid is {})", level.trim()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(1 << CAP_BPF), ["CAP_PERFMON"]);
        assert_eq!(missing(1 << CAP_PERFMON), ["CAP_BPF"]);
        assert_eq!(missing(1 << CAP_SYS_ADMIN), [""; 0]);
        assert_eq!(missing(1 << CAP_BPF | 1 << CAP_PERFMON), [""; 0]);
    }

    #[test]
    fn reads_the_effective_set() {
        let status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t000001c000000000\nCapBnd:\t0\n";
        assert_eq!(effective(status), 0x1c0_0000_0000);
        assert_eq!(effective("CapEff:\tnonsense\n"), 0);
        assert_eq!(effective(""), 0);
    }
}
