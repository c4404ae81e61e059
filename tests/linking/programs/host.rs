//! Loads the shared object given and has it check itself, on this thread and on two others.

use std::ffi::{CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(module: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NOW: c_int = 2;

pub fn main() {
    let path = std::env::args().nth(1).expect("a path");
    let path = CString::new(path).expect("no NUL");
    // SAFETY: the shared object has no initialisers but Rust's own; `check` has this signature.
    let check: extern "C" fn() = unsafe {
        let module = dlopen(path.as_ptr(), RTLD_NOW);
        assert!(!module.is_null(), "dlopen failed");
        let check = dlsym(module, c"check".as_ptr());
        assert!(!check.is_null(), "no `check`");
        std::mem::transmute(check)
    };
    check();
    for _ in 0..2 {
        std::thread::spawn(move || check())
            .join()
            .expect("no panic");
    }
}
