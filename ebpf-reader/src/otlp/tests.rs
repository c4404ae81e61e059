use std::collections::BTreeMap;

use super::*;
use crate::pprof;
use crate::profile::tests::{TRACE, with_off_cpu};

/// Values by trace id (hexadecimal, or nothing) and by type.
type Sums = BTreeMap<(String, String), i64>;

fn sums_of_otlp(data: &proto::ProfilesData) -> Sums {
    let dictionary = data.dictionary.as_ref().unwrap();
    let string = |index: i32| dictionary.string_table[usize::try_from(index).unwrap()].as_str();
    let mut sums = Sums::new();
    for scope in data
        .resource_profiles
        .iter()
        .flat_map(|resource| &resource.scope_profiles)
    {
        for profile in &scope.profiles {
            let kind = string(profile.sample_type.unwrap().type_strindex);
            for sample in &profile.samples {
                let link = &dictionary.link_table[usize::try_from(sample.link_index).unwrap()];
                let trace: String = link
                    .trace_id
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let mut add = |kind: &str, value| {
                    *sums.entry((trace.clone(), kind.to_owned())).or_default() += value;
                };
                if kind == "samples" {
                    add("samples", sample.values[0]);
                    add("cpu", sample.values[0] * profile.period);
                } else {
                    let activity = sample.attribute_indices.iter().find_map(|&index| {
                        let attribute = &dictionary.attribute_table[usize::try_from(index).unwrap()];
                        let Some(value) = attribute.value.clone().and_then(|value| value.value) else {
                            panic!("an attribute without a value");
                        };
                        match value {
                            opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text)
                                if string(attribute.key_strindex) == "thread.activity" => Some(text),
                            _ => None,
                        }
                    });
                    add(&activity.unwrap(), sample.values[0]);
                }
            }
        }
    }
    sums
}

fn sums_of_pprof(profile: &pprof::proto::Profile) -> Sums {
    let string = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let mut sums = Sums::new();
    for sample in &profile.sample {
        let trace = sample
            .label
            .iter()
            .find(|label| string(label.key) == "trace_id");
        let trace = trace.map_or("", |label| string(label.str)).to_owned();
        for (kind, &value) in profile.sample_type.iter().zip(&sample.value) {
            if value != 0 {
                *sums
                    .entry((trace.clone(), string(kind.r#type).to_owned()))
                    .or_default() += value;
            }
        }
    }
    sums
}

#[test]
fn the_numbers_are_those_of_pprof() {
    for filter in [
        Filter::all(),
        Filter::all().on_cpu(),
        Filter::trace(TRACE.parse().unwrap()),
    ] {
        let profile = with_off_cpu();
        let mut bytes = Vec::new();
        write(&profile, &filter, LabelStyle::Otel, &mut bytes).unwrap();
        let data = proto::ProfilesData::decode(&bytes[..]).unwrap();
        let sums = sums_of_otlp(&data);
        assert_eq!(
            sums,
            sums_of_pprof(&pprof::encode(&profile, &filter, LabelStyle::Otel))
        );
        assert_eq!(sums[&(TRACE.to_owned(), "cpu".to_owned())], 40_000_000);
    }
}
