//! The hostile writers. Each works until it is killed.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::publish::{self, Slots, label_set, record};
use crate::{files, good};

/// The variable that makes this binary a writer, and says of which kind.
pub(crate) const VARIABLE: &str = "HOSTILE_TEST_WRITER";

/// Clears a screen, rings, sets a title and ends the line: what must not reach a terminal.
pub(crate) const EVIL: &str = "\u{1b}[2J\u{7}\u{1b}]0;evil\u{7}\r\n\u{9b}31m\u{202e}";

/// How control characters look in the name of a thread, which has 15 bytes.
const EVIL_NAME: &[u8] = b"\x1b[31m\n\x07\xff\xfe\0";

pub(crate) fn run(kind: &str) -> ! {
    match kind {
        "good" => good::run(),
        "pointers" => pointers(),
        "flood" => flood(),
        "changing-context" => changing_context(),
        "huge-context" => huge_context(),
        "mappings" => files::mappings(),
        "sparse" => files::sparse(),
        "truncates" => files::truncates(),
        other => panic!("no such writer: {other}"),
    }
}

/// Tells that everything is in place.
pub(crate) fn ready() {
    std::io::stdout().write_all(b"\nready\n").unwrap();
}

/// Gives the calling thread a name that no terminal should see.
pub(crate) fn take_evil_name() {
    // SAFETY: the name is a C string, which the kernel copies.
    unsafe { libc::prctl(libc::PR_SET_NAME, EVIL_NAME.as_ptr()) };
}

/// Uses a part of a CPU for ever.
pub(crate) fn work() -> ! {
    loop {
        some_work();
    }
}

/// A little work and much rest: there are many threads like this, and the good one needs a CPU, too.
pub(crate) fn some_work() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(300) {
        std::hint::black_box(());
    }
    thread::sleep(Duration::from_millis(30));
}

/// A thread for each way to lead a reader astray.
fn pointers() -> ! {
    let slots = Slots::find();
    let in_thread = |thread_context: u64, custom_labels: u64| {
        thread::spawn(move || {
            take_evil_name();
            slots.set(thread_context, custom_labels);
            work();
        });
    };
    let good = publish::bytes(&record([0xaa; 16], &[], 0));
    let addresses = [
        // Null, and close to it.
        0,
        0x10,
        // The kernel's half, and what is neither half.
        0xffff_8000_0000_0000,
        0xffff_ffff_ffff_fff0,
        u64::MAX,
        0x0001_0000_0000_0000,
        // Not mapped any more, and at the very end of what is mapped.
        unmapped(),
        end_of_a_page(),
        // Misaligned.
        good + 1,
        0x1001,
    ];
    for address in addresses {
        in_thread(address, 0);
        in_thread(0, address);
        in_thread(0, publish::address([address, 16, 16]));
        in_thread(
            0,
            publish::address([publish::address([8, address, 8, address]), 1, 1]),
        );
    }

    // A set of labels that is its own storage, whose labels are the set.
    let set = publish::address([0_u64; 8]);
    let own = [set, u64::MAX, u64::MAX, set, 1 << 62, set, 1 << 63, set];
    // SAFETY: the eight words of the leaked array above, which nothing else refers to.
    unsafe { std::ptr::with_exposed_provenance_mut::<[u64; 8]>(set as usize).write_volatile(own) };
    in_thread(0, set);
    in_thread(set, set);
    in_thread(0, label_set(&[(b"few", b"labels")], u64::MAX));

    // More attributes than a record may have, and entries that do not fit.
    in_thread(
        publish::bytes(&record([0xab; 16], &[7; 70_000], u16::MAX)),
        0,
    );
    in_thread(publish::bytes(&record([0xac; 16], &[0, 255, b'x'], 3)), 0);
    let evil = [&[0, EVIL.len() as u8], EVIL.as_bytes()].concat();
    let evil = record([0xad; 16], &evil, evil.len() as u16);
    let invalid: (&[u8], &[u8]) = (b"\xff\xfe\xc3(", b"\xf0\x28\x8c\x28\x1b[0m");
    in_thread(
        publish::bytes(&evil),
        label_set(
            &[invalid, (EVIL.as_bytes(), EVIL.as_bytes()), (b"", b"")],
            3,
        ),
    );
    in_thread(0, label_set(&[(b"hostile", EVIL.as_bytes())], 1));
    take_evil_name();
    ready();
    work()
}

fn mapped(pages: usize) -> usize {
    // SAFETY: a new mapping, which nothing else knows of.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            pages * 4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.expose_provenance()
}

fn unmapped() -> u64 {
    let page = mapped(1);
    // SAFETY: the mapping of one page that was just made.
    unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(page), 4096) };
    page as u64
}

