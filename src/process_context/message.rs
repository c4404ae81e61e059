//! The message that carries a process context, and the way to it and back.
//!
//! OTEP 4719 declares it; opentelemetry-proto has the types inside, but not the message itself.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::content::ProcessContext;
use super::error::PublishError;
use super::value::Value;
use crate::abi::process_context::{ATTRIBUTE_KEY_MAP_KEY, MAX_PAYLOAD_SIZE, SCHEMA_VERSION_KEY};

/// `ProcessContext` of OTEP 4719.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProcessContextMessage {
    /// What the process is.
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    /// What else readers should know, the `threadlocal.*` attributes among it.
    #[prost(message, repeated, tag = "2")]
    pub(super) attributes: Vec<KeyValue>,
}

/// The payload for a context, if readers would take it.
pub(super) fn encode(context: &ProcessContext) -> Result<Box<[u8]>, PublishError> {
    context.validate()?;
    let mut attributes: Vec<_> = context.attributes().iter().map(key_value).collect();
    if let Some(version) = context.thread_context_schema_version() {
        let keys = context.attribute_key_map().to_vec();
        attributes.push(key_value(&(SCHEMA_VERSION_KEY.into(), version.into())));
        attributes.push(key_value(&(ATTRIBUTE_KEY_MAP_KEY.into(), keys.into())));
    }
    let message = ProcessContextMessage {
        resource: Some(Resource {
            attributes: context
                .resource_attributes()
                .iter()
                .map(key_value)
                .collect(),
            ..Default::default()
        }),
        attributes,
    };
    let size = message.encoded_len();
    if size > MAX_PAYLOAD_SIZE {
        return Err(PublishError::TooLarge {
            size,
            limit: MAX_PAYLOAD_SIZE,
        });
    }
    Ok(message.encode_to_vec().into_boxed_slice())
}

/// The context in a payload, or why it cannot be one of ours.
pub(super) fn decode(payload: &[u8]) -> Result<ProcessContext, String> {
    let message = ProcessContextMessage::decode(payload).map_err(|error| error.to_string())?;
    let mut context = ProcessContext::new().schema_version(None);
    for attribute in message.resource.unwrap_or_default().attributes {
        let value = value(attribute.value, &attribute.key)?;
        context = context.resource(attribute.key, value);
    }
    for attribute in message.attributes {
        let value = value(attribute.value, &attribute.key)?;
        context = match (&*attribute.key, value) {
            (SCHEMA_VERSION_KEY, Value::String(version)) => context.schema_version(Some(&version)),
            (ATTRIBUTE_KEY_MAP_KEY, Value::Strings(keys)) => context.attribute_keys(keys),
            (SCHEMA_VERSION_KEY | ATTRIBUTE_KEY_MAP_KEY, _) => {
                return Err(format!("{} has a value of the wrong kind", attribute.key));
            }
            (_, value) => context.attribute(attribute.key, value),
        };
    }
    Ok(context)
}

fn key_value((key, value): &(String, Value)) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: Some(any_value(value)),
        ..Default::default()
    }
}

fn any_value(value: &Value) -> AnyValue {
    fn array<T: Clone>(items: &[T], kind: fn(T) -> Any) -> Any {
        let values = items.iter().cloned().map(|item| AnyValue {
            value: Some(kind(item)),
        });
        Any::ArrayValue(ArrayValue {
            values: values.collect(),
        })
    }
    let any = match value {
        Value::String(text) => Any::StringValue(text.clone()),
        Value::Bool(value) => Any::BoolValue(*value),
        Value::I64(value) => Any::IntValue(*value),
        Value::F64(value) => Any::DoubleValue(*value),
        Value::Strings(items) => array(items, Any::StringValue),
        Value::Bools(items) => array(items, Any::BoolValue),
        Value::I64s(items) => array(items, Any::IntValue),
        Value::F64s(items) => array(items, Any::DoubleValue),
    };
    AnyValue { value: Some(any) }
}

