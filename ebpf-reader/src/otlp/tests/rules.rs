//! The rules of the data model, one by one.

use std::collections::HashSet;

use crate::otlp::proto::ProfilesData;

use super::parts::*;

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

/// The rules that a message breaks.
pub(super) fn broken(data: &ProfilesData) -> Vec<&'static str> {
    let rules = RULES.iter().filter(|(_, holds)| !holds(data));
    rules.map(|&(name, _)| name).collect()
}
