//! Follows writers the way a profiler would, with each of the two samplers, and checks every sample.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ebpf_reader::Error;
use ebpf_reader::process::{ElfFiles, Locator};
use ebpf_reader::sample::{Event, Label, Locations, Sample, Sampler};
use ebpf_reader::sampler::{EbpfSampler, PtraceSampler, ebpf};

use crate::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(60);
/// Samples of each thread that have to be right.
const ENOUGH: u32 = 4;

/// Names of the threads of a writer; the last one publishes nothing.
const THREADS: [&str; 3] = ["publishes-0", "publishes-1", "silent"];

/// The turn of a test, with the samplers that are allowed here: tests run one after the other, as writers of
/// two at the same time would share the CPUs. The kernel takes its time to verify the eBPF programs, so they
/// are loaded once.
pub(crate) struct Turn(MutexGuard<'static, Option<Vec<Reader>>>);

impl Turn {
    pub(crate) fn take() -> Self {
        static READERS: Mutex<Option<Vec<Reader>>> = Mutex::new(None);
        let mut readers = READERS.lock().unwrap_or_else(PoisonError::into_inner);
        readers.get_or_insert_with(readers_allowed);
        Self(readers)
    }

    /// One reader for each sampler.
    pub(crate) fn readers(&mut self) -> &mut [Reader] {
        self.0.as_deref_mut().unwrap_or_default()
    }

    /// Reads writers that publish already, with each sampler.
    pub(crate) fn read_all(&mut self, writers: &[Writer]) {
        for reader in self.readers() {
            for writer in writers {
                reader.follow(writer.pid);
            }
            reader.expect_right(writers);
        }
    }
}

fn readers_allowed() -> Vec<Reader> {
    let mut readers = Vec::new();
    match EbpfSampler::new(&ebpf::Options::new(997)) {
        Ok(sampler) => readers.push(Reader::new("eBPF", Box::new(sampler))),
        Err(Error::Permission { needs, .. }) => crate::report(&format!("skipped: needs {needs}")),
        Err(error @ Error::Unsupported { .. }) => {
            crate::report(&format!("skipped: {}", error.one_line()));
        }
        Err(error) => panic!("{}", error.one_line()),
    }
    let sampler = PtraceSampler::new(499).expect("every kernel has ptrace");
    readers.push(Reader::new("ptrace", Box::new(sampler)));
    readers
}

/// One sampler, the processes that it follows, and where those keep their pointers.
pub(crate) struct Reader {
    name: &'static str,
    sampler: Box<dyn Sampler + Send>,
    files: ElfFiles,
    locators: HashMap<u32, (Locator, Locations)>,
}

/// Samples by thread name.
#[derive(Debug, Default)]
struct Tally([u32; THREADS.len()]);

impl Reader {
    fn new(name: &'static str, sampler: Box<dyn Sampler + Send>) -> Self {
        Self {
            name,
            sampler,
            files: ElfFiles::new(),
            locators: HashMap::new(),
        }
    }

    /// Follows a process that may not have anything yet.
    pub(crate) fn follow(&mut self, pid: u32) {
        let mut locator = Locator::new(pid);
        let locations = locator.refresh(&mut self.files).expect("it can be read");
        self.sampler.follow(pid, locations).expect("it runs");
        self.locators.insert(pid, (locator, locations));
    }

    /// Looks again; the number of processes of which more is known now.
    fn refresh(&mut self) -> usize {
        let mut changed = 0;
        for (&pid, (locator, known)) in &mut self.locators {
            let now = locator.refresh(&mut self.files).expect("it can be read");
            if now != *known {
                *known = now;
                changed += 1;
                self.sampler.follow(pid, now).expect("it runs");
            }
        }
        changed
    }

    /// Takes samples until there are enough of each thread of each writer, and expects all of them to be
    /// right. The writers publish already, which need not be known here yet.
    pub(crate) fn expect_right(&mut self, writers: &[Writer]) {
        let start = Instant::now();
        // Those of earlier calls are gone.
        self.locators
            .retain(|pid, _| writers.iter().any(|writer| writer.pid == *pid));
        // What is found is found before the first sample that counts.
        loop {
            let is_quiet = self.refresh() == 0;
            let executed = self.poll(Duration::from_millis(20), &mut |_| {});
            for pid in &executed {
                self.follow(*pid);
            }
            let all = writers.iter().all(|writer| {
                self.locators
                    .get(&writer.pid)
                    .is_some_and(|(_, locations)| !locations.is_empty())
            });
            if all && is_quiet && executed.is_empty() {
                break;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}: {:?}",
                self.name,
                self.locators
            );
        }
        let located = start.elapsed();
        let from_now = monotonic_ns();
        let mut tallies: HashMap<u32, Tally> = HashMap::new();
        let enough = |tallies: &HashMap<u32, Tally>| {
            writers.iter().all(|writer| {
                tallies
                    .get(&writer.pid)
                    .is_some_and(|tally| tally.0.iter().all(|&count| count >= ENOUGH))
            })
        };
        while !enough(&tallies) {
            assert!(
                start.elapsed() < PATIENCE,
                "{}: too few samples: {:?}",
                self.name,
                writers
                    .iter()
                    .map(|writer| (&writer.name, tallies.get(&writer.pid)))
                    .collect::<Vec<_>>()
            );
            let name = self.name;
            let locators = &self.locators;
            self.sampler
                .poll(Duration::from_millis(50), &mut |event| {
                    let Event::Sample(sample) = event else { return };
                    if sample.time_ns < from_now {
                        return;
                    }
                    let Some(writer) = writers.iter().find(|writer| writer.pid == sample.pid)
                    else {
                        return;
                    };
                    let thread = check(&sample, writer.is_rust).unwrap_or_else(|what| {
                        let known = locators.get(&writer.pid);
                        panic!("{}, {name}: {what}: {sample:?} {known:#?}", writer.name)
                    });
                    if let Some(thread) = thread {
                        tallies.entry(sample.pid).or_default().0[thread] += 1;
                    }
                })
                .expect("sampling works");
        }
        crate::report(&format!(
            "{} processes read with {}: located in {located:.1?}, sampled in {:.1?}",
            writers.len(),
            self.name,
            start.elapsed() - located
        ));
    }

    /// Delivers samples; the processes that executed another program.
    fn poll(&mut self, timeout: Duration, on_sample: &mut dyn FnMut(Sample)) -> Vec<u32> {
        let mut executed = Vec::new();
        self.sampler
            .poll(timeout, &mut |event| match event {
                Event::Exec { pid } => executed.push(pid),
                Event::Sample(sample) => on_sample(sample),
                _ => {}
            })
            .expect("sampling works");
        executed
    }
}

