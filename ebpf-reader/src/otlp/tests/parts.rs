//! Parts of a message, for rules about them: its tables, all that refers to them, and whether entries are used.

use std::collections::HashSet;
use std::fmt::Debug;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::otlp::proto::{Profile, ProfilesData, ProfilesDictionary, Sample, ValueType};

pub(super) fn dictionary(data: &ProfilesData) -> &ProfilesDictionary {
    data.dictionary.as_ref().unwrap()
}

pub(super) fn profiles(data: &ProfilesData) -> Vec<&Profile> {
    let scopes = data
        .resource_profiles
        .iter()
        .flat_map(|resource| &resource.scope_profiles);
    scopes.flat_map(|scope| &scope.profiles).collect()
}

pub(super) fn samples(data: &ProfilesData) -> impl Iterator<Item = (&Profile, &Sample)> {
    let profiles = profiles(data).into_iter();
    profiles.flat_map(|profile| profile.samples.iter().map(move |sample| (profile, sample)))
}

pub(super) fn get<T>(table: &[T], index: i32) -> Option<&T> {
    table.get(usize::try_from(index).ok()?)
}

pub(super) fn zero<T: Default + PartialEq>(table: &[T]) -> bool {
    table.first() == Some(&T::default())
}

pub(super) fn unique<T: Debug>(table: &[T]) -> bool {
    let texts: HashSet<String> = table.iter().map(|value| format!("{value:?}")).collect();
    texts.len() == table.len()
}

pub(super) fn named(kind: Option<ValueType>) -> bool {
    kind.is_some_and(|kind| kind.type_strindex != 0 && kind.unit_strindex != 0)
}

pub(super) fn exist(
    data: &ProfilesData,
    references: fn(&ProfilesData) -> Vec<i32>,
    length: fn(&ProfilesDictionary) -> usize,
) -> bool {
    let length = length(dictionary(data));
    references(data)
        .into_iter()
        .all(|index| usize::try_from(index).is_ok_and(|index| index < length))
}

pub(super) fn used(references: Vec<i32>, length: usize) -> bool {
    let references: HashSet<i32> = references.into_iter().collect();
    (1..length).all(|index| references.contains(&i32::try_from(index).unwrap()))
}

pub(super) fn lists_of_attributes(data: &ProfilesData) -> Vec<Vec<i32>> {
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
pub(super) struct References {
    pub(super) mappings: Vec<i32>,
    pub(super) locations: Vec<i32>,
    pub(super) functions: Vec<i32>,
    pub(super) links: Vec<i32>,
    pub(super) strings: Vec<i32>,
    pub(super) attributes: Vec<i32>,
    pub(super) stacks: Vec<i32>,
}

pub(super) fn references(data: &ProfilesData) -> References {
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
