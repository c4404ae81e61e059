//! Messages to push.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesData,
    ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// A valid message with one profile: `samples` samples of the trace whose id ends in `trace`.
pub(crate) fn message(trace: u8, samples: i64) -> ProfilesData {
    let mut trace_id = vec![0xab; 16];
    trace_id[15] = trace;
    let strings = ["", "samples", "count", "work", "cpu", "nanoseconds"];
    ProfilesData {
        resource_profiles: vec![ResourceProfiles {
            resource: Some(Resource {
                attributes: vec![KeyValue {
                    key: "service.name".to_owned(),
                    value: Some(AnyValue {
                        value: Some(any_value::Value::StringValue("pushed".to_owned())),
                    }),
                    ..KeyValue::default()
                }],
                ..Resource::default()
            }),
            scope_profiles: vec![ScopeProfiles {
                profiles: vec![Profile {
                    sample_type: Some(ValueType {
                        type_strindex: 1,
                        unit_strindex: 2,
                    }),
                    samples: vec![Sample {
                        stack_index: 1,
                        link_index: 1,
                        values: vec![samples],
                        ..Sample::default()
                    }],
                    time_unix_nano: 1_700_000_000_000_000_000,
                    duration_nano: 1_000_000_000,
                    period_type: Some(ValueType {
                        type_strindex: 4,
                        unit_strindex: 5,
                    }),
                    period: 10_101_010,
                    profile_id: vec![trace; 16],
                    ..Profile::default()
                }],
                ..ScopeProfiles::default()
            }],
            ..ResourceProfiles::default()
        }],
        dictionary: Some(ProfilesDictionary {
            mapping_table: vec![Mapping::default()],
            location_table: vec![
                Location::default(),
                Location {
                    lines: vec![Line {
                        function_index: 1,
                        ..Line::default()
                    }],
                    ..Location::default()
                },
            ],
            function_table: vec![
                Function::default(),
                Function {
                    name_strindex: 3,
                    ..Function::default()
                },
            ],
            link_table: vec![
                Link::default(),
                Link {
                    trace_id,
                    span_id: vec![0xcd; 8],
                },
            ],
            string_table: strings.map(str::to_owned).to_vec(),
            attribute_table: vec![KeyValueAndUnit::default()],
            stack_table: vec![
                Stack::default(),
                Stack {
                    location_indices: vec![1],
                },
            ],
        }),
    }
}

/// A message of about `bytes` bytes, which gzip cannot shrink much.
pub(crate) fn large(bytes: usize) -> ProfilesData {
    let mut message = message(1, 1);
    let mut state = 1_u64;
    let noise = (0..bytes).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b' ' + (state >> 57) as u8 % 94)
    });
    let dictionary = message.dictionary.as_mut().unwrap();
    dictionary.string_table.push(noise.collect());
    message
}
