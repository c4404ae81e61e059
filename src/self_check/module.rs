//! The loaded modules (the executable and the shared objects) as the dynamic loader lists them.

use core::ffi::{CStr, c_int, c_void};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libc::{PF_X, PT_DYNAMIC, PT_LOAD, PT_TLS};

/// One program header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) flags: u32,
    /// Address in the file; add [`Module::bias`] for the address in memory.
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) align: u64,
}

/// A loaded module.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// Whether it is the main executable, which the loader lists first.
    pub(super) is_executable: bool,
    pub(super) path: PathBuf,
    /// What to add to addresses of the file.
    pub(super) bias: u64,
    pub(super) segments: Vec<Segment>,
    /// The calling thread's copy of the module's thread-local storage, if it has one by now.
    pub(super) tls_data: Option<u64>,
}

impl Module {
    fn segment(&self, kind: u32) -> Option<Segment> {
        self.segments
            .iter()
            .copied()
            .find(|segment| segment.kind == kind)
    }

    pub(super) fn dynamic(&self) -> Option<Segment> {
        self.segment(PT_DYNAMIC)
    }

    pub(super) fn tls(&self) -> Option<Segment> {
        self.segment(PT_TLS)
    }

    /// Whether the code at `address` is this module's.
    pub(super) fn contains_code(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| {
            segment.kind == PT_LOAD
                && segment.flags & PF_X != 0
                && address.wrapping_sub(self.bias.wrapping_add(segment.address)) < segment.size
        })
    }
}

/// The modules of this process, the executable first.
pub(super) fn loaded() -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    // SAFETY: `add` is called during this call alone, with the pointer to `modules` given here, which
    // nothing else uses meanwhile. It does not unwind, call back into the loader or keep pointers.
    unsafe {
        libc::dl_iterate_phdr(Some(add), (&raw mut modules).cast());
    }
    modules
}

unsafe extern "C" fn add(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    modules: *mut c_void,
) -> c_int {
    // SAFETY: `loaded` passes a pointer to its own vector; the loader passes a filled-in structure.
    let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Vec<Module>>()) };
    let mut segments = Vec::new();
    if !info.dlpi_phdr.is_null() {
        // SAFETY: the loader keeps the module and its program headers mapped during this call.
        let headers =
            unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        segments.extend(headers.iter().map(|header| Segment {
            kind: header.p_type,
            flags: header.p_flags,
            address: header.p_vaddr,
            size: header.p_memsz,
            align: header.p_align,
        }));
    }
    let name = if info.dlpi_name.is_null() {
        c""
    } else {
        // SAFETY: the loader's name of the module, terminated, alive during this call.
        unsafe { CStr::from_ptr(info.dlpi_name) }
    };
    let is_executable = modules.is_empty();
    let path = if is_executable {
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("the executable"))
    } else {
        PathBuf::from(OsStr::from_bytes(name.to_bytes()))
    };
    modules.push(Module {
        is_executable,
        path,
        bias: info.dlpi_addr,
        segments,
        tls_data: (!info.dlpi_tls_data.is_null()).then_some(info.dlpi_tls_data as u64),
    });
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_code_is_in_the_executable() {
        let modules = loaded();
        let own = modules
            .iter()
            .find(|module| module.contains_code(loaded as fn() -> Vec<Module> as usize as u64))
            .expect("this function is in some module");
        assert!(own.is_executable);
        assert_eq!(own.path, std::env::current_exe().expect("/proc is mounted"));
        assert!(own.tls().is_some());
        assert_eq!(
            modules.iter().filter(|module| module.is_executable).count(),
            1
        );
    }

    #[test]
    fn data_is_not_code() {
        let local = 0_u8;
        assert!(
            !loaded()
                .iter()
                .any(|module| module.contains_code(&raw const local as u64))
        );
    }
}
