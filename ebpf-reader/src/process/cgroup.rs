//! Which container and which Kubernetes pod a process belongs to: by the path of its cgroup.
//!
//! Container engines name the cgroup of a container by its id, in one of a few forms. The names are those of the
//! host only where the reader sees the host's cgroups, which it does unless it has a cgroup namespace of its own.

use std::fs::File;
use std::io::Read;

/// Bytes of `/proc/PID/cgroup` that are read. Each hierarchy is a line of at most 4 KiB, and there are a dozen.
const MAX_BYTES: u64 = 64 << 10;
/// Hexadecimal digits of a container's id.
const ID_DIGITS: usize = 64;

/// Where a process runs, as attributes of OpenTelemetry's resource conventions: `container.id` and `k8s.pod.uid`,
/// as far as they are known.
pub fn origin(pid: u32) -> Vec<(String, String)> {
    let mut bytes = Vec::new();
    // A process that is gone, or whose cgroup may not be read, has none.
    let read = File::open(format!("/proc/{pid}/cgroup"))
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => of_cgroups(&String::from_utf8_lossy(&bytes)),
        Err(_) => Vec::new(),
    }
}

/// The attributes of a process with this `/proc/PID/cgroup`.
fn of_cgroups(text: &str) -> Vec<(String, String)> {
    // Lines are `hierarchy:controllers:path`.
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    // Containers can be nested; and what runs in one may make cgroups of its own.
    let innermost =
        |find: fn(&str) -> Option<String>| paths().find_map(|path| path.rsplit('/').find_map(find));
    let attributes = [
        ("container.id", innermost(container_id)),
        ("k8s.pod.uid", innermost(pod_uid)),
    ];
    attributes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// The container that a cgroup is named after: `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`,
/// `libpod-ID.scope`, `SLICE:cri-containerd:ID`; on AWS Fargate `TASK-NUMBER`.
fn container_id(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let name = name.rsplit(':').next().unwrap_or(name);
    let (engine, id) = match name.rsplit_once('-') {
        Some((engine, id)) => (engine, id),
        None => ("", name),
    };
    // conmon watches a container and is not in it.
    if engine.ends_with("conmon") {
        return None;
    }
    if is_hex(id, ID_DIGITS) {
        return Some(id.to_owned());
    }
    let is_number = (6..=10).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit());
    (is_hex(engine, 32) && is_number).then(|| name.to_owned())
}

/// The pod that a cgroup is named after: `podUID`, `kubepods-burstable-podUID.slice`, and the part before a colon.
fn pod_uid(name: &str) -> Option<String> {
    let name = name.split(':').next().unwrap_or(name);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.strip_prefix("kubepods")?.split_once("-pod")?.1,
    };
    // systemd's names have no dashes inside. A static pod's uid is a hash.
    let uid = uid.replace('_', "-");
    (is_uuid(&uid) || is_hex(&uid, 32)).then_some(uid)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    text.split('-').count() == lengths.len()
        && text
            .split('-')
            .zip(lengths)
            .all(|(part, length)| is_hex(part, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4a9c0b1d2e5f60718293a4b5c6d7e8f9012345678901234567890abcdef012";
    const OUTER: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
    const UID: &str = "0b3f2a1c-9d8e-4f70-8a6b-5c4d3e2f1a0b";

    #[track_caller]
    fn check(text: &str, container: Option<&str>, pod: Option<&str>) {
        let attributes = of_cgroups(text);
        let get = |name: &str| {
            let mut attributes = attributes.iter();
            attributes
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(get("container.id"), container, "{text}");
        assert_eq!(get("k8s.pod.uid"), pod, "{text}");
    }

    #[test]
    fn containers_without_kubernetes() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/system.slice/docker-{ID}.scope/init.scope"),
            format!("/default/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope"),
            format!("/system.slice/nerdctl-{ID}.scope"),
            format!("/ecs/7c1d3f4e5a6b4c8d9e0f1a2b3c4d5e6f/{ID}"),
            format!("/docker/{OUTER}/docker/{ID}"),
            format!("/../../docker-{ID}.scope"),
        ] {
            check(&format!("0::{path}\n"), Some(ID), None);
        }
        let fargate = "7c1d3f4e5a6b4c8d9e0f1a2b3c4d5e6f-1234567890";
        let path = format!("0::/ecs/7c1d3f4e5a6b4c8d9e0f1a2b3c4d5e6f/{fargate}\n");
        check(&path, Some(fargate), None);
    }

    #[test]
    fn pods() {
        let underscored = UID.replace('-', "_");
        for path in [
            // cgroupfs driver
            format!("/kubepods/pod{UID}/{ID}"),
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/besteffort/pod{UID}/crio-{ID}"),
            // systemd driver
            format!("/kubepods.slice/kubepods-pod{underscored}.slice/cri-containerd-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underscored}.slice/cri-containerd-{ID}.scope"
            ),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{underscored}.slice/crio-{ID}.scope/container"
            ),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underscored}.slice/docker-{ID}.scope"
            ),
            // containerd with the systemd driver set on one side only
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{underscored}.slice:cri-containerd:{ID}"
            ),
            // kind: a node in a container
            format!(
                "/docker/{OUTER}/kubelet.slice/kubelet-kubepods.slice/kubepods-pod{underscored}.slice/cri-containerd-{ID}.scope"
            ),
        ] {
            check(&format!("0::{path}\n"), Some(ID), Some(UID));
        }
        let hash = "8b3f2a1c9d8e4f708a6b5c4d3e2f1a0b";
        check(
            &format!("0::/kubepods/burstable/pod{hash}/{ID}\n"),
            Some(ID),
            Some(hash),
        );
    }

    #[test]
    fn version_1_has_many_lines() {
        let text = format!(
            "12:pids:/kubepods/burstable/pod{UID}/{ID}\n\
             11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n\
             1:name=systemd:/kubepods/burstable/pod{UID}/{ID}\n\
             0::/\n"
        );
        check(&text, Some(ID), Some(UID));
        let hybrid = format!(
            "3:cpu,cpuacct:/user.slice\n1:name=systemd:/docker/{ID}\n0::/system.slice/x.service\n"
        );
        check(&hybrid, Some(ID), None);
    }

    #[test]
    fn processes_in_no_container() {
        for path in [
            "/".to_owned(),
            "/init.scope".to_owned(),
            "/system.slice/ssh.service".to_owned(),
            "/user.slice/user-1000.slice/session-3.scope".to_owned(),
            "/system.slice/podman.service".to_owned(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            format!("/x/{}", &ID[1..]),
            format!("/x/{}", ID.to_uppercase()),
        ] {
            check(&format!("0::{path}\n"), None, None);
        }
        for text in ["", "0", "0::", "no colons at all\n", "::::\n"] {
            check(text, None, None);
        }
    }

    #[test]
    fn this_process_can_be_asked() {
        for (name, value) in origin(std::process::id()) {
            assert!(!value.is_empty(), "{name}");
        }
        assert!(origin(u32::MAX).is_empty());
    }
}
