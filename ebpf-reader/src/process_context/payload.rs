//! The payload of a process context: a protobuf message with a resource and attributes.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use otel_profiling::abi::process_context::{
    ATTRIBUTE_KEY_MAP_KEY, MAX_PAYLOAD_SIZE, SCHEMA_VERSION_KEY,
};
use otel_profiling::abi::thread_context::MAX_KEYS;
use prost::Message;

use super::ProcessContext;

/// The message of OTEP 4719, which opentelemetry-proto does not have.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Payload {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// Attributes of each kind that are kept.
const MAX_ATTRIBUTES: usize = 256;

/// Bytes that are kept of a value that is written as JSON, which can be longer than it was.
const MAX_JSON: usize = 4096;

/// Decodes a payload; `None` if it is not such a message, or longer than it may be.
///
/// Messages within messages end: the decoder refuses more than a hundred levels.
pub(super) fn decode(bytes: &[u8]) -> Option<ProcessContext> {
    if bytes.len() > MAX_PAYLOAD_SIZE {
        return None;
    }
    let payload = Payload::decode(bytes).ok()?;
    let mut context = ProcessContext::default();
    for attribute in payload.resource.unwrap_or_default().attributes {
        let pair = pair(attribute, &mut context.truncated);
        push(&mut context.resource, pair, &mut context.truncated);
    }
    for attribute in payload.attributes {
        match attribute.key.as_str() {
            SCHEMA_VERSION_KEY => {
                context.schema_version = Some(pair(attribute, &mut context.truncated).1);
            }
            ATTRIBUTE_KEY_MAP_KEY => {
                context.attribute_keys = names(attribute.value, &mut context.truncated);
            }
            _ => {
                let pair = pair(attribute, &mut context.truncated);
                push(&mut context.attributes, pair, &mut context.truncated);
            }
        }
    }
    Some(context)
}

fn push(kept: &mut Vec<(String, String)>, pair: (String, String), truncated: &mut usize) {
    if kept.len() < MAX_ATTRIBUTES {
        kept.push(pair);
    } else {
        *truncated += 1;
    }
}

/// The strings of an array. Anything else in it keeps its place, so that the indices stay right.
fn names(value: Option<AnyValue>, truncated: &mut usize) -> Vec<String> {
    match value.and_then(|value| value.value) {
        Some(Value::ArrayValue(array)) => {
            *truncated += array.values.len().saturating_sub(MAX_KEYS);
            array
                .values
                .into_iter()
                .take(MAX_KEYS)
                .map(|value| text(value.value, truncated))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn pair(attribute: KeyValue, truncated: &mut usize) -> (String, String) {
    (
        attribute.key,
        text(attribute.value.and_then(|value| value.value), truncated),
    )
}

/// A string is no longer than it was in the payload; anything else is cut off.
fn text(value: Option<Value>, truncated: &mut usize) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        other => {
            let mut text = json(other).to_string();
            if text.len() > MAX_JSON {
                text.truncate(boundary(&text, MAX_JSON));
                text.shrink_to_fit();
                *truncated += 1;
            }
            text
        }
    }
}

/// The last position up to `limit` where a text can be cut.
fn boundary(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len()))
        .rev()
        .find(|&position| text.is_char_boundary(position))
        .unwrap_or(0)
}

