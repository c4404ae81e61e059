//! Loads the shared object given and calls its `run`.

use std::ffi::{CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(module: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NOW: c_int = 2;

fn main() {
    let path = std::env::args().nth(1).expect("a path");
    let path = CString::new(path).expect("no NUL");
    // SAFETY: the shared object has no initialisers but Rust's own; `run` has this signature.
    let run: extern "C" fn() = unsafe {
        let module = dlopen(path.as_ptr(), RTLD_NOW);
        assert!(!module.is_null(), "dlopen failed");
        let run = dlsym(module, c"run".as_ptr());
        assert!(!run.is_null(), "no `run`");
        std::mem::transmute(run)
    };
    run();
}
