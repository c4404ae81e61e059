//! Reads the process context of one process, by the specification's protocol: the timestamp alone, header and
//! payload, the timestamp again, and all of it anew if that has moved.

use std::io;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use otel_profiling::abi::process_context::{
    Header, MAPPING_NAMES, MAX_PAYLOAD_SIZE, SIGNATURE, VERSION,
};

use super::{ProcessContext, payload};
use crate::error::Error;
use crate::process::{self, Maps, Memory};

/// How often a context that changes while it is read is tried again. What changes without pause is left for
/// another time.
const ATTEMPTS: usize = 8;

/// Pause after the first search that found nothing, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause, unless the search itself takes long.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A pause is at least this many times as long as the search was: a process with very many mappings cannot keep
/// its reader busy.
const PAUSE_PER_SEARCH: u32 = 100;

/// Mappings of the right name that are looked at: a process has one.
const MAX_CANDIDATES: usize = 64;

/// Reads the process context of one process, again when it has changed.
#[derive(Debug)]
pub struct Reader {
    pid: u32,
    memory: Memory,
    header: Option<u64>,
    context: Option<ProcessContext>,
    next_search: Option<Instant>,
    pause: Duration,
}

/// What lies where a context was found before.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The one that was read already, or one that was read now.
    Read,
    /// It is being changed, or has been changing all the time.
    Changing,
    /// A header, but what it leads to is no context.
    Malformed,
    /// No header.
    Nothing,
    /// Nothing at all: the memory of a process that ended, or executed another program.
    MemoryGone,
}

impl Reader {
    /// Opens the memory of `pid`.
    ///
    /// # Errors
    /// If the process is gone or may not be read.
    pub fn open(pid: u32) -> Result<Self, Error> {
        Ok(Self {
            pid,
            memory: Memory::open(pid)?,
            header: None,
            context: None,
            next_search: None,
            pause: FIRST_PAUSE,
        })
    }

    /// The context as it was read last.
    pub fn context(&self) -> Option<&ProcessContext> {
        self.context.as_ref()
    }

