//! What breaks each rule of the data model: examples that the rules have to find.

use crate::otlp::proto::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesData,
    ProfilesDictionary, Sample, Stack,
};

type Mutation = (&'static str, fn(&mut ProfilesData));

/// For each rule, what breaks it.
pub(super) const MUTATIONS: &[Mutation] = &[
    ("there are resources", |data| data.resource_profiles.clear()),
    ("each resource has scopes", |data| {
        data.resource_profiles[0].scope_profiles.clear();
    }),
    ("each scope has profiles", |data| {
        data.resource_profiles[0].scope_profiles[0].profiles.clear();
    }),
    ("keys of a resource are unique and not empty", |data| {
        let attributes = &mut data.resource_profiles[0]
            .resource
            .as_mut()
            .unwrap()
            .attributes;
        attributes.push(attributes[0].clone());
    }),
    ("keys of a resource are unique and not empty", |data| {
        data.resource_profiles[0]
            .resource
            .as_mut()
            .unwrap()
            .attributes[0]
            .key
            .clear();
    }),
    ("a key is given once: as text or as an index", |data| {
        data.resource_profiles[0]
            .resource
            .as_mut()
            .unwrap()
            .attributes[0]
            .key_strindex = 1;
    }),
    ("index 0 of the mappings is zero", |data| {
        drop(tables(data).mapping_table.remove(0));
    }),
    ("index 0 of the mappings is zero", |data| {
        tables(data).mapping_table.clear();
    }),
    ("index 0 of the locations is zero", |data| {
        drop(tables(data).location_table.remove(0));
    }),
    ("index 0 of the functions is zero", |data| {
        tables(data).function_table.remove(0);
    }),
    ("index 0 of the links is zero", |data| {
        drop(tables(data).link_table.remove(0));
    }),
    ("index 0 of the strings is zero", |data| {
        drop(tables(data).string_table.remove(0));
    }),
    ("index 0 of the attributes is zero", |data| {
        drop(tables(data).attribute_table.remove(0));
    }),
    ("index 0 of the stacks is zero", |data| {
        drop(tables(data).stack_table.remove(0));
    }),
    ("no mapping is there twice", |data| {
        again(&mut tables(data).mapping_table);
    }),
    ("no location is there twice", |data| {
        again(&mut tables(data).location_table);
    }),
    ("no function is there twice", |data| {
        again(&mut tables(data).function_table);
    }),
    ("no link is there twice", |data| {
        again(&mut tables(data).link_table);
    }),
    ("no string is there twice", |data| {
        again(&mut tables(data).string_table);
    }),
    ("no attribute is there twice", |data| {
        again(&mut tables(data).attribute_table);
    }),
    ("no stack is there twice", |data| {
        again(&mut tables(data).stack_table);
    }),
    ("indices of mappings exist", |data| {
        tables(data).location_table[1].mapping_index = 99;
    }),
    ("indices of mappings exist", |data| {
        tables(data).location_table[1].mapping_index = -1;
    }),
    ("indices of locations exist", |data| {
        tables(data).stack_table[1].location_indices[0] = 99;
    }),
    ("indices of functions exist", |data| {
        tables(data).location_table[1].lines[0].function_index = 99;
    }),
    ("indices of links exist", |data| {
        sample(data).link_index = 99;
    }),
    ("indices of strings exist", |data| {
        tables(data).function_table[1].name_strindex = 99;
    }),
    ("indices of strings exist", |data| {
        tables(data).mapping_table[1].filename_strindex = 99;
    }),
    ("indices of strings exist", |data| {
        tables(data).attribute_table[1].key_strindex = 99;
    }),
    ("indices of strings exist", |data| {
        profile(data).sample_type.as_mut().unwrap().unit_strindex = 99;
    }),
    ("indices of attributes exist", |data| {
        sample(data).attribute_indices[0] = 99;
    }),
    ("indices of attributes exist", |data| {
        profile(data).attribute_indices.push(99);
    }),
    ("indices of attributes exist", |data| {
        tables(data).location_table[1].attribute_indices.push(99);
    }),
    ("indices of attributes exist", |data| {
        tables(data).mapping_table[1].attribute_indices.push(99);
    }),
    ("indices of stacks exist", |data| {
        sample(data).stack_index = 99;
    }),
    ("each mapping is referred to", |data| {
        tables(data).mapping_table.push(Mapping {
            file_offset: 9,
            ..Mapping::default()
        });
    }),
    ("each location is referred to", |data| {
        tables(data).location_table.push(Location {
            address: 9,
            ..Location::default()
        });
    }),
    ("each function is referred to", |data| {
        tables(data).function_table.push(Function {
            start_line: 9,
            ..Function::default()
        });
    }),
    ("each link is referred to", |data| {
        tables(data).link_table.push(Link {
            trace_id: vec![9; 16],
            span_id: vec![9; 8],
        });
    }),
    ("each string is referred to", |data| {
        tables(data).string_table.push("of no use".to_owned());
    }),
    ("each attribute is referred to", |data| {
        tables(data).attribute_table.push(KeyValueAndUnit {
            key_strindex: 1,
            ..KeyValueAndUnit::default()
        });
    }),
    ("each stack is referred to", |data| {
        tables(data).stack_table.push(Stack {
            location_indices: vec![1, 1, 1],
        });
    }),
    (
        "keys of attributes are unique where they are referred to",
        |data| {
            let first = sample(data).attribute_indices[0];
            sample(data).attribute_indices.push(first);
        },
    ),
    (
        "nothing refers to an attribute, location or function that is none",
        |data| sample(data).attribute_indices.push(0),
    ),
    (
        "nothing refers to an attribute, location or function that is none",
        |data| tables(data).stack_table[1].location_indices.push(0),
    ),
    (
        "nothing refers to an attribute, location or function that is none",
        |data| tables(data).location_table[1].lines.push(Line::default()),
    ),
    ("attributes have a key and a value", |data| {
        tables(data).attribute_table[1].key_strindex = 0;
    }),
    ("attributes have a key and a value", |data| {
        tables(data).attribute_table[1].value = None;
    }),
    ("a range of addresses is not empty, or not told", |data| {
        tables(data).mapping_table[1].memory_limit = 0;
    }),
    ("addresses are in their mappings", |data| {
        tables(data).location_table[1].address = 1;
    }),
    ("lines and columns are not negative", |data| {
        tables(data).location_table[1].lines[0].line = -1;
    }),
    ("lines and columns are not negative", |data| {
        tables(data).location_table[1].lines[0].column = -1;
    }),
    ("lines and columns are not negative", |data| {
        tables(data).function_table[1].start_line = -1;
    }),
    (
        "a link has a trace id of 16 bytes that is not zero",
        |data| tables(data).link_table[1].trace_id.truncate(8),
    ),
    (
        "a link has a trace id of 16 bytes that is not zero",
        |data| tables(data).link_table[1].trace_id.fill(0),
    ),
    ("a link has a span id of 8 bytes", |data| {
        tables(data).link_table[1].span_id.clear();
    }),
    ("a profile has an id of 16 bytes that is not zero", |data| {
        profile(data).profile_id.clear();
    }),
    ("a profile has an id of 16 bytes that is not zero", |data| {
        profile(data).profile_id.fill(0);
    }),
    ("no two profiles have the same id", |data| {
        let profiles = &mut data.resource_profiles[0].scope_profiles[0].profiles;
        profiles[1].profile_id = profiles[0].profile_id.clone();
    }),
    (
        "an original payload and its format are both there or neither",
        |data| profile(data).original_payload = vec![1],
    ),
    ("samples have a type and a unit", |data| {
        profile(data).sample_type = None;
    }),
    ("samples have a type and a unit", |data| {
        profile(data).sample_type.as_mut().unwrap().type_strindex = 0;
    }),
    ("a period has a type and a unit", |data| {
        profile(data).period_type = None;
    }),
    ("units are those of profiles", |data| {
        profile(data).sample_type.as_mut().unwrap().unit_strindex = 1;
    }),
    ("a profile has a time", |data| {
        profile(data).time_unix_nano = 0;
    }),
    ("a profile has a time", |data| {
        profile(data).duration_nano = 0;
    }),
    ("a sample has a value or a time", |data| {
        sample(data).values.clear();
    }),
    ("a sample without times has one value", |data| {
        sample(data).values.push(1);
    }),
    ("a sample has as many times as values, if both", |data| {
        let start = profile(data).time_unix_nano;
        sample(data).timestamps_unix_nano = vec![start, start];
    }),
    ("all samples of a profile have one shape", |data| {
        let start = profile(data).time_unix_nano;
        sample(data).timestamps_unix_nano = vec![start];
    }),
    ("times are inside the profile", |data| {
        let end = profile(data).time_unix_nano + profile(data).duration_nano;
        sample(data).timestamps_unix_nano = vec![end];
    }),
    ("times are inside the profile", |data| {
        let start = profile(data).time_unix_nano;
        sample(data).timestamps_unix_nano = vec![start - 1];
    }),
    ("equal samples are one", |data| {
        let first = sample(data).clone();
        profile(data).samples.push(first);
    }),
];

fn tables(data: &mut ProfilesData) -> &mut ProfilesDictionary {
    data.dictionary.as_mut().unwrap()
}

fn profile(data: &mut ProfilesData) -> &mut Profile {
    &mut data.resource_profiles[0].scope_profiles[0].profiles[0]
}

fn sample(data: &mut ProfilesData) -> &mut Sample {
    &mut profile(data).samples[0]
}

fn again<T: Clone>(table: &mut Vec<T>) {
    let last = table.last().unwrap().clone();
    table.push(last);
}
