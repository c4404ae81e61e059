mod mutations;
mod parts;
mod receivers;
mod rules;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::*;
use crate::pprof;
use crate::profile::tests::{BUILD_ID, SPAN, TRACE, two_traces, with_off_cpu};

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
                        let attribute =
                            &dictionary.attribute_table[usize::try_from(index).unwrap()];
                        let Some(value) = attribute.value.clone().and_then(|value| value.value)
                        else {
                            panic!("an attribute without a value");
                        };
                        match value {
                            Value::StringValue(text)
                                if string(attribute.key_strindex) == "thread.activity" =>
                            {
                                Some(text)
                            }
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

/// Two processes, with all that a message can have.
fn rich() -> Profile {
    let mut profile = with_off_cpu();
    profile.processes[0].context = Some(crate::process_context::ProcessContext {
        resource: vec![
            ("service.name".to_owned(), "shop".to_owned()),
            ("service.name".to_owned(), "again".to_owned()),
            (String::new(), "nameless".to_owned()),
        ],
        ..Default::default()
    });
    profile.processes[0].origin = vec![("container.id".to_owned(), "c0".to_owned())];
    let mut other = profile.clone();
    other.processes[0].pid = 77;
    other.processes[0].context = None;
    other.contexts[0].labels = vec![
        ("thread.id".to_owned(), "not the thread's".to_owned()),
        (String::new(), "nameless".to_owned()),
        ("empty".to_owned(), String::new()),
    ];
    other.locations[1].address = 0xffff_8000_0000_0000;
    other.locations[1].mapping = None;
    Profile::merge(&[&profile, &other])
}

#[test]
fn every_rule_of_the_data_model_holds() {
    for style in LabelStyle::ALL {
        for profile in [two_traces(), with_off_cpu(), rich()] {
            let data = encode(&profile, &Filter::all(), style);
            assert_eq!(rules::broken(&data), [""; 0], "{style:?}: {data:#?}");
            let off_cpu = encode(&profile, &Filter::all().off_cpu(), style);
            assert_eq!(rules::broken(&off_cpu), [""; 0], "{style:?}: {off_cpu:#?}");
        }
    }
}

#[test]
fn a_profile_without_samples_is_a_valid_message() {
    let filter = Filter::all().attribute("http.route", "/nowhere");
    let data = encode(&two_traces(), &filter, LabelStyle::Otel);
    assert_eq!(rules::broken(&data), [""; 0], "{data:#?}");
    assert!(
        data.resource_profiles[0].scope_profiles[0].profiles[0]
            .samples
            .is_empty()
    );
}

#[test]
fn what_is_not_written_by_the_indices_is_lost_without_a_panic() {
    let mut broken = with_off_cpu();
    broken.mappings[0].end = 0;
    broken.locations[1].mapping = Some(99);
    broken.locations[2].frames[0].function = 55;
    broken.stacks[0].push(77);
    broken.contexts.truncate(1);
    let data = encode(&broken, &Filter::all(), LabelStyle::Otel);
    assert_eq!(rules::broken(&data), [""; 0], "{data:#?}");
}

#[test]
fn each_rule_refuses_what_breaks_it() {
    for (rule, _) in rules::RULES {
        let examples = mutations::MUTATIONS.iter().filter(|(name, _)| name == rule);
        assert!(examples.count() > 0, "no example breaks: {rule}");
    }
    for (index, (rule, mutate)) in mutations::MUTATIONS.iter().enumerate() {
        let mut data = encode(&with_off_cpu(), &Filter::all(), LabelStyle::Otel);
        mutate(&mut data);
        let broken = rules::broken(&data);
        assert!(
            broken.contains(rule),
            "example {index} does not break {rule}, but {broken:?}"
        );
    }
}

#[test]
fn what_a_message_says() {
    let data = encode(&rich(), &Filter::all(), LabelStyle::Otel);
    let resource = |index: usize| -> Vec<(String, String)> {
        let resource = data.resource_profiles[index].resource.as_ref().unwrap();
        let attributes = resource.attributes.iter();
        attributes
            .map(|attribute| {
                let value = attribute.value.as_ref().unwrap().value.as_ref().unwrap();
                let value = match value {
                    Value::StringValue(text) => text.clone(),
                    Value::IntValue(number) => number.to_string(),
                    other => panic!("{other:?}"),
                };
                (attribute.key.clone(), value)
            })
            .collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let first = [
        ("service.name", "shop"),
        ("container.id", "c0"),
        ("process.pid", "42"),
        ("process.executable.name", "app"),
        ("process.executable.path", "/opt/app"),
    ];
    assert_eq!(resource(0), pairs(&first));
    assert_eq!(
        resource(1)[1],
        ("service.name".to_owned(), "unknown_service:app".to_owned())
    );

    let scope = &data.resource_profiles[0].scope_profiles[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "ebpf_reader");
    let (on_cpu, off_cpu) = (&scope.profiles[0], &scope.profiles[1]);
    assert_eq!(
        (on_cpu.time_unix_nano, on_cpu.duration_nano),
        (1_700_000_000_000_000_000, 2_000_000_000)
    );
    assert_eq!((on_cpu.period, off_cpu.period), (10_000_000, 0));
    let dictionary = data.dictionary.as_ref().unwrap();
    let string = |index: i32| dictionary.string_table[usize::try_from(index).unwrap()].as_str();
    let kind = |kind: Option<proto::ValueType>| {
        (
            string(kind.unwrap().type_strindex),
            string(kind.unwrap().unit_strindex),
        )
    };
    assert_eq!(kind(on_cpu.sample_type), ("samples", "count"));
    assert_eq!(kind(on_cpu.period_type), ("cpu", "nanoseconds"));
    assert_eq!(kind(off_cpu.sample_type), ("off_cpu", "nanoseconds"));

    let attributes = |sample: &proto::Sample| -> Vec<(String, String)> {
        let indices = sample.attribute_indices.iter();
        indices
            .map(|&index| {
                let attribute = &dictionary.attribute_table[usize::try_from(index).unwrap()];
                let value = match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
                    Value::StringValue(text) => text.clone(),
                    Value::IntValue(number) => number.to_string(),
                    other => panic!("{other:?}"),
                };
                (string(attribute.key_strindex).to_owned(), value)
            })
            .collect()
    };
    let expected = [
        ("thread.name", "worker"),
        ("thread.id", "43"),
        ("http.route", "/slow"),
    ];
    assert_eq!(attributes(&on_cpu.samples[0]), pairs(&expected));
    assert!(
        attributes(&off_cpu.samples[0])
            .contains(&("thread.activity".to_owned(), "blocked".to_owned()))
    );
    let mut others = data.resource_profiles[1].scope_profiles[0].profiles[0]
        .samples
        .iter();
    let other = others
        .find(|sample| sample.attribute_indices.len() > 3)
        .unwrap();
    let expected = [
        ("thread.name", "worker"),
        ("thread.id", "43"),
        ("exported_thread.id", "not the thread's"),
        ("exported_", "nameless"),
        ("empty", ""),
    ];
    assert_eq!(attributes(other), pairs(&expected));

    let mappings = dictionary.mapping_table.iter().skip(1);
    let build_ids: Vec<_> = mappings
        .map(|mapping| {
            let attributes = mapping.attribute_indices.iter().map(|&index| {
                let attribute = &dictionary.attribute_table[usize::try_from(index).unwrap()];
                (
                    string(attribute.key_strindex),
                    attribute.value.clone().unwrap().value.unwrap(),
                )
            });
            (
                string(mapping.filename_strindex),
                attributes.collect::<Vec<_>>(),
            )
        })
        .collect();
    let id = Value::StringValue(BUILD_ID.to_owned());
    assert_eq!(
        build_ids,
        [
            ("/opt/app", vec![("process.executable.build_id.gnu", id)]),
            ("/opt/lib.so", vec![])
        ]
    );

    let link = &dictionary.link_table[usize::try_from(on_cpu.samples[0].link_index).unwrap()];
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    assert_eq!(
        (hex(&link.trace_id), hex(&link.span_id)),
        (TRACE.to_owned(), SPAN.to_owned())
    );
    let without_span =
        &dictionary.link_table[usize::try_from(on_cpu.samples[1].link_index).unwrap()];
    assert_eq!(without_span.span_id, [0; 8]);
    assert_eq!(on_cpu.samples[2].link_index, 0);

    let kinds: Vec<_> = dictionary
        .attribute_table
        .iter()
        .filter(|attribute| string(attribute.key_strindex) == "profile.frame.type")
        .map(|attribute| attribute.value.as_ref().unwrap().value.clone().unwrap())
        .collect();
    let text = |text: &str| Value::StringValue(text.to_owned());
    assert_eq!(kinds, [text("native"), text("kernel")]);
}
