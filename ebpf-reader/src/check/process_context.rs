//! Rules of the process context: its mapping, header, payload and updates.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use otel_profiling::abi::process_context::{
    ATTRIBUTE_KEY_MAP_KEY, Header, MAPPING_NAMES, MAX_PAYLOAD_SIZE, SCHEMA_VERSION,
    SCHEMA_VERSION_KEY, SIGNATURE, VERSION,
};
use otel_profiling::abi::thread_context::MAX_KEYS;
use prost::Message as _;

use super::ledger::Ledger;
use super::{Rule, plural};
use crate::error::Error;
use crate::process::{Mapping, Maps, Memory};
use crate::process_context::payload::Payload;
use crate::published::ReadMemory;
use crate::sys;
use crate::text::printable;

/// All rules of this file.
pub(super) const RULES: [Rule; 11] = [
    Rule::ProcessMapping,
    Rule::ProcessSignature,
    Rule::ProcessVersion,
    Rule::ProcessTime,
    Rule::ProcessSize,
    Rule::ProcessPayload,
    Rule::ProcessMessage,
    Rule::ProcessSchema,
    Rule::ProcessKeys,
    Rule::ProcessGrowth,
    Rule::ProcessUpdate,
];

/// Passes over a context that changes while it is read.
const ATTEMPTS: usize = 8;
/// Different timestamps that are remembered.
const MAX_TIMESTAMPS: usize = 1 << 14;
/// Mappings of the right name that are looked at.
const MAX_MAPPINGS: usize = 64;
/// The mappings are searched again after this many looks.
const LOOKS_PER_SEARCH: u64 = 16;
/// How far a clock that is read later may seem to be behind, and a start that is rounded ahead.
const SLACK_NS: u64 = 1_000_000_000;

const NAME_FIX: &str = "publish it with otel_profiling::process_context::publish, the crate feature \
     `process-context`, or otel_profiling_tracer::wrap, which does";

/// A header as it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawHeader {
    signature: [u8; 8],
    version: u32,
    payload_size: u32,
    published_at: u64,
    payload: u64,
}

impl RawHeader {
    fn read(memory: &impl ReadMemory, address: u64) -> Option<Self> {
        let mut bytes = [0; size_of::<Header>()];
        memory.read(address, &mut bytes)?;
        let (signature, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (payload_size, rest) = rest.split_first_chunk()?;
        let (published_at, rest) = rest.split_first_chunk()?;
        let (payload, _) = rest.split_first_chunk()?;
        Some(Self {
            signature: *signature,
            version: u32::from_ne_bytes(*version),
            payload_size: u32::from_ne_bytes(*payload_size),
            published_at: u64::from_ne_bytes(*published_at),
            payload: u64::from_ne_bytes(*payload),
        })
    }
}

/// What lies in the mapping at one moment.
#[derive(Debug)]
enum State {
    /// The mapping cannot be read.
    Unreadable,
    /// It changed in every pass.
    Changing,
    /// The payload: `None` if it cannot be read, or is too large.
    Stable(RawHeader, Option<Vec<u8>>),
}

/// One look, taken on the thread that reads.
#[derive(Debug)]
pub(super) struct Look {
    /// Start and name of each mapping; adjacent ones are one. `None`: not searched this time.
    mappings: Option<Vec<(u64, String)>>,
    state: Option<State>,
}

/// What is remembered of all looks together.
#[derive(Debug)]
pub(super) struct Observed {
    pid: u32,
    /// When the process started, as a CLOCK_BOOTTIME.
    started_ns: u64,
    address: Option<u64>,
    looks: u64,
    stable: u64,
    updates: u64,
    changing: u64,
    /// Hash of header and payload by timestamp.
    seen: HashMap<u64, u64>,
    hasher: RandomState,
    last: Option<u64>,
    keys: Option<Vec<String>>,
    schema: Option<String>,
}

impl Observed {
    pub(super) fn new(pid: u32, started_ns: u64) -> Self {
        Self {
            pid,
            started_ns,
            address: None,
            looks: 0,
            stable: 0,
            updates: 0,
            changing: 0,
            seen: HashMap::new(),
            hasher: RandomState::new(),
            last: None,
            keys: None,
            schema: None,
        }
    }

    /// The attribute key map as it was read last.
    pub(super) fn keys(&self) -> Option<&[String]> {
        self.keys.as_deref()
    }

