//! Access on aarch64: the canonical TLSDESC sequence, instruction for instruction what compilers emit.
//!
//! Linkers relax exactly these four instructions (adrp, ldr, add, blr, with x0 and x1) to a constant in an
//! executable. Where they stay, in a shared object, readers find the symbol by the TLSDESC relocation.

use core::arch::asm;

#[path = "definition.rs"]
mod definition;

#[cfg(test)]
pub(super) const SUPPORTED: bool = true;

/// The address of a thread-local symbol on the calling thread.
///
/// The descriptor's function preserves all registers but x0 and x1 by its convention; everything that a C
/// function may clobber is given up here all the same, as its slow path has not always kept to that.
/// Callers look an address up once per thread.
macro_rules! address_of {
    ($symbol:literal) => {{
        let offset: usize;
        // SAFETY: the sequence computes the offset of `$symbol`, which `definition` defines, from the
        // thread pointer, and has no effect but on the registers declared. The compiler keeps the stack
        // aligned for the call, since `nostack` is not given.
        unsafe {
            asm!(
                concat!("adrp x0, :tlsdesc:", $symbol),
                concat!("ldr x1, [x0, :tlsdesc_lo12:", $symbol, "]"),
                concat!("add x0, x0, :tlsdesc_lo12:", $symbol),
                concat!(".tlsdesccall ", $symbol),
                "blr x1",
                out("x0") offset,
                clobber_abi("C"),
            );
        }
        read_thread_pointer().wrapping_add(offset) as *mut ()
    }};
}

// Never inlined: a Rust `dylib` that contains this crate hides the symbols, and keeps them reachable for
// its own code only.
#[inline(never)]
pub(super) fn thread_context() -> *mut () {
    #[cfg(not(target_feature = "crt-static"))]
    return address_of!("otel_thread_ctx_v1");
    #[cfg(target_feature = "crt-static")]
    address_of!("otel_profiling_thread_context")
}

#[cfg(feature = "custom-labels")]
#[inline(never)]
pub(super) fn custom_labels() -> *mut () {
    #[cfg(not(target_feature = "crt-static"))]
    return address_of!("custom_labels_current_set");
    #[cfg(target_feature = "crt-static")]
    address_of!("otel_profiling_custom_labels")
}

#[cfg(not(feature = "custom-labels"))]
pub(super) fn custom_labels() -> *mut () {
    core::ptr::null_mut()
}

pub(super) fn thread_pointer() -> Option<usize> {
    Some(read_thread_pointer())
}

fn read_thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads the register that holds the thread pointer in user space, nothing else.
    unsafe {
        asm!(
            "mrs {pointer}, tpidr_el0",
            pointer = out(reg) pointer,
            options(nostack, preserves_flags, nomem),
        );
    }
    pointer
}