/// Whether a sample is what its thread publishes; the thread's position in [`THREADS`].
fn check(sample: &Sample, is_rust: bool) -> Result<Option<usize>, &'static str> {
    if sample.unreadable {
        return Err("unreadable");
    }
    let thread = THREADS.iter().position(|&name| sample.thread_name == name);
    let publishes = thread.filter(|&thread| THREADS[thread] != "silent");
    let Some(number) = publishes else {
        if sample.thread_context.is_some() || !sample.custom_labels.is_empty() {
            return Err("this thread publishes nothing");
        }
        return Ok(thread);
    };
    let digit = b'0' + number as u8;
    let Some(context) = &sample.thread_context else {
        return Err("no thread context");
    };
    let ids = (context.trace_id, context.span_id, context.trace_flags);
    let (mut trace_id, mut span_id) = (*b"trace-0000000000", *b"span-000");
    (trace_id[15], span_id[7]) = (digit, digit);
    if ids != (trace_id, span_id, 1) {
        return Err("wrong ids");
    }
    let attributes: Vec<_> = context.attributes().collect();
    if is_rust {
        let label = sample
            .custom_labels
            .iter()
            .find(|label| label.key == b"otel_traceid");
        let hexadecimal: String = trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let is_right = label.is_some_and(|label| label.value == hexadecimal.as_bytes());
        return if is_right && attributes.is_empty() {
            Ok(thread)
        } else {
            Err("wrong attributes or labels")
        };
    }
    let value = [b"attribute-", &[digit][..]].concat();
    if attributes != [(7, &value[..])] {
        return Err("wrong attributes");
    }
    let label = Label {
        key: b"thread",
        value: &[b"custom-", &[digit][..]].concat(),
    };
    if !sample.custom_labels.iter().eq([label]) {
        return Err("wrong labels");
    }
    Ok(thread)
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
