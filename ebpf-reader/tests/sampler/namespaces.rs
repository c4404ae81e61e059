//! A reader that is not in the initial pid namespace.

use std::process::Command;

use crate::collect::ebpf;

/// Runs another test as the first process of a new pid namespace.
#[test]
fn ebpf_works_in_a_pid_namespace() {
    if ebpf().is_none() {
        return;
    }
    let unshare = ["--pid", "--fork", "--mount-proc"];
    let possible = Command::new("unshare").args(unshare).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: needs unshare(1) and CAP_SYS_ADMIN to make a pid namespace");
        return;
    }
    for test in [
        "contexts::ebpf_reads_contexts_and_labels",
        "everything::ebpf_samples_processes_that_nobody_named",
        "life::ebpf_follows_children",
        "life::ebpf_forgets_locations_at_exec",
        "waits::ebpf_tells_times_off_the_cpu",
    ] {
        let output = Command::new("unshare")
            .args(unshare)
            .arg(std::env::current_exe().expect("own path"))
            .args(["--exact", test, "--nocapture"])
            .output()
            .expect("unshare runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            text.contains("1 passed") && !text.contains("skipped:"),
            "{text}"
        );
    }
}