/// An empty array comes back as one of strings: the message does not say of what.
fn value(value: Option<AnyValue>, key: &str) -> Result<Value, String> {
    fn array<T>(items: Vec<Any>, item: fn(Any) -> Option<T>) -> Option<Vec<T>> {
        items.into_iter().map(item).collect()
    }
    let value = match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => Some(Value::String(text)),
        Some(Any::BoolValue(value)) => Some(Value::Bool(value)),
        Some(Any::IntValue(value)) => Some(Value::I64(value)),
        Some(Any::DoubleValue(value)) => Some(Value::F64(value)),
        Some(Any::ArrayValue(array_value)) => {
            let items = array_value.values.into_iter().map(|item| item.value);
            items
                .collect::<Option<Vec<_>>>()
                .and_then(|items| match items.first() {
                    None => Some(Value::Strings(Vec::new())),
                    Some(Any::StringValue(_)) => array(items, |item| match item {
                        Any::StringValue(text) => Some(text),
                        _ => None,
                    })
                    .map(Value::Strings),
                    Some(Any::BoolValue(_)) => array(items, |item| match item {
                        Any::BoolValue(value) => Some(value),
                        _ => None,
                    })
                    .map(Value::Bools),
                    Some(Any::IntValue(_)) => array(items, |item| match item {
                        Any::IntValue(value) => Some(value),
                        _ => None,
                    })
                    .map(Value::I64s),
                    Some(Any::DoubleValue(_)) => array(items, |item| match item {
                        Any::DoubleValue(value) => Some(value),
                        _ => None,
                    })
                    .map(Value::F64s),
                    Some(_) => None,
                })
        }
        _ => None,
    };
    value.ok_or_else(|| format!("{key} has a value of a kind that attributes do not have"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::process_context::SCHEMA_VERSION;

    #[test]
    fn what_is_encoded_is_decoded() {
        let context = ProcessContext::new()
            .resource("service.name", "checkout")
            .resource("process.pid", 42_i64)
            .resource("truth", true)
            .resource("ratio", 0.25)
            .resource("tags", vec!["a".to_owned(), "ü".to_owned()])
            .resource("flags", vec![true, false])
            .resource("numbers", vec![1_i64, -1])
            .resource("ratios", vec![0.5_f64])
            .attribute("extra", "beside")
            .attribute_keys(["http.route", "tenant"]);
        let payload = encode(&context).expect("fits");
        assert_eq!(decode(&payload).as_ref(), Ok(&context));
    }

    #[test]
    fn the_thread_context_is_described_beside_the_resource() {
        let context = ProcessContext::new()
            .resource("service.name", "checkout")
            .attribute_keys(["http.route"]);
        let payload = encode(&context).expect("fits");
        let message = ProcessContextMessage::decode(&*payload).expect("is a message");
        let in_resource = message.resource.expect("has a resource").attributes;
        assert_eq!(in_resource.len(), 1);
        assert_eq!(in_resource[0].key, "service.name");
        let strings = |text: &str| {
            Some(AnyValue {
                value: Some(Any::StringValue(text.into())),
            })
        };
        assert_eq!(message.attributes.len(), 2);
        assert_eq!(message.attributes[0].key, "threadlocal.schema_version");
        assert_eq!(message.attributes[0].value, strings(SCHEMA_VERSION));
        assert_eq!(message.attributes[1].key, "threadlocal.attribute_key_map");
        let Some(Any::ArrayValue(map)) = message.attributes[1].value.clone().and_then(|v| v.value)
        else {
            panic!("the key map is an array");
        };
        assert_eq!(map.values, [strings("http.route").expect("set above")]);
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let context = ProcessContext::new()
            .resource("k", "v")
            .schema_version(None);
        let payload = encode(&context).expect("fits");
        // Field 1 (resource) { field 1 (attribute) { 1: "k", 2 { 1: "v" } } }
        assert_eq!(*payload, *b"\x0a\x0a\x0a\x08\x0a\x01k\x12\x03\x0a\x01v");
        let context = ProcessContext::new()
            .attribute("k", "v")
            .schema_version(None);
        let payload = encode(&context).expect("fits");
        assert_eq!(*payload, *b"\x0a\x00\x12\x08\x0a\x01k\x12\x03\x0a\x01v");
    }

    #[test]
    fn what_readers_refuse_is_refused() {
        let name = "x".repeat(MAX_PAYLOAD_SIZE);
        let error = encode(&ProcessContext::new().resource("service.name", &*name));
        let Err(PublishError::TooLarge { size, limit }) = error else {
            panic!("{error:?}");
        };
        assert!(size > limit && limit == MAX_PAYLOAD_SIZE);

        let bare = ProcessContext::new()
            .schema_version(None)
            .resource("k", &*name);
        let Err(PublishError::TooLarge { size, .. }) = encode(&bare) else {
            panic!("too large");
        };
        let fits = &name[..name.len() - (size - MAX_PAYLOAD_SIZE)];
        let largest = ProcessContext::new()
            .schema_version(None)
            .resource("k", fits);
        assert_eq!(encode(&largest).expect("fits").len(), MAX_PAYLOAD_SIZE);

        let keys = |count: usize| (0..count).map(|key| key.to_string());
        assert!(encode(&ProcessContext::new().attribute_keys(keys(256))).is_ok());
        assert!(matches!(
            encode(&ProcessContext::new().attribute_keys(keys(257))),
            Err(PublishError::TooManyKeys {
                count: 257,
                limit: 256
            })
        ));
        assert!(matches!(
            encode(&ProcessContext::new().attribute("threadlocal.schema_version", "x")),
            Err(PublishError::ReservedAttribute { .. })
        ));
    }

    #[test]
    fn a_repeated_key_keeps_the_last_value() {
        let context = ProcessContext::new()
            .resource("service.name", "a")
            .resource("service.name", "b");
        assert_eq!(
            context.resource_attributes(),
            [("service.name".into(), "b".into())]
        );
        let context = context.replace_resource([("x", 1_i64), ("x", 2)]);
        assert_eq!(context.resource_attributes(), [("x".into(), 2_i64.into())]);
    }

    #[test]
    fn a_foreign_message_is_an_error() {
        assert!(decode(&[0xff; 7]).is_err());
        let message = ProcessContextMessage {
            resource: None,
            attributes: vec![KeyValue {
                key: "threadlocal.schema_version".into(),
                value: Some(any_value(&Value::I64(1))),
                ..Default::default()
            }],
        };
        assert!(decode(&message.encode_to_vec()).is_err());
    }
}