    /// The schema version as it was read last.
    pub(super) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// A function that takes one look, on whatever thread.
    pub(super) fn looker(
        &self,
        memory: Arc<Memory>,
    ) -> impl FnOnce() -> Result<Look, Error> + Send + use<> {
        let (pid, known) = (self.pid, self.address);
        let search = known.is_none() || self.looks.is_multiple_of(LOOKS_PER_SEARCH);
        move || {
            let mappings = if search { Some(find(pid)?) } else { None };
            let address = match &mappings {
                Some(mappings) => best(&memory, mappings),
                None => known,
            };
            Ok(Look {
                mappings,
                state: address.map(|address| state(&memory, address)),
            })
        }
    }

    /// Judges one look.
    pub(super) fn judge(&mut self, ledger: &mut Ledger, memory: &Memory, look: Look) {
        self.looks += 1;
        if let Some(mappings) = &look.mappings {
            self.address = best(memory, mappings);
            match mappings.as_slice() {
                [] => {}
                [(_, name)] => ledger.pass_with(Rule::ProcessMapping, printable(name)),
                _ => ledger.fail(
                    Rule::ProcessMapping,
                    format!("{} mappings of that name", mappings.len()),
                    "update the context in its place, and unmap one that is withdrawn",
                ),
            }
        }
        match look.state {
            None => {}
            Some(State::Unreadable) => {
                self.address = None;
                ledger.fail(
                    Rule::ProcessSignature,
                    "the mapping cannot be read",
                    "write the header before the mapping gets its name",
                );
            }
            Some(State::Changing) => self.changing += 1,
            Some(State::Stable(header, payload)) => {
                self.stable += 1;
                self.header(ledger, header, payload);
            }
        }
    }

    fn header(&mut self, ledger: &mut Ledger, header: RawHeader, payload: Option<Vec<u8>>) {
        if header.signature != SIGNATURE {
            ledger.fail(
                Rule::ProcessSignature,
                format!("\"{}\"", header.signature.escape_ascii()),
                "begin the mapping with the bytes OTEL_CTX",
            );
            return;
        }
        ledger.pass(Rule::ProcessSignature);
        if header.version != VERSION {
            ledger.fail(
                Rule::ProcessVersion,
                format!("version {}", header.version),
                format!("publish the layout of version {VERSION}: readers refuse others"),
            );
            return;
        }
        ledger.pass_with(Rule::ProcessVersion, VERSION.to_string());
        self.time(ledger, header.published_at);
        let size = usize::try_from(header.payload_size).unwrap_or(usize::MAX);
        if size > MAX_PAYLOAD_SIZE {
            ledger.fail(
                Rule::ProcessSize,
                plural(size as u64, "byte"),
                "publish less: readers refuse more than 64 KiB",
            );
            return;
        }
        ledger.pass_with(Rule::ProcessSize, plural(size as u64, "byte"));
        let Some(payload) = payload else {
            ledger.fail(
                Rule::ProcessPayload,
                format!("{size} bytes at {:#x} cannot be read", header.payload),
                "keep the payload in memory until another one is published",
            );
            return;
        };
        ledger.pass(Rule::ProcessPayload);
        self.update(ledger, header, &payload);
        self.message(ledger, &payload);
    }

    fn time(&self, ledger: &mut Ledger, published_at: u64) {
        let now = sys::boottime_ns();
        let fix = "write CLOCK_BOOTTIME at the publication, in nanoseconds";
        if published_at > now.saturating_add(SLACK_NS) {
            ledger.fail(
                Rule::ProcessTime,
                format!(
                    "{published_at}, {} in the future",
                    seconds(published_at - now)
                ),
                fix,
            );
        } else if published_at.saturating_add(SLACK_NS) < self.started_ns {
            let before = self.started_ns - published_at;
            ledger.fail(
                Rule::ProcessTime,
                format!(
                    "{published_at}, {} before the process started",
                    seconds(before)
                ),
                fix,
            );
        } else {
            let ago = now.saturating_sub(published_at);
            ledger.pass_with(Rule::ProcessTime, format!("published {} ago", seconds(ago)));
        }
    }