    /// Looks whether a context was published or updated since the last call, and reads it if so. A context
    /// that was once read stays, also when it is withdrawn and when the process ends; it goes when the process
    /// executes another program.
    ///
    /// Cheap where a context is known: it may be called as often as one likes. Where none is, the mappings of the
    /// process are searched, in pauses that grow to 5 seconds and to 100 times what a search takes.
    ///
    /// # Errors
    /// If the mappings may not be read.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.look(false)
    }

    /// The same without regard to pauses: for a last look.
    ///
    /// # Errors
    /// If the mappings may not be read.
    pub fn refresh_now(&mut self) -> Result<(), Error> {
        self.look(true)
    }

    fn look(&mut self, now: bool) -> Result<(), Error> {
        if let Some(address) = self.header {
            match self.update(address) {
                State::Read => return Ok(()),
                // Perhaps it was withdrawn, and another one is published elsewhere.
                State::Changing | State::Malformed => {}
                State::Nothing => self.header = None,
                State::MemoryGone => {
                    self.header = None;
                    self.forget_if_executed()?;
                }
            }
        }
        let begin = Instant::now();
        if !now && self.next_search.is_some_and(|next| begin < next) {
            return Ok(());
        }
        let result = self.search();
        let cost = begin.elapsed().saturating_mul(PAUSE_PER_SEARCH);
        self.next_search = Some(Instant::now() + self.pause.max(cost));
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        result
    }

    /// The memory that was open is gone. If the process is still there, it runs another program.
    fn forget_if_executed(&mut self) -> Result<(), Error> {
        if process::is_alive(self.pid) {
            self.memory = Memory::open(self.pid)?;
            self.context = None;
            self.next_search = None;
            self.pause = FIRST_PAUSE;
        }
        Ok(())
    }

    /// Looks for a published context among the mappings.
    fn search(&mut self) -> Result<(), Error> {
        let mut candidates = 0;
        let maps = Maps::read_some(self.pid, |mapping| {
            let named = is_name(&mapping.name) && candidates < MAX_CANDIDATES;
            candidates += usize::from(named);
            named
        })?;
        // There should be one. Of several the one counts that was published last; the others may be left over.
        let mut last = None;
        let mut gone = false;
        for mapping in maps.iter() {
            match self.timestamp(mapping.start) {
                Ok(0) => {}
                Ok(timestamp) => last = last.max(Some((timestamp, mapping.start))),
                Err(error) => gone |= is_gone(&error),
            }
        }
        if gone {
            // These are the mappings of another program than the memory is of.
            self.forget_if_executed()?;
        }
        if let Some((_, address)) = last
            && matches!(self.update(address), State::Read | State::Changing)
        {
            self.header = Some(address);
            self.pause = FIRST_PAUSE;
        }
        Ok(())
    }

    /// Reads the context whose header is at `address`, unless it is the one that was read last.
    fn update(&mut self, address: u64) -> State {
        let mut state = State::Nothing;
        for _ in 0..ATTEMPTS {
            state = match self.attempt(address) {
                Ok(State::Changing) => State::Changing,
                Ok(state) => return state,
                Err(error) if is_gone(&error) => return State::MemoryGone,
                Err(_) => return State::Nothing,
            };
        }
        state
    }

    /// One pass of the protocol. Fails if the header cannot be read.
    fn attempt(&mut self, address: u64) -> io::Result<State> {
        let before = self.timestamp(address)?;
        if before == 0 {
            return Ok(State::Changing);
        }
        let known = self.context.as_ref();
        if self.header == Some(address)
            && known.is_some_and(|context| context.published_at == before)
        {
            return Ok(State::Read);
        }
        fence(Ordering::SeqCst);
        let mut bytes = [0; size_of::<Header>()];
        self.memory.read(address, &mut bytes)?;
        let header = parse_header(&bytes);
        let payload = header.and_then(|header| self.payload(&header));
        fence(Ordering::SeqCst);
        if self.timestamp(address)? != before {
            return Ok(State::Changing);
        }
        if header.is_none() {
            return Ok(State::Nothing);
        }
        match payload.and_then(|payload| payload::decode(&payload)) {
            Some(mut context) => {
                context.published_at = before;
                self.context = Some(context);
                Ok(State::Read)
            }
            None => Ok(State::Malformed),
        }
    }

    fn payload(&self, header: &Header) -> Option<Vec<u8>> {
        let size = usize::try_from(header.payload_size).ok()?;
        if size > MAX_PAYLOAD_SIZE {
            return None;
        }
        let mut bytes = vec![0; size];
        self.memory.read(header.payload, &mut bytes).ok()?;
        Some(bytes)
    }

    /// When the context at `address` was published; 0 while it is being changed.
    fn timestamp(&self, address: u64) -> io::Result<u64> {
        let field = address.wrapping_add(std::mem::offset_of!(Header, published_at) as u64);
        let mut bytes = [0; 8];
        self.memory.read(field, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// A process without memory reads as the end of a file; an address without memory is an error of its own.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Whether this is how `/proc/PID/maps` names the mapping of a process context.
fn is_name(name: &str) -> bool {
    MAPPING_NAMES.iter().any(|start| name.starts_with(start))
}

/// A header of the version that is understood.
fn parse_header(bytes: &[u8; size_of::<Header>()]) -> Option<Header> {
    let (signature, rest) = bytes.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (payload_size, rest) = rest.split_first_chunk::<4>()?;
    let (published_at, rest) = rest.split_first_chunk::<8>()?;
    let (payload, _) = rest.split_first_chunk::<8>()?;
    let header = Header {
        signature: *signature,
        version: u32::from_ne_bytes(*version),
        payload_size: u32::from_ne_bytes(*payload_size),
        published_at: u64::from_ne_bytes(*published_at),
        payload: u64::from_ne_bytes(*payload),
    };
    (header.signature == SIGNATURE && header.version == VERSION).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context in this test's own memory, as a publisher would lay it out.
    fn published(payload: &[u8], published_at: u64) -> [u8; 32] {
        let mut header = SIGNATURE.to_vec();
        header.extend(VERSION.to_ne_bytes());
        header.extend(u32::try_from(payload.len()).unwrap().to_ne_bytes());
        header.extend(published_at.to_ne_bytes());
        header.extend((payload.as_ptr() as u64).to_ne_bytes());
        header.try_into().unwrap()
    }

    fn reader() -> Reader {
        Reader::open(std::process::id()).unwrap()
    }

    /// What a reader that has found a header here makes of it.
    fn update(reader: &mut Reader, header: &mut [u8; 32], now: [u8; 32]) -> State {
        *std::hint::black_box(&mut *header) = now;
        let address = header.as_ptr() as u64;
        reader.header = Some(address);
        reader.update(address)
    }

    fn service(reader: &Reader) -> Option<&str> {
        reader.context()?.resource("service.name")
    }

    #[test]
    fn an_update_is_seen_and_a_change_in_progress_is_not() {
        let payload = payload::tests::encoded("checkout", &["http.route"]);
        let other = payload::tests::encoded("checkout2", &["http.route", "user"]);
        let mut reader = reader();
        let mut header = [0; 32];
        let mut update = |payload: &[u8], at| {
            let state = update(&mut reader, &mut header, published(payload, at));
            let service = service(&reader).map(str::to_owned);
            (state, service)
        };
        let one = || Some("checkout".to_owned());
        let two = || Some("checkout2".to_owned());

        assert_eq!(update(&payload, 0), (State::Changing, None));
        assert_eq!(update(&payload, 7), (State::Read, one()));
        // The same timestamp means the same context.
        assert_eq!(update(&other, 7), (State::Read, one()));
        assert_eq!(update(&other, 8), (State::Read, two()));
        // What was read stays while it is changed, and when it has become nonsense.
        assert_eq!(update(&payload, 0), (State::Changing, two()));
        assert_eq!(update(b"nonsense", 9), (State::Malformed, two()));
        let context = reader.context().unwrap();
        assert_eq!(context.attribute_key(1), Some("user"));
        assert_eq!(context.attribute_key(2), None);
        assert_eq!(context.published_at, 8);
    }

    #[test]
    fn what_changes_without_pause_is_read_whole_or_not_at_all() {
        use std::sync::atomic::{AtomicBool, AtomicU64};

        let payloads = [
            payload::tests::encoded("one", &["1"]),
            payload::tests::encoded("two", &["2"]),
        ];
        // The header as words, so that it can be changed while it is read.
        let header = published(&payloads[0], 1);
        let words: Vec<AtomicU64> = header
            .chunks_exact(8)
            .map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().unwrap())))
            .collect();
        let done = AtomicBool::new(false);
        let (mut read, mut seen) = (0, [false; 2]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut timestamp = 1;
                while !done.load(Ordering::Relaxed) {
                    for payload in &payloads {
                        timestamp += 1;
                        words[2].store(0, Ordering::SeqCst);
                        words[3].store(payload.as_ptr() as u64, Ordering::SeqCst);
                        words[2].store(timestamp, Ordering::SeqCst);
                        // As long as a reader may take, now and then.
                        for _ in 0..timestamp % 4096 {
                            std::hint::spin_loop();
                        }
                    }
                }
            });
            let address = words.as_ptr() as u64;
            let deadline = Instant::now() + Duration::from_secs(30);
            while (read < 100 || seen != [true; 2]) && Instant::now() < deadline {
                let mut reader = reader();
                if reader.update(address) == State::Read {
                    read += 1;
                    let context = reader.context().unwrap();
                    let key = context.attribute_key(0).unwrap();
                    match context.resource("service.name") {
                        Some("one") => {
                            assert_eq!(key, "1");
                            seen[0] = true;
                        }
                        Some("two") => {
                            assert_eq!(key, "2");
                            seen[1] = true;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(read >= 100 && seen == [true; 2], "{read} {seen:?}");
    }

    #[test]
    fn hostile_headers_lead_nowhere() {
        let payload = payload::tests::encoded("checkout", &[]);
        let good = published(&payload, 7);
        for (position, byte, expected) in [
            (0, b'X', State::Nothing),
            (8, 3, State::Nothing),
            (14, 0xff, State::Malformed),
            (31, 0xff, State::Malformed),
            (24, 0, State::Malformed),
        ] {
            let mut bad = good;
            bad[position] = byte;
            if position == 24 {
                bad[24..].fill(0);
            }
            let mut reader = reader();
            let state = update(&mut reader, &mut [0; 32], bad);
            assert_eq!(state, expected, "byte {position}");
            assert_eq!(reader.context(), None, "byte {position}");
        }
        let mut reader = reader();
        assert_eq!(reader.update(0), State::Nothing);
        assert_eq!(reader.update(u64::MAX), State::Nothing);
        assert_eq!(reader.context(), None);
    }

    #[test]
    fn names_of_all_forms_are_known() {
        for name in [
            "[anon_shmem:OTEL_CTX]",
            "[anon:OTEL_CTX]",
            "/memfd:OTEL_CTX",
            "/memfd:OTEL_CTX (deleted)",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "OTEL_CTX", "/tmp/memfd:OTEL_CTX", "[anon:OTEL]"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_process_without_a_context_has_none() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut reader = Reader::open(child.id()).unwrap();
        reader.refresh().unwrap();
        assert_eq!(reader.context(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
