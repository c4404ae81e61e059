//! Access on x86-64: the canonical TLSDESC sequence, byte for byte what compilers emit.
//!
//! Linkers relax exactly these instructions (`lea sym@tlsdesc(%rip), %rax; call *sym@tlscall(%rax)`) to a
//! constant in an executable; any other register or addressing form makes them refuse or go wrong. Where
//! they stay, in a shared object, readers find the symbol by the TLSDESC relocation that they leave.

use core::arch::asm;

#[path = "definition.rs"]
mod definition;

#[cfg(test)]
pub(super) const SUPPORTED: bool = true;

/// The address of a thread-local symbol on the calling thread.
///
/// The descriptor's function preserves all registers but `rax` by its convention. Its slow path in older
/// versions of glibc (before 2.40) does not preserve vector registers, so everything that a C function may
/// clobber is given up here. Callers look an address up once per thread.
macro_rules! address_of {
    ($symbol:literal) => {{
        let address: *mut ();
        // SAFETY: the sequence computes the address of `$symbol`, which `definition` defines, and has no
        // effect but on the registers declared. The compiler keeps the stack aligned for the call,
        // since `nostack` is not given.
        unsafe {
            asm!(
                concat!("leaq ", $symbol, "@tlsdesc(%rip), %rax"),
                concat!("call *", $symbol, "@tlscall(%rax)"),
                "addq %fs:0, %rax",
                out("rax") address,
                clobber_abi("C"),
                options(att_syntax),
            );
        }
        address
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
    let pointer: usize;
    // SAFETY: the ABI keeps the thread pointer itself in the first word at fs; this reads it, nothing else.
    unsafe {
        asm!(
            "movq %fs:0, {pointer}",
            pointer = out(reg) pointer,
            options(att_syntax, nostack, preserves_flags, readonly),
        );
    }
    Some(pointer)
}
