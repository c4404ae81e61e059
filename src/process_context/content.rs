//! What a process context says, before it is encoded.

use super::error::PublishError;
use super::value::Value;
use crate::abi::process_context::{ATTRIBUTE_KEY_MAP_KEY, SCHEMA_VERSION, SCHEMA_VERSION_KEY};
use crate::abi::thread_context::MAX_KEYS;
use crate::keys;

type Attributes = Vec<(String, Value)>;

/// What a process says about itself.
///
/// Made by [`ProcessContext::new`] and setters, each of which takes the value by itself and returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessContext {
    resource: Attributes,
    attributes: Attributes,
    schema_version: Option<String>,
    attribute_keys: Vec<String>,
}

impl ProcessContext {
    /// No attributes, an empty attribute key map, and the schema version of the thread context that this
    /// crate publishes ([`SCHEMA_VERSION`]).
    #[must_use]
    pub fn new() -> Self {
        Self {
            resource: Vec::new(),
            attributes: Vec::new(),
            schema_version: Some(SCHEMA_VERSION.to_owned()),
            attribute_keys: Vec::new(),
        }
    }

    /// Adds an attribute of the resource (`service.name`, `service.instance.id`, …), or replaces the one
    /// with the same key.
    #[must_use]
    pub fn resource(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        set(&mut self.resource, key.into(), value.into());
        self
    }

    /// Replaces all attributes of the resource. Of a repeated key the last value counts.
    #[must_use]
    pub fn replace_resource<K, V>(mut self, attributes: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<Value>,
    {
        self.resource.clear();
        for (key, value) in attributes {
            set(&mut self.resource, key.into(), value.into());
        }
        self
    }

    /// Adds an attribute beside the resource, or replaces the one with the same key. The thread context's
    /// own have setters of their own, and are refused here when the context is published.
    #[must_use]
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        set(&mut self.attributes, key.into(), value.into());
        self
    }

    /// Replaces the attribute key map: the names of the thread context's attributes, in the order of
    /// their key indices.
    ///
    /// As soon as this process has an [`AttributeKey`](crate::AttributeKey), the map of those is published
    /// instead. This is for programs that write records of their own: records already hold indices into the
    /// published map, so a later map must start with the one before; readers may have cached it.
    #[must_use]
    pub fn attribute_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.attribute_keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Replaces the name of the thread context's layout; `None` says that this process publishes no thread
    /// context, and leaves the attribute key map out too.
    ///
    /// Default: [`SCHEMA_VERSION`]. For readers that know the layout under a later name.
    #[must_use]
    pub fn schema_version(mut self, version: Option<&str>) -> Self {
        self.schema_version = version.map(ToOwned::to_owned);
        self
    }

    /// The attributes of the resource.
    #[must_use]
    pub fn resource_attributes(&self) -> &[(String, Value)] {
        &self.resource
    }

    /// The value of one attribute of the resource.
    #[must_use]
    pub fn resource_value(&self, key: &str) -> Option<&Value> {
        let (_, value) = self.resource.iter().find(|(known, _)| known == key)?;
        Some(value)
    }

    /// The attributes beside the resource, without those of the thread context.
    #[must_use]
    pub fn attributes(&self) -> &[(String, Value)] {
        &self.attributes
    }

    /// The attribute key map.
    #[must_use]
    pub fn attribute_key_map(&self) -> &[String] {
        &self.attribute_keys
    }

    /// The name of the thread context's layout, if the process publishes one.
    #[must_use]
    pub fn thread_context_schema_version(&self) -> Option<&str> {
        self.schema_version.as_deref()
    }

    /// Puts the names of this process's attribute keys in, if there are any.
    pub(super) fn with_known_keys(self) -> Self {
        let names = keys::names();
        // Unit tests of publication share their process with those that make keys; that the keys are
        // published is tested across crates.
        if names.is_empty() || cfg!(test) {
            return self;
        }
        self.attribute_keys(names)
    }

    /// Checks what the encoded size does not show.
    pub(super) fn validate(&self) -> Result<(), PublishError> {
        if self.attribute_keys.len() > MAX_KEYS {
            return Err(PublishError::TooManyKeys {
                count: self.attribute_keys.len(),
                limit: MAX_KEYS,
            });
        }
        let reserved = [SCHEMA_VERSION_KEY, ATTRIBUTE_KEY_MAP_KEY];
        match self
            .attributes
            .iter()
            .find(|(key, _)| reserved.contains(&&**key))
        {
            Some((key, _)) => Err(PublishError::ReservedAttribute { key: key.clone() }),
            None => Ok(()),
        }
    }
}

impl Default for ProcessContext {
    fn default() -> Self {
        Self::new()
    }
}

/// The keys of a message's attributes must be unique.
fn set(attributes: &mut Attributes, key: String, value: Value) {
    match attributes.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => attributes.push((key, value)),
    }
}
