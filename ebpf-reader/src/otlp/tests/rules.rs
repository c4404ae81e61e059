//! The rules of the data model, one by one, and for each of them examples that break it.

use std::collections::HashSet;
use std::fmt::Debug;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::otlp::proto::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesData,
    ProfilesDictionary, Sample, Stack, ValueType,
};

type Rule = (&'static str, fn(&ProfilesData) -> bool);

/// Name and test of each rule.
pub(super) const RULES: &[Rule] = &[
    ("there are resources", |data| {
        !data.resource_profiles.is_empty()
    }),
    ("each resource has scopes", |data| {
        let mut resources = data.resource_profiles.iter();
        resources.all(|resource| !resource.scope_profiles.is_empty())
    }),
    ("each scope has profiles", |data| {
        let mut scopes = data
            .resource_profiles
            .iter()
            .flat_map(|resource| &resource.scope_profiles);
        scopes.all(|scope| !scope.profiles.is_empty())
    }),
    ("keys of a resource are unique and not empty", |data| {
        data.resource_profiles.iter().all(|resource| {
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            let keys: Vec<_> = attributes
                .iter()
                .map(|attribute| attribute.key.as_str())
                .collect();
            unique(&keys) && !keys.contains(&"")
        })
    }),
    ("a key is given once: as text or as an index", |data| {
        let resources = data.resource_profiles.iter();
        let attributes =
            resources.flat_map(|resource| &resource.resource.as_ref().unwrap().attributes);
        attributes
            .into_iter()
            .all(|attribute| attribute.key_strindex == 0)
    }),
    ("index 0 of the mappings is zero", |data| {
        zero(&dictionary(data).mapping_table)
    }),
    ("index 0 of the locations is zero", |data| {
        zero(&dictionary(data).location_table)
    }),
    ("index 0 of the functions is zero", |data| {
        zero(&dictionary(data).function_table)
    }),
    ("index 0 of the links is zero", |data| {
        zero(&dictionary(data).link_table)
    }),
    ("index 0 of the strings is zero", |data| {
        zero(&dictionary(data).string_table)
    }),
    ("index 0 of the attributes is zero", |data| {
        zero(&dictionary(data).attribute_table)
    }),
    ("index 0 of the stacks is zero", |data| {
        zero(&dictionary(data).stack_table)
    }),
    ("no mapping is there twice", |data| {
        unique(&dictionary(data).mapping_table)
    }),
    ("no location is there twice", |data| {
        unique(&dictionary(data).location_table)
    }),
    ("no function is there twice", |data| {
        unique(&dictionary(data).function_table)
    }),
    ("no link is there twice", |data| {
        unique(&dictionary(data).link_table)
    }),
    ("no string is there twice", |data| {
        unique(&dictionary(data).string_table)
    }),
    ("no attribute is there twice", |data| {
        unique(&dictionary(data).attribute_table)
    }),
    ("no stack is there twice", |data| {
        unique(&dictionary(data).stack_table)
    }),
    ("indices of mappings exist", |data| {
        exist(
            data,
            |data| references(data).mappings,
            |tables| tables.mapping_table.len(),
        )
    }),
    ("indices of locations exist", |data| {
        exist(
            data,
            |data| references(data).locations,
            |tables| tables.location_table.len(),
        )
    }),
    ("indices of functions exist", |data| {
        exist(
            data,
            |data| references(data).functions,
            |tables| tables.function_table.len(),
        )
    }),
    ("indices of links exist", |data| {
        exist(
            data,
            |data| references(data).links,
            |tables| tables.link_table.len(),
        )
    }),
    ("indices of strings exist", |data| {
        exist(
            data,
            |data| references(data).strings,
            |tables| tables.string_table.len(),
        )
    }),
    ("indices of attributes exist", |data| {
        exist(
            data,
            |data| references(data).attributes,
            |tables| tables.attribute_table.len(),
        )
    }),
    ("indices of stacks exist", |data| {
        exist(
            data,
            |data| references(data).stacks,
            |tables| tables.stack_table.len(),
        )
    }),
    ("each mapping is referred to", |data| {
        used(
            references(data).mappings,
            dictionary(data).mapping_table.len(),
        )
    }),
    ("each location is referred to", |data| {
        used(
            references(data).locations,
            dictionary(data).location_table.len(),
        )
    }),
    ("each function is referred to", |data| {
        used(
            references(data).functions,
            dictionary(data).function_table.len(),
        )
    }),
    ("each link is referred to", |data| {
        used(references(data).links, dictionary(data).link_table.len())
    }),
    ("each string is referred to", |data| {
        used(
            references(data).strings,
            dictionary(data).string_table.len(),
        )
    }),
    ("each attribute is referred to", |data| {
        used(
            references(data).attributes,
            dictionary(data).attribute_table.len(),
        )
    }),
    ("each stack is referred to", |data| {
        used(references(data).stacks, dictionary(data).stack_table.len())
    }),
    (
        "keys of attributes are unique where they are referred to",
        |data| {
            let tables = dictionary(data);
            lists_of_attributes(data).iter().all(|list| {
                let attributes = list
                    .iter()
                    .map(|&index| get(&tables.attribute_table, index));
                let keys: Vec<_> = attributes
                    .map(|attribute| attribute.map(|attribute| attribute.key_strindex))
                    .collect();
                unique(&keys)
            })
        },
    ),
    (
        "nothing refers to an attribute, location or function that is none",
        |data| {
            let tables = dictionary(data);
            let stacks = tables
                .stack_table
                .iter()
                .flat_map(|stack| &stack.location_indices);
            let lines = tables
                .location_table
                .iter()
                .flat_map(|location| &location.lines);
            let attributes = lists_of_attributes(data).concat();
            stacks.chain(&attributes).all(|&index| index != 0)
                && lines.into_iter().all(|line| line.function_index != 0)
        },
    ),
    ("attributes have a key and a value", |data| {
        let mut attributes = dictionary(data).attribute_table.iter().skip(1);
        attributes.all(|attribute| {
            let value = attribute
                .value
                .as_ref()
                .and_then(|value| value.value.as_ref());
            attribute.key_strindex != 0 && value.is_some()
        })
    }),
    ("a range of addresses is not empty, or not told", |data| {
        let mut mappings = dictionary(data).mapping_table.iter();
        mappings.all(|mapping| {
            (mapping.memory_start, mapping.memory_limit) == (0, 0)
                || mapping.memory_start < mapping.memory_limit
        })
    }),
    ("addresses are in their mappings", |data| {
        let tables = dictionary(data);
        tables.location_table.iter().all(|location| {
            let mapping = get(&tables.mapping_table, location.mapping_index);
            mapping.is_none_or(|mapping| {
                mapping.memory_limit == 0
                    || (mapping.memory_start..=mapping.memory_limit).contains(&location.address)
            })
        })
    }),
    ("lines and columns are not negative", |data| {
        let tables = dictionary(data);
        let mut lines = tables
            .location_table
            .iter()
            .flat_map(|location| &location.lines);
        lines.all(|line| line.line >= 0 && line.column >= 0)
            && tables
                .function_table
                .iter()
                .all(|function| function.start_line >= 0)
    }),
    (
        "a link has a trace id of 16 bytes that is not zero",
        |data| {
            let mut links = dictionary(data).link_table.iter().skip(1);
            links.all(|link| link.trace_id.len() == 16 && link.trace_id != [0; 16])
        },
    ),
    ("a link has a span id of 8 bytes", |data| {
        let mut links = dictionary(data).link_table.iter().skip(1);
        links.all(|link| link.span_id.len() == 8)
    }),
    ("a profile has an id of 16 bytes that is not zero", |data| {
        let mut profiles = profiles(data).into_iter();
        profiles.all(|profile| profile.profile_id.len() == 16 && profile.profile_id != [0; 16])
    }),
    ("no two profiles have the same id", |data| {
        let ids: Vec<_> = profiles(data)
            .into_iter()
            .map(|profile| &profile.profile_id)
            .collect();
        unique(&ids)
    }),
    (
        "an original payload and its format are both there or neither",
        |data| {
            let mut profiles = profiles(data).into_iter();
            profiles.all(|profile| {
                profile.original_payload.is_empty() == profile.original_payload_format.is_empty()
            })
        },
    ),
    ("samples have a type and a unit", |data| {
        profiles(data)
            .into_iter()
            .all(|profile| named(profile.sample_type))
    }),
    ("a period has a type and a unit", |data| {
        profiles(data).into_iter().all(|profile| {
            (profile.period == 0) == profile.period_type.is_none()
                && (profile.period == 0 || named(profile.period_type))
        })
    }),
    ("units are those of profiles", |data| {
        let types = profiles(data)
            .into_iter()
            .flat_map(|profile| [profile.sample_type, profile.period_type]);
        types.flatten().all(|kind| {
            let unit = get(&dictionary(data).string_table, kind.unit_strindex);
            unit.is_some_and(|unit| ["count", "nanoseconds"].contains(&unit.as_str()))
        })
    }),
    ("a profile has a time", |data| {
        profiles(data)
            .into_iter()
            .all(|profile| profile.time_unix_nano > 0 && profile.duration_nano > 0)
    }),
    ("a sample has a value or a time", |data| {
        samples(data)
            .all(|(_, sample)| !sample.values.is_empty() || !sample.timestamps_unix_nano.is_empty())
    }),
    ("a sample without times has one value", |data| {
        samples(data)
            .all(|(_, sample)| !sample.timestamps_unix_nano.is_empty() || sample.values.len() < 2)
    }),
    ("a sample has as many times as values, if both", |data| {
        samples(data).all(|(_, sample)| {
            let (values, times) = (sample.values.len(), sample.timestamps_unix_nano.len());
            values == 0 || times == 0 || values == times
        })
    }),
    ("all samples of a profile have one shape", |data| {
        profiles(data).into_iter().all(|profile| {
            let shapes = profile.samples.iter().map(|sample| {
                (
                    sample.values.is_empty(),
                    sample.timestamps_unix_nano.is_empty(),
                )
            });
            shapes.collect::<HashSet<_>>().len() < 2
        })
    }),
    ("times are inside the profile", |data| {
        samples(data).all(|(profile, sample)| {
            let end = profile.time_unix_nano + profile.duration_nano;
            sample
                .timestamps_unix_nano
                .iter()
                .all(|time| (profile.time_unix_nano..end).contains(time))
        })
    }),
    ("equal samples are one", |data| {
        profiles(data).into_iter().all(|profile| {
            let identities: Vec<_> = profile
                .samples
                .iter()
                .map(|sample| {
                    let mut attributes = sample.attribute_indices.clone();
                    attributes.sort_unstable();
                    (sample.stack_index, attributes, sample.link_index)
                })
                .collect();
            unique(&identities)
        })
    }),
];

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

/// The rules that a message breaks.
pub(super) fn broken(data: &ProfilesData) -> Vec<&'static str> {
    let rules = RULES.iter().filter(|(_, holds)| !holds(data));
    rules.map(|&(name, _)| name).collect()
}

