//! The tables that all profiles of a message share. Index 0 of each is the zero value, which means none; nothing
//! is in a table twice, or unless something refers to it.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::encode::BUILD_ID;
use super::proto;
use crate::profile::interned::Interned;
use crate::profile::{Location, Profile};

/// An attribute's value, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attribute {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
    /// Several texts.
    Texts(Vec<String>),
}

/// Functions and lines of a location, which `proto::Location` cannot be compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct LocationKey {
    mapping: i32,
    address: u64,
    lines: Vec<proto::Line>,
    attributes: Vec<i32>,
}

/// The tables while they are filled.
#[derive(Debug)]
pub(super) struct Dictionary {
    strings: Interned<String>,
    mappings: Interned<proto::Mapping>,
    locations: Interned<LocationKey>,
    functions: Interned<proto::Function>,
    links: Interned<proto::Link>,
    attributes: Interned<Option<(i32, Attribute)>>,
    stacks: Interned<proto::Stack>,
}

impl Dictionary {
    pub(super) fn new() -> Self {
        Self {
            strings: Interned::starting_with(String::new()),
            mappings: Interned::starting_with(proto::Mapping::default()),
            locations: Interned::starting_with(LocationKey::default()),
            functions: Interned::starting_with(proto::Function::default()),
            links: Interned::starting_with(proto::Link::default()),
            attributes: Interned::starting_with(None),
            stacks: Interned::starting_with(proto::Stack::default()),
        }
    }

    pub(super) fn string(&mut self, text: &str) -> i32 {
        index(self.strings.index(text.to_owned()))
    }

    pub(super) fn value_type(&mut self, r#type: &str, unit: &str) -> proto::ValueType {
        proto::ValueType {
            type_strindex: self.string(r#type),
            unit_strindex: self.string(unit),
        }
    }

    pub(super) fn attribute(&mut self, key: &str, value: Attribute) -> i32 {
        let key = self.string(key);
        index(self.attributes.index(Some((key, value))))
    }

    pub(super) fn link(&mut self, trace_id: [u8; 16], span_id: [u8; 8]) -> i32 {
        index(self.links.index(proto::Link {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
        }))
    }

    /// A stack of the profile, with its locations and whatever they refer to.
    pub(super) fn stack(&mut self, profile: &Profile, stack: usize) -> i32 {
        let locations = profile.stacks.get(stack).into_iter().flatten();
        let location_indices = locations
            .filter_map(|&location| profile.locations.get(location))
            .map(|location| self.location(profile, location))
            .collect();
        index(self.stacks.index(proto::Stack { location_indices }))
    }

    fn location(&mut self, profile: &Profile, location: &Location) -> i32 {
        let mapping = location
            .mapping
            .and_then(|mapping| profile.mappings.get(mapping));
        let mapping = mapping.map_or(0, |mapping| {
            // A range that is none is better not told.
            let (start, limit) = match mapping.start < mapping.end {
                true => (mapping.start, mapping.end),
                false => (0, 0),
            };
            let build_id = mapping.build_id.as_ref().map(|id| {
                let id = Attribute::Text(id.to_string());
                self.attribute(BUILD_ID, id)
            });
            let mapping = proto::Mapping {
                memory_start: start,
                memory_limit: limit,
                file_offset: mapping.offset,
                filename_strindex: self.string(&mapping.name),
                attribute_indices: build_id.into_iter().collect(),
            };
            index(self.mappings.index(mapping))
        });
        let lines = location.frames.iter().filter_map(|frame| {
            let function = profile.functions.get(frame.function)?;
            let function = proto::Function {
                name_strindex: self.string(&function.name),
                system_name_strindex: 0,
                filename_strindex: self.string(&function.file),
                start_line: 0,
            };
            Some(proto::Line {
                function_index: index(self.functions.index(function)),
                line: frame.line.map_or(0, i64::from),
                column: 0,
            })
        });
        let lines = lines.collect();
        let kind = match profile.is_kernel(location) {
            true => "kernel",
            false => "native",
        };
        let kind = self.attribute("profile.frame.type", Attribute::Text(kind.to_owned()));
        index(self.locations.index(LocationKey {
            mapping,
            address: location.address,
            lines,
            attributes: vec![kind],
        }))
    }

    /// The finished tables.
    pub(super) fn into_message(self) -> proto::ProfilesDictionary {
        proto::ProfilesDictionary {
            mapping_table: self.mappings.into_values(),
            location_table: self
                .locations
                .into_values()
                .into_iter()
                .map(|location| proto::Location {
                    mapping_index: location.mapping,
                    address: location.address,
                    lines: location.lines,
                    attribute_indices: location.attributes,
                })
                .collect(),
            function_table: self.functions.into_values(),
            link_table: self.links.into_values(),
            string_table: self.strings.into_values(),
            attribute_table: self
                .attributes
                .into_values()
                .into_iter()
                .map(|attribute| match attribute {
                    None => proto::KeyValueAndUnit::default(),
                    Some((key_strindex, value)) => proto::KeyValueAndUnit {
                        key_strindex,
                        value: Some(value.into()),
                        unit_strindex: 0,
                    },
                })
                .collect(),
            stack_table: self.stacks.into_values(),
        }
    }
}

impl From<Attribute> for AnyValue {
    fn from(attribute: Attribute) -> Self {
        let text = Value::StringValue;
        let value = match attribute {
            Attribute::Text(value) => text(value),
            Attribute::Number(value) => Value::IntValue(value),
            Attribute::Texts(values) => {
                Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
                    values: values
                        .into_iter()
                        .map(|value| AnyValue {
                            value: Some(text(value)),
                        })
                        .collect(),
                })
            }
        };
        Self { value: Some(value) }
    }
}

/// An index as it is written. A table of more than two thousand million entries does not fit into memory.
fn index(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(0)
}
