//! The slots of the running test program: per thread, zero at first, and where its program headers say.

use core::sync::atomic::Ordering;
use std::collections::HashSet;
use std::sync::Barrier;

use super::*;

fn addresses() -> (usize, Option<usize>) {
    let slots = slots().expect("this target has the block");
    (
        slots.thread_context.as_ptr() as usize,
        slots.custom_labels.map(|slot| slot.as_ptr() as usize),
    )
}

#[test]
fn slots_are_stable_aligned_and_null_in_a_new_thread() {
    if !SUPPORTED {
        assert!(slots().is_none());
        return;
    }
    std::thread::spawn(|| {
        let slots = slots().expect("this target has the block");
        assert_eq!(addresses(), addresses());
        assert_eq!(addresses().0 % 8, 0);
        // SAFETY: the slot belongs to this thread, which lives.
        let value = unsafe { slots.thread_context.as_ref() }.load(Ordering::Relaxed);
        assert!(value.is_null());
        assert_eq!(
            slots.custom_labels.is_some(),
            cfg!(feature = "custom-labels")
        );
        if let Some(slot) = slots.custom_labels {
            assert_eq!(slot.as_ptr() as usize % 8, 0);
            // SAFETY: as above.
            assert!(unsafe { slot.as_ref() }.load(Ordering::Relaxed).is_null());
        }
    })
    .join()
    .expect("no panic");
}

#[test]
fn every_thread_has_slots_of_its_own() {
    const THREADS: usize = 8;
    if !SUPPORTED {
        return;
    }
    let barrier = Barrier::new(THREADS);
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let found = addresses();
                    // All live at once: the C library reuses the memory of threads that ended.
                    barrier.wait();
                    found
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .collect()
    });
    let mut distinct: HashSet<usize> = found.iter().map(|slots| slots.0).collect();
    distinct.extend(found.iter().filter_map(|slots| slots.1));
    let per_thread = if cfg!(feature = "custom-labels") {
        2
    } else {
        1
    };
    assert_eq!(distinct.len(), THREADS * per_thread);
}

#[test]
fn a_store_on_one_thread_does_not_show_on_another() {
    let Some(slots) = slots() else { return };
    let mut record = RecordHeader::default();
    // SAFETY: the slot belongs to this thread, which lives.
    let slot = unsafe { slots.thread_context.as_ref() };
    slot.store(&raw mut record, Ordering::Relaxed);
    let other = std::thread::spawn(|| {
        let slots = super::slots().expect("this target has the block");
        // SAFETY: as above.
        unsafe { slots.thread_context.as_ref() }.load(Ordering::Relaxed) as usize
    });
    assert_eq!(other.join().expect("no panic"), 0);
    assert_eq!(slot.load(Ordering::Relaxed), &raw mut record);
    slot.store(core::ptr::null_mut(), Ordering::Relaxed);
}

/// The bytes of the access sequence in this executable, from the function's start.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]
fn code() -> Vec<u8> {
    use std::os::unix::fs::FileExt;

    let mut code = vec![0; 96];
    let memory = std::fs::File::open("/proc/self/mem").expect("/proc is mounted");
    let function = access::thread_context as fn() -> *mut ();
    memory
        .read_exact_at(&mut code, function as usize as u64)
        .expect("the function is longer, or others follow it");
    code
}

/// The linker recognised the canonical sequence: no descriptor is called in an executable.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
#[test]
fn access_is_relaxed() {
    // xchg %ax, %ax in place of the call; addq %fs:0, %rax
    let relaxed = [0x66, 0x90, 0x64, 0x48, 0x03, 0x04, 0x25, 0, 0, 0, 0];
    let code = code();
    let at = code
        .windows(relaxed.len())
        .position(|window| window == relaxed)
        .unwrap_or_else(|| panic!("not relaxed: {code:02x?}"));
    // movq $offset, %rax, or movq offset@gottpoff(%rip), %rax
    let load = &code[at - 7..at - 4];
    assert!(
        load == [0x48, 0xc7, 0xc0] || load == [0x48, 0x8b, 0x05],
        "{load:02x?}"
    );
}

/// As above.
#[cfg(all(target_os = "linux", target_arch = "aarch64", not(miri)))]
#[test]
fn access_is_relaxed() {
    const NOP: u32 = 0xd503_201f;
    let words: Vec<u32> = code()
        .as_chunks()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .collect();
    let at = words
        .windows(2)
        .position(|pair| pair == [NOP, NOP])
        .unwrap_or_else(|| panic!("not relaxed: {words:08x?}"));
    // movz x0, #high, lsl #16 and movk x0, #low, or adrp x0 and ldr x0 from the global offset table.
    let [first, second] = [words[at - 2], words[at - 1]];
    let is_constant = first & 0xffe0_001f == 0xd2a0_0000 && second & 0xffe0_001f == 0xf280_0000;
    let is_load = first & 0x9f00_001f == 0x9000_0000 && second & 0xffc0_03ff == 0xf940_0000;
    assert!(is_constant || is_load, "{first:08x} {second:08x}");
}