fn dictionary(data: &ProfilesData) -> &ProfilesDictionary {
    data.dictionary.as_ref().unwrap()
}

fn profiles(data: &ProfilesData) -> Vec<&Profile> {
    let scopes = data
        .resource_profiles
        .iter()
        .flat_map(|resource| &resource.scope_profiles);
    scopes.flat_map(|scope| &scope.profiles).collect()
}

fn samples(data: &ProfilesData) -> impl Iterator<Item = (&Profile, &Sample)> {
    let profiles = profiles(data).into_iter();
    profiles.flat_map(|profile| profile.samples.iter().map(move |sample| (profile, sample)))
}

fn get<T>(table: &[T], index: i32) -> Option<&T> {
    table.get(usize::try_from(index).ok()?)
}

fn zero<T: Default + PartialEq>(table: &[T]) -> bool {
    table.first() == Some(&T::default())
}

fn unique<T: Debug>(table: &[T]) -> bool {
    let texts: HashSet<String> = table.iter().map(|value| format!("{value:?}")).collect();
    texts.len() == table.len()
}

fn named(kind: Option<ValueType>) -> bool {
    kind.is_some_and(|kind| kind.type_strindex != 0 && kind.unit_strindex != 0)
}

fn exist(
    data: &ProfilesData,
    references: fn(&ProfilesData) -> Vec<i32>,
    length: fn(&ProfilesDictionary) -> usize,
) -> bool {
    let length = length(dictionary(data));
    references(data)
        .into_iter()
        .all(|index| usize::try_from(index).is_ok_and(|index| index < length))
}

