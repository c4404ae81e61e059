//! Build ids of the code that no file brings into a process: the kernel's own, and that of the vdso.
//!
//! Both are the same for as long as this program runs, so each is read once.

use std::fs::File;
use std::io::Read as _;
use std::sync::LazyLock;

use super::own_vdso;
use crate::elf::BuildId;

/// Where the kernel shows its notes, to everyone.
const NOTES: &str = "/sys/kernel/notes";
/// Bytes of them that are read; they have some hundred.
const MAX_NOTES: u64 = 64 << 10;

/// The build id of the running kernel, if it has one and shows it.
pub(crate) fn kernel_build_id() -> Option<BuildId> {
    static KERNEL: LazyLock<Option<BuildId>> = LazyLock::new(|| {
        let mut notes = Vec::new();
        let file = File::open(NOTES).ok()?;
        file.take(MAX_NOTES).read_to_end(&mut notes).ok()?;
        BuildId::in_notes(&notes)
    });
    KERNEL.clone()
}

/// The build id of the code that the kernel maps into 64-bit processes, if it has one.
pub(crate) fn vdso_build_id() -> Option<BuildId> {
    static VDSO: LazyLock<Option<BuildId>> =
        LazyLock::new(|| BuildId::read(&own_vdso()[..]).ok().flatten());
    VDSO.clone()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_the_kernel_shows_is_found() {
        // A container may hide it, and a kernel may be built without one.
        let shown = std::fs::read(NOTES).is_ok_and(|notes| {
            let mut windows = notes.windows(8);
            windows.any(|bytes| bytes == b"\x03\0\0\0GNU\0")
        });
        assert_eq!(kernel_build_id().is_some(), shown);
    }

    #[test]
    fn the_vdso_has_the_id_that_readelf_shows() {
        let vdso = own_vdso();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vdso.so");
        std::fs::write(&path, &vdso).unwrap();
        let Ok(output) = Command::new("readelf").arg("-n").arg(&path).output() else {
            eprintln!("skipped: needs readelf");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = text.lines().find_map(|line| line.split_once("Build ID: "));
        assert_eq!(
            vdso_build_id().map(|id| id.to_string()).as_deref(),
            expected.map(|(_, id)| id.trim())
        );
    }
}
