use std::fs;

use proptest::prelude::*;

use super::*;
use crate::label_style::LabelStyle;
use crate::output::Format;
use crate::profile::tests::{two_traces, with_off_cpu};
use crate::profile::{By, Filter};

fn written(profile: &Profile, format: Format, style: LabelStyle) -> Vec<u8> {
    let mut bytes = Vec::new();
    format
        .write(profile, &Filter::all(), style, &mut bytes)
        .unwrap();
    bytes
}

fn read_back(bytes: &[u8], name: &str) -> Result<Profile, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path)
}

/// A profile whose every number is in a file.
fn original() -> Profile {
    let mut profile = with_off_cpu();
    profile.processes[0].context = Some(crate::process_context::ProcessContext {
        resource: vec![("service.name".to_owned(), "shop".to_owned())],
        ..Default::default()
    });
    profile
}

#[test]
fn what_was_written_is_read_back() {
    let original = original();
    for style in LabelStyle::ALL {
        for (format, name) in [
            (Format::Pprof, "x.pb.gz"),
            (Format::Otlp, "x.otlp"),
            (Format::OtlpCompressed, "x.otlp.gz"),
        ] {
            let read = read_back(&written(&original, format, style), name).unwrap();
            let what = format!("{style:?} {format:?}");
            assert_eq!(read.traces(), original.traces(), "{what}");
            assert_eq!(read.spans(), original.spans(), "{what}");
            let (total, expected) = (read.total(), original.total());
            assert_eq!(
                (total.samples, total.cpu_ns),
                (expected.samples, expected.cpu_ns),
                "{what}"
            );
            assert_eq!(total.blocked_ns, expected.blocked_ns, "{what}");
            assert_eq!(total.preempted_ns, expected.preempted_ns, "{what}");
            assert_eq!(read.by_label(&style.label("http.route")).len(), 1, "{what}");
            let (services, rest) = read.usage_by(&By::parse("service"));
            assert_eq!(
                (services[0].name.as_str(), rest.samples),
                ("shop", 0),
                "{what}"
            );
            assert_eq!(
                (read.started, read.duration),
                (original.started, original.duration)
            );
            assert_eq!(read.period_ns, original.period_ns);
            let folded = |profile: &Profile| crate::flame::folded(profile, &Filter::all());
            assert_eq!(folded(&read), folded(&original), "{what}");
            assert_eq!(
                (read.threads[0].tid, read.processes[0].pid),
                (43, 42),
                "{what}"
            );
            assert_eq!(read.threads.len(), 1, "{what}");
            let build_ids = |profile: &Profile| -> Vec<_> {
                let mappings = profile.mappings.iter().filter(|it| !it.name.is_empty());
                mappings
                    .map(|it| (it.name.clone(), it.build_id.clone()))
                    .collect()
            };
            assert_eq!(build_ids(&read), build_ids(&original), "{what}");
            assert!(original.mappings[0].build_id.is_some());
        }
    }
}

#[test]
fn what_is_no_profile_is_refused_in_one_line() {
    for (bytes, name, expected) in [
        (
            &b"no profile at all"[..],
            "x.pb.gz",
            "not a profile in pprof's format",
        ),
        (
            b"no profile at all",
            "x.otlp",
            "not a profile in OpenTelemetry's format",
        ),
        (b"", "x.pb.gz", "no CPU time"),
        (b"", "x.otlp", "no CPU time"),
        (b"\x1f\x8b broken", "x.pb.gz", "cannot read"),
    ] {
        let error = read_back(bytes, name).unwrap_err().one_line();
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
    let missing = read(Path::new("/missing.pb.gz")).unwrap_err().one_line();
    assert!(
        missing.starts_with("cannot read /missing.pb.gz: No such file"),
        "{missing}"
    );
}

#[test]
fn a_file_cannot_grow_without_end() {
    let mut bytes = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..129 {
        io::Write::write_all(&mut encoder, &zeros).unwrap();
    }
    encoder.finish().unwrap();
    let error = read_back(&bytes, "x.pb.gz").unwrap_err().one_line();
    assert!(error.ends_with("it is larger than 128 MiB"), "{error}");
}

/// Go's compiler has an id of its own making; what is no number is not taken for one.
#[test]
fn a_build_id_that_is_no_number_is_none() {
    use crate::pprof::proto;
    let mut message = crate::pprof::encode(&original(), &Filter::all(), LabelStyle::Otel);
    let id = |message: &proto::Profile| {
        let profile = pprof::decode(&prost::Message::encode_to_vec(message)).unwrap();
        profile.mappings[0].build_id.clone()
    };
    assert!(id(&message).is_some());
    let at = usize::try_from(message.mapping[0].build_id).unwrap();
    for text in ["foh3mEXu7BLZ/kATcXlYV/x8hM", "abc", &"ab".repeat(65)] {
        text.clone_into(&mut message.string_table[at]);
        assert_eq!(id(&message), None);
    }
    for index in [-1, 999, i64::MIN] {
        message.mapping[0].build_id = index;
        assert_eq!(id(&message), None);
    }
}

#[test]
fn other_writers_units_and_types() {
    use crate::pprof::proto;
    use prost::Message as _;
    let strings = [
        "",
        "samples",
        "count",
        "cpu",
        "milliseconds",
        "space",
        "bytes",
    ];
    let kind = |r#type, unit| proto::ValueType { r#type, unit };
    let mut message = proto::Profile {
        string_table: strings.map(str::to_owned).to_vec(),
        sample_type: vec![kind(1, 2), kind(3, 4)],
        sample: vec![proto::Sample {
            value: vec![3, 30],
            ..Default::default()
        }],
        ..Default::default()
    };
    let total = |message: &proto::Profile| {
        pprof::decode(&message.encode_to_vec()).map(|profile| profile.total())
    };
    assert_eq!(total(&message).unwrap().cpu_ns, 30_000_000);
    // Only samples, and what one of them stands for.
    message.sample_type.truncate(1);
    message.period_type = Some(kind(3, 4));
    message.period = 10;
    assert_eq!(total(&message).unwrap().cpu_ns, 30_000_000);
    message.sample_type = vec![kind(5, 6)];
    assert!(total(&message).unwrap_err().contains("no CPU time"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Files with a few wrong bytes are refused or read; either way everything that shows profiles survives them.
    #[test]
    fn broken_files_break_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        in_otlp in any::<bool>(),
        all in any::<bool>(),
    ) {
        let mut bytes = match in_otlp {
            true => written(&original(), Format::Otlp, LabelStyle::Otel),
            false => prost::Message::encode_to_vec(&crate::pprof::encode(&original(), &Filter::all(), LabelStyle::Otel)),
        };
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if !all {
            bytes.truncate(cut.index(bytes.len()));
        }
        let read = if in_otlp { otlp::decode(&bytes) } else { pprof::decode(&bytes) };
        if let Ok(profile) = read {
            let mut out = Vec::new();
            for format in [Format::Pprof, Format::Otlp, Format::Svg, Format::Folded, Format::Json] {
                format.write(&profile, &Filter::all(), LabelStyle::Parca, &mut out).unwrap();
            }
            let _ = crate::report::Table::new(&profile).to_string();
            let _ = crate::report::Coverage::new(&profile).to_string();
            let _ = crate::diff::Diff::new(&profile, &two_traces()).to_string();
            let _ = Profile::merge(&[&profile, &two_traces()]);
        }
    }
}