    fn update(&mut self, ledger: &mut Ledger, header: RawHeader, payload: &[u8]) {
        let time = header.published_at;
        let hash = self.hasher.hash_one((header.payload_size, payload));
        if self.last.is_some_and(|last| last != time) {
            self.updates += 1;
        }
        self.last = Some(time);
        match self.seen.get(&time) {
            Some(&known) if known != hash => ledger.fail(
                Rule::ProcessUpdate,
                format!("the payload has changed under the timestamp {time}"),
                "write timestamp 0, then payload and size, then a timestamp that differs from every earlier one",
            ),
            Some(_) => ledger.pass(Rule::ProcessUpdate),
            None => {
                if self.seen.len() < MAX_TIMESTAMPS {
                    self.seen.insert(time, hash);
                }
                ledger.pass(Rule::ProcessUpdate);
            }
        }
    }

    fn message(&mut self, ledger: &mut Ledger, payload: &[u8]) {
        let message = match Payload::decode(payload) {
            Ok(message) => message,
            Err(error) => {
                ledger.fail(
                    Rule::ProcessMessage,
                    format!("not such a message: {}", printable(&error.to_string())),
                    "encode ProcessContext { Resource resource = 1; repeated KeyValue attributes = 2; }",
                );
                return;
            }
        };
        let service = message
            .resource
            .iter()
            .flat_map(|resource| &resource.attributes)
            .find(|attribute| attribute.key == "service.name")
            .and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
        let found = match service {
            Some(Value::StringValue(name)) => format!("service.name {}", printable(&short(name))),
            _ => "no service.name".to_owned(),
        };
        ledger.pass_with(Rule::ProcessMessage, found);

        let value = |name: &str| {
            let attribute = message
                .attributes
                .iter()
                .find(|attribute| attribute.key == name)?;
            Some(attribute.value.as_ref()?.value.as_ref())
        };
        self.judge_schema(ledger, value(SCHEMA_VERSION_KEY));
        self.judge_keys(ledger, value(ATTRIBUTE_KEY_MAP_KEY));
    }

    fn judge_schema(&mut self, ledger: &mut Ledger, value: Option<Option<&Value>>) {
        let fix =
            format!("publish the attribute {SCHEMA_VERSION_KEY} with the value {SCHEMA_VERSION}");
        match value {
            Some(Some(Value::StringValue(schema))) => {
                let shown = printable(&short(schema)).into_owned();
                if schema == SCHEMA_VERSION {
                    ledger.pass_with(Rule::ProcessSchema, shown);
                } else {
                    ledger.fail(Rule::ProcessSchema, shown, fix);
                }
                self.schema = Some(schema.clone());
            }
            Some(_) => ledger.fail(Rule::ProcessSchema, "not a string", fix),
            None => ledger.fail(Rule::ProcessSchema, "there is none", fix),
        }
    }

    fn judge_keys(&mut self, ledger: &mut Ledger, value: Option<Option<&Value>>) {
        let fix = format!(
            "publish the attribute {ATTRIBUTE_KEY_MAP_KEY}, an array of at most {MAX_KEYS} strings"
        );
        let array = match value {
            Some(Some(Value::ArrayValue(array))) => array,
            Some(_) => return ledger.fail(Rule::ProcessKeys, "not an array", fix),
            None => return ledger.fail(Rule::ProcessKeys, "there is none", fix),
        };
        let count = array.values.len();
        let keys: Vec<String> = array
            .values
            .iter()
            .map_while(|value| match &value.value {
                Some(Value::StringValue(name)) => Some(name.clone()),
                _ => None,
            })
            .collect();
        if keys.len() < count {
            let found = format!("entry {} is not a string", keys.len());
            ledger.fail(Rule::ProcessKeys, found, fix);
        } else if count > MAX_KEYS {
            ledger.fail(Rule::ProcessKeys, plural(count as u64, "name"), fix);
        } else {
            ledger.pass_with(Rule::ProcessKeys, plural(count as u64, "name"));
        }
        if let Some(known) = &self.keys {
            let changed = known
                .iter()
                .enumerate()
                .find(|&(index, name)| keys.get(index) != Some(name));
            match changed {
                Some((index, name)) => ledger.fail(
                    Rule::ProcessGrowth,
                    format!(
                        "index {index} was {}, and {}",
                        printable(&short(name)),
                        match keys.get(index) {
                            Some(name) => format!("is {} now", printable(&short(name))),
                            None => "is gone".to_owned(),
                        }
                    ),
                    "only append to the key map: an index means one name for as long as the process lives",
                ),
                None => ledger.pass(Rule::ProcessGrowth),
            }
        }
        self.keys = Some(keys);
    }

