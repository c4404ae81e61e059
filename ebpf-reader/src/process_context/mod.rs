//! The process context of another process (OpenTelemetry OTEP 4719): its resource and the names of
//! the thread context's attributes.
//!
//! Everything here is written by the other process: sizes are bounded, and nothing is taken for granted.
//! What is kept of one process is less than a quarter of a megabyte, whatever it publishes.

pub(crate) mod payload;
mod read;
mod service;

pub use read::Reader;
pub use service::Service;

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
    /// Attributes that were left out or cut off, because there are too many or they are too long.
    pub truncated: usize,
}

impl ProcessContext {
    /// Understands a payload: the protobuf message that a process publishes, at most 64 KiB of it. `None` if it
    /// is something else, or longer.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        payload::decode(payload)
    }

    /// A resource attribute.
    pub fn resource(&self, key: &str) -> Option<&str> {
        let (_, value) = self.resource.iter().find(|(name, _)| name == key)?;
        Some(value)
    }

    /// The service that the process belongs to, by the resource's attributes; `None` if it has no name.
    pub fn service(&self) -> Option<Service<'_>> {
        Service::of(self)
    }

    /// Name of the thread context's attributes with this key index.
    pub fn attribute_key(&self, index: u8) -> Option<&str> {
        self.attribute_keys
            .get(usize::from(index))
            .map(String::as_str)
    }
}