/// The last bytes before memory that is not there: a record that is cut short.
fn end_of_a_page() -> u64 {
    let pages = mapped(2);
    // SAFETY: the second of two pages that were just mapped, and a byte of the first one.
    unsafe {
        libc::munmap(std::ptr::with_exposed_provenance_mut(pages + 4096), 4096);
        std::ptr::with_exposed_provenance_mut::<u8>(pages).write_volatile(1);
    }
    pages as u64 + 4096 - 16
}

/// Another trace, other attributes and other labels as often as possible.
fn flood() -> ! {
    let slots = Slots::find();
    for seed in 0..2_u64 {
        thread::spawn(move || {
            let record = Box::leak(vec![0_u64; 80].into_boxed_slice());
            let record_address = record.as_ptr().expose_provenance() as u64;
            let text = Box::leak(vec![0_u64; 32].into_boxed_slice());
            let text_address = text.as_ptr().expose_provenance() as u64;
            let labels: [u64; 8] = [
                8,
                text_address,
                256,
                text_address,
                8,
                text_address + 8,
                256,
                text_address,
            ];
            let set = publish::address([publish::address(labels), 2, 2]);
            let mut number = seed << 60;
            let mut rest = Instant::now();
            loop {
                number += 1;
                // In place, although a reader may be looking: the hostile one does not mind.
                slots.set(0, 0);
                for word in record.iter_mut().chain(text.iter_mut()) {
                    number = number
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    // SAFETY: a word of the leaked memory above, which only this thread writes to.
                    unsafe { std::ptr::from_mut(word).write_volatile(number) };
                }
                record[3] = u64::from_ne_bytes([1, 1, 0x64, 2, 0, 255, 0, 0]);
                slots.set(record_address, set);
                if rest.elapsed() > Duration::from_millis(2) {
                    thread::sleep(Duration::from_millis(10));
                    rest = Instant::now();
                }
            }
        });
    }
    ready();
    work()
}

/// The page of a process context in this process: named, and with this header.
fn context_page(payload: &[u8], claimed: u32) -> *mut u64 {
    let page = mapped(1);
    let mut header = *b"OTEL_CTX\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    header[12..16].copy_from_slice(&claimed.to_ne_bytes());
    header[16..24].copy_from_slice(&1_u64.to_ne_bytes());
    header[24..].copy_from_slice(&publish::bytes(payload).to_ne_bytes());
    let start = std::ptr::with_exposed_provenance_mut::<u8>(page);
    // SAFETY: within the page that was just mapped; the name is a C string, which the kernel copies. Where the
    // kernel cannot name memory nothing is found here, which is no danger to anybody.
    unsafe {
        start.copy_from_nonoverlapping(header.as_ptr(), header.len());
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME as libc::c_ulong,
            page,
            4096,
            c"OTEL_CTX".as_ptr(),
        );
    }
    start.cast()
}

/// The payload of a process context that names a service.
fn payload(service: &str) -> Vec<u8> {
    let wrap = |tag: u8, inner: &[u8]| {
        let mut outer = vec![tag, inner.len() as u8];
        outer.extend(inner);
        outer
    };
    let key = wrap(0x0a, b"service.name");
    let value = wrap(0x12, &wrap(0x0a, service.as_bytes()));
    wrap(0x0a, &wrap(0x0a, &[key, value].concat()))
}

/// A process context whose timestamp, size and address never stand still.
fn changing_context() -> ! {
    let first = publish::bytes(&payload(EVIL));
    let page = context_page(&payload(EVIL), payload(EVIL).len() as u32).expose_provenance();
    thread::spawn(move || {
        let page = std::ptr::with_exposed_provenance_mut::<u64>(page);
        let mut number = 2_u64;
        loop {
            for _ in 0..10_000 {
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // SAFETY: the last two words of the header, in a page that stays mapped; the reader is in another
                // process.
                unsafe {
                    page.add(2).write_volatile(number);
                    page.add(3)
                        .write_volatile(if number & 1 == 0 { first } else { number });
                }
            }
            thread::sleep(Duration::from_micros(500));
        }
    });
    take_evil_name();
    ready();
    work()
}

/// Process contexts that are said to be large, and others that are large.
fn huge_context() -> ! {
    context_page(&payload("1 GB"), 1 << 30);
    context_page(&payload("4 GB"), u32::MAX);
    // A string that says that it is 1 GB long; messages within messages; as many attributes as fit.
    context_page(&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x04, b'x'], 7);
    let mut nested = Vec::new();
    for _ in 0..5000 {
        let length = nested.len();
        let mut outer = vec![0x2a];
        outer.extend([
            (length & 0x7f) as u8 | 0x80,
            (length >> 7 & 0x7f) as u8 | 0x80,
            (length >> 14) as u8,
        ]);
        outer.extend(&nested);
        nested = outer;
    }
    context_page(&nested, nested.len() as u32);
    let many = [0x12, 0].repeat(32 << 10);
    context_page(&many, many.len() as u32);
    ready();
    work()
}
