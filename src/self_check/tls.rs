//! From a symbol to the address of a thread's copy: the arithmetic that readers do from outside.

use super::dynamic::{Dynamic, Symbol};
use super::memory::Memory;
use super::module::{Module, Segment};
use super::{SelfCheckError, TlsPlacement};

/// The address in the main executable's block, at its fixed place beside the thread pointer.
pub(super) fn in_executable(thread_pointer: u64, tls: Segment, value: u64) -> u64 {
    let mask = tls.align.max(1).wrapping_sub(1);
    let offset = if cfg!(target_arch = "aarch64") {
        // After the two words at the thread pointer, at the first address congruent with the file's.
        16_u64.wrapping_add(tls.address.wrapping_sub(16) & mask)
    } else {
        // Before the thread pointer, likewise.
        let end = tls.address.wrapping_add(tls.size);
        0_u64
            .wrapping_sub(tls.size)
            .wrapping_sub(0_u64.wrapping_sub(end) & mask)
    };
    thread_pointer.wrapping_add(offset).wrapping_add(value)
}

/// The address and placement that the TLS descriptor of a shared object leads to; `None` without a
/// relocation for the symbol.
pub(super) fn in_shared_object(
    memory: &Memory,
    thread_pointer: u64,
    module: &Module,
    dynamic: &Dynamic,
    symbol: Symbol,
) -> Result<Option<(u64, TlsPlacement)>, SelfCheckError> {
    let Some(descriptor) = dynamic.tls_descriptor(memory, symbol)? else {
        return Ok(None);
    };
    // The descriptor is {resolver, argument}.
    let argument = memory.u64(module.bias.wrapping_add(descriptor).wrapping_add(8))?;
    let found = match dynamically(memory, thread_pointer, argument) {
        Ok(address) => (address, TlsPlacement::Dynamic),
        // The argument is no address, so it is the offset itself.
        Err(_) => (thread_pointer.wrapping_add(argument), TlsPlacement::Static),
    };
    Ok(Some(found))
}

/// Follows an argument that points to {module number, offset} through the thread's vector of blocks.
fn dynamically(memory: &Memory, thread_pointer: u64, argument: u64) -> Result<u64, SelfCheckError> {
    let module = memory.u64(argument)?;
    let offset = memory.u64(argument.wrapping_add(8))?;
    // Where the C libraries keep the vector, and how large its entries are.
    let (vector_at, entry_size) = match (cfg!(target_arch = "aarch64"), cfg!(target_env = "musl")) {
        (true, false) => (thread_pointer, 16),
        (true, true) => (thread_pointer.wrapping_sub(8), 8),
        (false, false) => (thread_pointer.wrapping_add(8), 16),
        (false, true) => (thread_pointer.wrapping_add(8), 8),
    };
    let vector = memory.u64(vector_at)?;
    let block = memory.u64(vector.wrapping_add(module.wrapping_mul(entry_size)))?;
    Ok(block.wrapping_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(address: u64, size: u64, align: u64) -> Segment {
        Segment {
            kind: libc::PT_TLS,
            flags: 0,
            address,
            size,
            align,
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_block_ends_at_the_thread_pointer_rounded_down() {
        assert_eq!(in_executable(0x1000, tls(0x40, 0x20, 8), 0x10), 0xff0);
        assert_eq!(in_executable(0x1000, tls(0x40, 0x24, 16), 0), 0xfd0);
        // An address that is not a multiple of the alignment: the block's start is congruent with it.
        assert_eq!(in_executable(0x1000, tls(0x48, 0x10, 16), 0), 0xfe8);
        assert_eq!(in_executable(0x1000, tls(0, 8, 0), 0), 0xff8);
    }

    #[cfg(target_arch = "aarch64")]
    #[test]
    fn the_block_follows_the_two_words_at_the_thread_pointer() {
        assert_eq!(in_executable(0x1000, tls(0x40, 0x20, 8), 8), 0x1018);
        assert_eq!(in_executable(0x1000, tls(0x40, 0x20, 64), 0), 0x1040);
        assert_eq!(in_executable(0x1000, tls(0x48, 0x20, 16), 0), 0x1018);
        assert_eq!(in_executable(0x1000, tls(0, 8, 0), 0), 0x1010);
    }
}
