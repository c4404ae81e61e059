//! The code that the kernel maps into every process, the same into all of them.

use super::{Maps, Memory};

/// How its mapping is called.
pub(crate) const VDSO: &str = "[vdso]";

/// The file as it is mapped into this process; empty if there is none.
pub(crate) fn own_vdso() -> Vec<u8> {
    let read = || {
        let pid = std::process::id();
        let maps = Maps::read(pid).ok()?;
        let mapping = maps.iter().find(|mapping| mapping.name == VDSO)?;
        let mut bytes = vec![0; usize::try_from(mapping.end - mapping.start).ok()?];
        let memory = Memory::open(pid).ok()?;
        memory.read(mapping.start, &mut bytes).ok()?;
        Some(bytes)
    };
    read().unwrap_or_default()
}