fn used(references: Vec<i32>, length: usize) -> bool {
    let references: HashSet<i32> = references.into_iter().collect();
    (1..length).all(|index| references.contains(&i32::try_from(index).unwrap()))
}

fn lists_of_attributes(data: &ProfilesData) -> Vec<Vec<i32>> {
    let tables = dictionary(data);
    let mut lists = Vec::new();
    lists.extend(
        profiles(data)
            .into_iter()
            .map(|profile| profile.attribute_indices.clone()),
    );
    lists.extend(samples(data).map(|(_, sample)| sample.attribute_indices.clone()));
    lists.extend(
        tables
            .mapping_table
            .iter()
            .map(|mapping| mapping.attribute_indices.clone()),
    );
    lists.extend(
        tables
            .location_table
            .iter()
            .map(|location| location.attribute_indices.clone()),
    );
    lists
}

/// All indices in a message, by the table that they lead to.
#[derive(Default)]
struct References {
    mappings: Vec<i32>,
    locations: Vec<i32>,
    functions: Vec<i32>,
    links: Vec<i32>,
    strings: Vec<i32>,
    attributes: Vec<i32>,
    stacks: Vec<i32>,
}

fn references(data: &ProfilesData) -> References {
    let tables = dictionary(data);
    let mut all = References {
        attributes: lists_of_attributes(data).concat(),
        ..References::default()
    };
    for profile in profiles(data) {
        for kind in [profile.sample_type, profile.period_type]
            .into_iter()
            .flatten()
        {
            all.strings.extend([kind.type_strindex, kind.unit_strindex]);
        }
    }
    for (_, sample) in samples(data) {
        all.stacks.push(sample.stack_index);
        all.links.push(sample.link_index);
    }
    for stack in &tables.stack_table {
        all.locations.extend(&stack.location_indices);
    }
    for location in &tables.location_table {
        all.mappings.push(location.mapping_index);
        all.functions
            .extend(location.lines.iter().map(|line| line.function_index));
    }
    for function in &tables.function_table {
        all.strings.extend([
            function.name_strindex,
            function.system_name_strindex,
            function.filename_strindex,
        ]);
    }
    all.strings.extend(
        tables
            .mapping_table
            .iter()
            .map(|mapping| mapping.filename_strindex),
    );
    for attribute in &tables.attribute_table {
        all.strings
            .extend([attribute.key_strindex, attribute.unit_strindex]);
        if let Some(Value::StringValueStrindex(index)) = attribute
            .value
            .as_ref()
            .and_then(|value| value.value.as_ref())
        {
            all.strings.push(*index);
        }
    }
    all
}

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