    /// After the last look. `needed`: the process has a thread context, which readers cannot understand without.
    pub(super) fn finish(&self, ledger: &mut Ledger, needed: bool) {
        if self.looks == 0 {
            ledger.skip_all(&RULES, "the process ended before it could be looked at");
            return;
        }
        let updates = match self.updates {
            0 => "no update".to_owned(),
            updates => plural(updates, "update"),
        };
        ledger.note(
            Rule::ProcessUpdate,
            format!("{updates} seen in {}", plural(self.looks, "look")),
        );
        if let Some(keys) = &self.keys {
            let names = plural(keys.len() as u64, "name");
            ledger.note(Rule::ProcessGrowth, format!("{names} after {updates}"));
        }
        if self.address.is_none() && self.stable == 0 && self.changing == 0 {
            // A mapping that cannot be read has failed for that already.
            if needed && !ledger.has_failed(Rule::ProcessSignature) {
                ledger.fail(Rule::ProcessMapping, "there is none", NAME_FIX);
            } else {
                ledger.skip(Rule::ProcessMapping, "no thread context that would need it");
            }
            ledger.skip_all(&RULES, "no process context");
        }
        if self.changing > 0 && self.stable == 0 {
            ledger.fail(
                Rule::ProcessTime,
                format!(
                    "0, or another one each time, in all {}",
                    plural(self.changing, "look")
                ),
                "end each update with a timestamp, and update only when something has changed",
            );
        }
        ledger.skip_all(&RULES, "the rule before it failed");
    }
}

/// The mappings of the right name; adjacent ones of the same memory are pieces of one.
fn find(pid: u32) -> Result<Vec<(u64, String)>, Error> {
    let mut count = 0;
    let maps = Maps::read_some(pid, |mapping| {
        let wanted = count < MAX_MAPPINGS
            && MAPPING_NAMES
                .iter()
                .any(|name| mapping.name.starts_with(name));
        count += usize::from(wanted);
        wanted
    })?;
    let mut found: Vec<(u64, String)> = Vec::new();
    let mut last: Option<&Mapping> = None;
    for mapping in maps.iter() {
        let continues = last.is_some_and(|last| {
            last.end == mapping.start
                && (last.device, last.inode) == (mapping.device, mapping.inode)
        });
        if !continues {
            found.push((mapping.start, mapping.name.clone()));
        }
        last = Some(mapping);
    }
    Ok(found)
}

/// The mapping to read: the first one with a header, else the first one.
fn best(memory: &Memory, mappings: &[(u64, String)]) -> Option<u64> {
    let starts = || mappings.iter().map(|&(start, _)| start);
    starts()
        .find(|&start| {
            RawHeader::read(memory, start).is_some_and(|header| header.signature == SIGNATURE)
        })
        .or_else(|| starts().next())
}

/// Reads header and payload by the specification's protocol.
fn state(memory: &Memory, address: u64) -> State {
    for _ in 0..ATTEMPTS {
        let Some(before) = RawHeader::read(memory, address) else {
            return State::Unreadable;
        };
        if before.signature != SIGNATURE || before.version != VERSION {
            return State::Stable(before, None);
        }
        if before.published_at == 0 {
            continue;
        }
        fence(Ordering::SeqCst);
        let size = usize::try_from(before.payload_size).unwrap_or(usize::MAX);
        let payload = (size <= MAX_PAYLOAD_SIZE)
            .then(|| memory.bytes(before.payload, size))
            .flatten();
        fence(Ordering::SeqCst);
        // The whole header: the timestamp may be older than the size, when both are read in one go.
        if RawHeader::read(memory, address) == Some(before) {
            return State::Stable(before, payload);
        }
    }
    State::Changing
}

fn seconds(nanoseconds: u64) -> String {
    format!("{:.1} s", nanoseconds as f64 / 1e9)
}

/// The beginning of a text that may be long.
fn short(text: &str) -> String {
    const LONG: usize = 40;
    if text.chars().count() <= LONG {
        return text.to_owned();
    }
    text.chars().take(LONG).chain(['…']).collect()
}
