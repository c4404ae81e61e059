//! Hostile writers whose files are the danger: very many mappings, huge files, files that change while they are read.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::writer::{EVIL, ready, some_work, take_evil_name, work};

/// More than the kernel allows by default.
const MAPPINGS: usize = 100_000;
/// What a process may have of them.
const LIMIT: &str = "/proc/sys/vm/max_map_count";

const PAGE: usize = 4096;

/// A folder that is removed by whoever started this program.
fn folder() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

fn map(file: &File, size: usize, protection: libc::c_int) -> usize {
    // SAFETY: a new mapping of a file, which nothing else knows of.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            protection,
            libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.expose_provenance()
}

/// As many mappings as wanted, or as the kernel allows, of a file with an evil name.
pub(crate) fn mappings() -> ! {
    let allowed = fs::read_to_string(LIMIT)
        .ok()
        .and_then(|limit| limit.trim().parse().ok())
        .unwrap_or(65_530_usize);
    let wanted = MAPPINGS.min(allowed.saturating_sub(1000));
    let name = format!("many{EVIL}");
    let file = File::create_new(folder().join(name)).unwrap();
    file.set_len((wanted * PAGE) as u64).unwrap();
    let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let start = map(&file, wanted * PAGE, libc::PROT_READ);
    // Every other page is executable, so that no two can be one mapping.
    for page in (0..wanted).step_by(2) {
        let address = std::ptr::with_exposed_provenance_mut(start + page * PAGE);
        // SAFETY: a page of the mapping that was just made, which nothing else uses.
        let result = unsafe { libc::mprotect(address, PAGE, libc::PROT_READ | libc::PROT_EXEC) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    ready();
    // Samples in ever new places, so that the reader looks at the mappings again.
    work()
}

/// Where a 4 GB file has its tables.
const FAR: u64 = (4 << 30) - 4096;

/// Its own program has 4 GB and section headers at their end, by whoever started it; more such files are mapped as if
/// they were shared objects.
pub(crate) fn sparse() -> ! {
    let program = fs::read(
        std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .join("head"),
    )
    .unwrap();
    for (number, what) in ["dynamic", "program headers", "sections"]
        .into_iter()
        .enumerate()
    {
        let path = folder().join(format!("{what}{EVIL}.so"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let mut head = program.clone();
        point_far(&mut head, number);
        file.write_all_at(&head, 0).unwrap();
        file.set_len(4 << 30).unwrap();
        map(&file, PAGE, libc::PROT_READ | libc::PROT_EXEC);
    }
    ready();
    work()
}

/// Sets a word of a 64-bit ELF file.
fn set(head: &mut [u8], offset: usize, value: u64) {
    head[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// Has the head of an ELF file lead to the end of a huge file.
fn point_far(head: &mut [u8], what: usize) {
    match what {
        0 => {
            let headers = usize::from(u16::from_le_bytes([head[56], head[57]]));
            for index in 0..headers {
                let at = 64 + index * 56;
                if head[at] == 2 {
                    set(head, at + 8, FAR);
                    set(head, at + 32, 1 << 40);
                    set(head, at + 40, 1 << 40);
                }
            }
        }
        1 => set(head, 32, FAR),
        _ => sections_far(head),
    }
}

/// Has the section headers lie at the end of a huge file, as many as can be.
pub(crate) fn sections_far(head: &mut [u8]) {
    set(head, 40, FAR);
    head[60..62].copy_from_slice(&u16::MAX.to_le_bytes());
}

/// `loop: dec rdi; jnz loop; ret`, or the same for aarch64: runs as long as its argument says.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = b"\x48\xff\xcf\x75\xfb\xc3";
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = b"\x00\x04\x00\xf1\xe1\xff\xff\x54\xc0\x03\x5f\xd6";

/// Runs code in a mapped file, and truncates, fills and replaces the file whenever it does not. Replaces its own
/// program, too.
pub(crate) fn truncates() -> ! {
    let head = fs::read(folder().join("head")).unwrap();
    let path = folder().join(format!("object{EVIL}.so"));
    let fill = |file: &File| {
        file.write_all_at(&head, 0).unwrap();
        file.write_all_at(CODE, 16 * PAGE as u64).unwrap();
        file.set_len(64 * PAGE as u64).unwrap();
    };
    let open = || {
        let _ = fs::remove_file(&path);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap()
    };
    let mut file = open();
    fill(&file);
    thread::spawn(|| {
        let own = std::env::current_exe().unwrap();
        let other = folder().join("other");
        loop {
            fs::write(&other, "no program any more").unwrap();
            fs::rename(&other, &own).unwrap();
            thread::sleep(Duration::from_millis(3));
            let _ = fs::remove_file(&own);
            thread::sleep(Duration::from_millis(3));
        }
    });
    take_evil_name();
    let mut start = map(&file, 64 * PAGE, libc::PROT_READ | libc::PROT_EXEC);
    for turn in 0.. {
        if turn == 1 {
            ready();
        }
        let code = std::ptr::with_exposed_provenance::<u8>(start + 16 * PAGE);
        // SAFETY: the file is full at this moment, so that CODE lies there; it takes a number and touches nothing
        // else.
        let run: extern "C" fn(u64) = unsafe { std::mem::transmute(code) };
        run(1_000_000);
        file.set_len(0).unwrap();
        thread::sleep(Duration::from_millis(2));
        if turn % 50 == 49 {
            // Another file in its place, while the old one stays mapped for good.
            file = open();
            fill(&file);
            start = map(&file, 64 * PAGE, libc::PROT_READ | libc::PROT_EXEC);
        } else {
            fill(&file);
        }
        if turn % 10 == 0 {
            some_work();
        }
    }
    unreachable!("turns do not end")
}
