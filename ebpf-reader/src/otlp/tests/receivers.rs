//! What receivers ask of a message beyond the data model, as their sources say.

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::*;

fn string(data: &proto::ProfilesData, index: i32) -> &str {
    let table = &data.dictionary.as_ref().unwrap().string_table;
    &table[usize::try_from(index).unwrap()]
}

fn profiles(data: &proto::ProfilesData) -> Vec<&proto::Profile> {
    let scopes = data
        .resource_profiles
        .iter()
        .flat_map(|r| &r.scope_profiles);
    scopes.flat_map(|scope| &scope.profiles).collect()
}

/// Type, unit, and those of the period, if there is one: what a profile is called by.
fn kind(data: &proto::ProfilesData, profile: &proto::Profile) -> String {
    let pair = |kind: Option<proto::ValueType>| {
        let kind = kind.unwrap_or_default();
        let (kind, unit) = (kind.type_strindex, kind.unit_strindex);
        format!("{}:{}", string(data, kind), string(data, unit))
    };
    let period = match profile.period {
        0 => ":".to_owned(),
        _ => pair(profile.period_type),
    };
    format!("{}:{period}", pair(profile.sample_type))
}

/// Names and values of a sample's attributes.
fn attributes(data: &proto::ProfilesData, sample: &proto::Sample) -> Vec<(String, Value)> {
    let table = &data.dictionary.as_ref().unwrap().attribute_table;
    let indices = sample.attribute_indices.iter();
    indices
        .map(|&index| {
            let attribute = &table[usize::try_from(index).unwrap()];
            let value = attribute.value.clone().unwrap().value.unwrap();
            (string(data, attribute.key_strindex).to_owned(), value)
        })
        .collect()
}

/// It knows time on the CPU and off it by the whole name, and calls other profiles by their period.
#[test]
fn pyroscope_knows_the_types() {
    for style in [LabelStyle::Otel, LabelStyle::Pyroscope] {
        let data = encode(&rich(), &Filter::all(), style);
        let kinds: Vec<_> = profiles(&data).iter().map(|p| kind(&data, p)).collect();
        let each = ["samples:count:cpu:nanoseconds", "off_cpu:nanoseconds::"];
        assert_eq!(kinds, each.repeat(2), "{style:?}");
    }
}

/// It refuses a message of which one profile has no type of period or no samples.
#[test]
fn parca_finds_a_period_in_each_profile() {
    let data = encode(&rich(), &Filter::all(), LabelStyle::Parca);
    let kinds: Vec<_> = profiles(&data).iter().map(|p| kind(&data, p)).collect();
    let each = [
        "samples:count:cpu:nanoseconds",
        "off_cpu:nanoseconds:samples:count",
    ];
    assert_eq!(kinds, each.repeat(2));
    for profile in profiles(&data) {
        assert!(profile.period_type.is_some() && profile.period > 0);
        assert!(!profile.samples.is_empty());
    }
}

/// It makes labels of text alone, and reads no links.
#[test]
fn parca_finds_all_it_needs_among_attributes_of_text() {
    let data = encode(&rich(), &Filter::all(), LabelStyle::Parca);
    let profile = profiles(&data)[0];
    let labels: Vec<_> = attributes(&data, &profile.samples[0])
        .into_iter()
        .map(|(name, value)| match value {
            Value::StringValue(text) => (name, text),
            other => panic!("{name} is no text: {other:?}"),
        })
        .collect();
    let expected = [
        ("thread_name", "worker"),
        ("thread_id", "43"),
        ("process_name", "app"),
        ("process_id", "42"),
        ("otel_traceid", TRACE),
        ("otel_spanid", SPAN),
        ("http_route", "/slow"),
    ];
    assert_eq!(
        labels,
        expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
    assert_ne!(profile.samples[0].link_index, 0);
}

/// Selectors of both know letters, digits and underscores.
#[test]
fn names_can_be_selected() {
    for style in [LabelStyle::Parca, LabelStyle::Pyroscope] {
        let data = encode(&rich(), &Filter::all(), style);
        let mut seen = 0;
        for sample in profiles(&data).iter().flat_map(|p| &p.samples) {
            for (name, _) in attributes(&data, sample) {
                let usable = |c: char| c.is_ascii_alphanumeric() || c == '_';
                assert!(name.chars().all(usable), "{style:?}: {name}");
                seen += usize::from(name == "thread_activity");
            }
        }
        assert!(seen > 0, "{style:?}");
    }
}
