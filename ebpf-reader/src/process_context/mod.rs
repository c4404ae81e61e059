//! The process context of another process (OpenTelemetry OTEP 4719): its resource and the names of
//! the thread context's attributes.
//!
//! Reading follows the specification: find the mapping by name, check the header, read the payload,
//! and believe it only if the timestamp stayed the same. All of it is written by the other
//! process, so the payload's size is bounded and nothing in it is taken for granted.

mod payload;

use otel_profiling::abi::process_context::{
    Header, MAPPING_NAMES, MAX_PAYLOAD_SIZE, SIGNATURE, VERSION,
};

use crate::error::Error;
use crate::process::{Maps, Memory};

/// How often a payload that changes while it is read is tried again.
const ATTEMPTS: usize = 3;

/// What a process says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessContext {
    /// CLOCK_BOOTTIME of its publication, in nanoseconds.
    pub published_at: u64,
    /// The resource's attributes as text, such as `service.name`; composite values as JSON.
    pub resource: Vec<(String, String)>,
    /// Attributes next to the resource, without the thread context's own.
    pub attributes: Vec<(String, String)>,
    /// Layout of the thread context, as in `tlsdesc_v1_dev`.
    pub schema_version: Option<String>,
    /// Names of the thread context's attributes: the position is the key index.
    pub attribute_keys: Vec<String>,
}

impl ProcessContext {
    /// A resource attribute.
    pub fn resource(&self, key: &str) -> Option<&str> {
        let (_, value) = self.resource.iter().find(|(name, _)| name == key)?;
        Some(value)
    }

    /// Name of the thread context's attributes with this key index.
    pub fn attribute_key(&self, index: u8) -> Option<&str> {
        self.attribute_keys
            .get(usize::from(index))
            .map(String::as_str)
    }
}

/// Reads the process context of one process, again when it has changed.
#[derive(Debug)]
pub struct Reader {
    pid: u32,
    memory: Memory,
    header: Option<u64>,
    context: Option<ProcessContext>,
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
        })
    }

    /// The context as it was read last.
    pub fn context(&self) -> Option<&ProcessContext> {
        self.context.as_ref()
    }

    /// Looks whether a context was published or updated since the last call, and reads it if so. A
    /// context that was once read stays, also when the process ends.
    ///
    /// # Errors
    /// If the mappings may not be read.
    pub fn refresh(&mut self) -> Result<(), Error> {
        // A header that was found once is read in one go; only if it has gone the mappings are searched.
        if let Some(address) = self.header
            && self.read_header(address).is_some()
        {
            self.update(address);
            return Ok(());
        }
        self.header = self.find()?;
        if let Some(address) = self.header {
            self.update(address);
        }
        Ok(())
    }

    fn find(&self) -> Result<Option<u64>, Error> {
        let maps = Maps::read(self.pid)?;
        let found = maps
            .iter()
            .filter(|mapping| {
                MAPPING_NAMES
                    .iter()
                    .any(|name| mapping.name.starts_with(name))
            })
            .map(|mapping| mapping.start)
            .find(|&address| self.read_header(address).is_some());
        Ok(found)
    }

    fn update(&mut self, address: u64) {
        for _ in 0..ATTEMPTS {
            let Some(header) = self.read_header(address) else {
                return;
            };
            if self
                .context
                .as_ref()
                .is_some_and(|context| context.published_at == header.published_at)
            {
                return;
            }
            let size = usize::try_from(header.payload_size).unwrap_or(usize::MAX);
            if header.published_at == 0 || size > MAX_PAYLOAD_SIZE {
                continue;
            }
            let mut bytes = vec![0; size];
            if self.memory.read(header.payload, &mut bytes).is_err() {
                continue;
            }
            if self.read_header(address) != Some(header) {
                continue;
            }
            if let Some(mut context) = payload::decode(&bytes) {
                context.published_at = header.published_at;
                self.context = Some(context);
            }
            return;
        }
    }

    /// The header at `address`, if it is one of a version that is understood.
    fn read_header(&self, address: u64) -> Option<Header> {
        let mut bytes = [0; size_of::<Header>()];
        self.memory.read(address, &mut bytes).ok()?;
        parse_header(&bytes)
    }
}

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
    fn published(payload: &[u8], published_at: u64) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend(VERSION.to_ne_bytes());
        header.extend(u32::try_from(payload.len()).unwrap().to_ne_bytes());
        header.extend(published_at.to_ne_bytes());
        header.extend((payload.as_ptr() as u64).to_ne_bytes());
        header
    }

    fn reader() -> Reader {
        Reader::open(std::process::id()).unwrap()
    }

    #[test]
    fn an_update_is_seen_and_a_change_in_progress_is_not() {
        let payload = payload::tests::encoded("checkout", &["http.route"]);
        let other = payload::tests::encoded("checkout2", &["http.route", "user"]);
        let mut reader = reader();

        reader.update(published(&payload, 0).as_ptr() as u64);
        assert_eq!(reader.context(), None);
        reader.update(published(&payload, 7).as_ptr() as u64);
        assert_eq!(
            reader.context().unwrap().resource("service.name"),
            Some("checkout")
        );
        // The same timestamp means the same context.
        reader.update(published(&other, 7).as_ptr() as u64);
        assert_eq!(
            reader.context().unwrap().resource("service.name"),
            Some("checkout")
        );
        reader.update(published(&other, 8).as_ptr() as u64);
        let context = reader.context().unwrap();
        assert_eq!(context.resource("service.name"), Some("checkout2"));
        assert_eq!(context.attribute_key(1), Some("user"));
        assert_eq!(context.attribute_key(2), None);
        assert_eq!(context.published_at, 8);
    }

    #[test]
    fn hostile_headers_lead_nowhere() {
        let payload = payload::tests::encoded("checkout", &[]);
        let good = published(&payload, 7);
        for (position, byte) in [(0, b'X'), (8, 3), (14, 0xff), (31, 0xff), (24, 0)] {
            let mut bad = good.clone();
            bad[position] = byte;
            if position == 24 {
                bad[24..].fill(0);
            }
            let mut reader = reader();
            reader.update(bad.as_ptr() as u64);
            assert_eq!(reader.context(), None, "byte {position}");
        }
        let mut reader = reader();
        reader.update(0);
        assert_eq!(reader.context(), None);
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