fn json(value: Option<Value>) -> serde_json::Value {
    match value {
        None | Some(Value::StringValueStrindex(_)) => serde_json::Value::Null,
        Some(Value::StringValue(text)) => text.into(),
        Some(Value::BoolValue(value)) => value.into(),
        Some(Value::IntValue(value)) => value.into(),
        Some(Value::DoubleValue(value)) => value.into(),
        Some(Value::BytesValue(value)) => value.into(),
        Some(Value::ArrayValue(array)) => array
            .values
            .into_iter()
            .map(|value| json(value.value))
            .collect(),
        Some(Value::KvlistValue(list)) => list
            .values
            .into_iter()
            .map(|attribute| {
                (
                    attribute.key,
                    json(attribute.value.and_then(|value| value.value)),
                )
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use opentelemetry_proto::tonic::common::v1::ArrayValue;

    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    fn string(text: &str) -> Value {
        Value::StringValue(text.to_owned())
    }

    /// A payload as `otel_profiling::process_context` writes it.
    pub(in super::super) fn encoded(service: &str, keys: &[&str]) -> Vec<u8> {
        let keys = keys
            .iter()
            .map(|key| AnyValue {
                value: Some(string(key)),
            })
            .collect();
        Payload {
            resource: Some(Resource {
                attributes: vec![
                    attribute("service.name", string(service)),
                    attribute("process.pid", Value::IntValue(7)),
                ],
                ..Resource::default()
            }),
            attributes: vec![
                attribute(SCHEMA_VERSION_KEY, string("tlsdesc_v1_dev")),
                attribute(
                    ATTRIBUTE_KEY_MAP_KEY,
                    Value::ArrayValue(ArrayValue { values: keys }),
                ),
                attribute("other", Value::BoolValue(true)),
            ],
        }
        .encode_to_vec()
    }

    #[test]
    fn a_payload_is_understood() {
        let context = decode(&encoded("checkout", &["http.route", "user"])).unwrap();
        assert_eq!(
            context,
            ProcessContext {
                published_at: 0,
                resource: vec![
                    ("service.name".to_owned(), "checkout".to_owned()),
                    ("process.pid".to_owned(), "7".to_owned())
                ],
                attributes: vec![("other".to_owned(), "true".to_owned())],
                schema_version: Some("tlsdesc_v1_dev".to_owned()),
                attribute_keys: vec!["http.route".to_owned(), "user".to_owned()],
                truncated: 0,
            }
        );
    }

    #[test]
    fn no_damage_makes_it_panic() {
        let good = encoded("checkout", &["http.route", "user"]);
        for position in 0..good.len() {
            let _ = decode(&good[..position]);
            for byte in 0..=u8::MAX {
                let mut bad = good.clone();
                bad[position] = byte;
                if let Some(context) = decode(&bad) {
                    assert!(context.attribute_keys.len() <= MAX_KEYS);
                }
            }
        }
    }

    #[test]
    fn arrays_within_arrays_end() {
        let wrap = |tag: u8, inner: &[u8]| {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        };
        // An AnyValue (tags 5 and 1: array, values) within the value of an attribute (tags 2 and 2).
        let nested = |depth| {
            let any = (0..depth).fold(Vec::new(), |any, _| wrap(0x2a, &wrap(0x0a, &any)));
            wrap(0x12, &wrap(0x12, &any))
        };
        assert!(decode(&nested(10)).is_some());
        assert_eq!(decode(&nested(5_000)), None);
    }

    #[test]
    fn what_is_too_much_is_cut_off_and_counted() {
        let list = |count: usize| -> Vec<KeyValue> {
            (0..count)
                .map(|index| attribute(&index.to_string(), Value::IntValue(1)))
                .collect()
        };
        let payload = Payload {
            resource: Some(Resource {
                attributes: list(MAX_ATTRIBUTES + 2),
                ..Resource::default()
            }),
            attributes: list(MAX_ATTRIBUTES)
                .into_iter()
                .chain([
                    attribute("long", Value::BytesValue(vec![200; 2000])),
                    attribute(
                        ATTRIBUTE_KEY_MAP_KEY,
                        Value::ArrayValue(ArrayValue {
                            values: vec![AnyValue::default(); MAX_KEYS + 3],
                        }),
                    ),
                ])
                .collect(),
        };
        let context = decode(&payload.encode_to_vec()).unwrap();
        assert_eq!(context.resource.len(), MAX_ATTRIBUTES);
        assert_eq!(context.attributes.len(), MAX_ATTRIBUTES);
        assert_eq!(context.attribute_keys.len(), MAX_KEYS);
        // Two attributes and three keys too many; a long value without a place.
        assert_eq!(context.truncated, 2 + 3 + 2);
        assert_eq!(decode(&vec![0; MAX_PAYLOAD_SIZE + 1]), None);
    }

    #[test]
    fn long_json_is_cut_between_characters() {
        let mut truncated = 0;
        let value = Value::ArrayValue(ArrayValue {
            values: vec![
                AnyValue {
                    value: Some(string("ä")),
                };
                2000
            ],
        });
        let text = text(Some(value), &mut truncated);
        assert!((MAX_JSON - 1..=MAX_JSON).contains(&text.len()));
        assert_eq!(truncated, 1);
    }
}
