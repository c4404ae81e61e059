//! The symbols, defined in assembly: the same directives on every architecture.
//!
//! The block is zero in every new thread (`.tbss`) and 16-aligned, so that both slots share a cache line.
//! The version constant is retained (`R`): nothing in a program refers to it, and `--gc-sections` would
//! drop it where only `.symtab` names the symbols. All of it is one piece of assembly, which the access
//! sequences refer to: a linker takes it from the archive exactly when the program publishes.
//!
//! Each slot has a second, hidden name for the program that contains its C library (`crt-static`). GNU ld
//! keeps a dynamic relocation for accesses to an exported symbol, and glibc's start-up code crashes on
//! it, as it relocates a static-pie before there is thread-local storage. Accesses by a hidden name
//! become constants with every linker, and nothing can interpose in such a program.

#[cfg(feature = "custom-labels")]
core::arch::global_asm!(
    "
    .pushsection .tbss.otel_thread_ctx_v1, \"awT\", @nobits
    .p2align 4
    .globl otel_thread_ctx_v1
    .type otel_thread_ctx_v1, @tls_object
    .size otel_thread_ctx_v1, 8
    .globl otel_profiling_thread_context
    .hidden otel_profiling_thread_context
    .type otel_profiling_thread_context, @tls_object
otel_profiling_thread_context:
otel_thread_ctx_v1:
    .zero 8
    .globl custom_labels_current_set
    .type custom_labels_current_set, @tls_object
    .size custom_labels_current_set, 8
    .globl otel_profiling_custom_labels
    .hidden otel_profiling_custom_labels
    .type otel_profiling_custom_labels, @tls_object
otel_profiling_custom_labels:
custom_labels_current_set:
    .zero 8
    .popsection

    .pushsection .rodata.custom_labels_abi_version, \"aR\", @progbits
    .p2align 2
    .globl custom_labels_abi_version
    .type custom_labels_abi_version, @object
    .size custom_labels_abi_version, 4
custom_labels_abi_version:
    .long {version}
    .popsection
    ",
    version = const crate::abi::custom_labels::VERSION,
);

#[cfg(not(feature = "custom-labels"))]
core::arch::global_asm!(
    "
    .pushsection .tbss.otel_thread_ctx_v1, \"awT\", @nobits
    .p2align 4
    .globl otel_thread_ctx_v1
    .type otel_thread_ctx_v1, @tls_object
    .size otel_thread_ctx_v1, 8
    .globl otel_profiling_thread_context
    .hidden otel_profiling_thread_context
    .type otel_profiling_thread_context, @tls_object
otel_profiling_thread_context:
otel_thread_ctx_v1:
    .zero 16
    .popsection
    "
);
