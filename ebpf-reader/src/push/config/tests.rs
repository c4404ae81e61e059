use std::collections::HashMap;

use super::*;

fn from(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::from_variables(|name| variables.get(name).map(|&value| value.to_owned()))
}

fn url(variables: &[(&str, &str)]) -> String {
    from(variables).unwrap().to_endpoint().unwrap().to_string()
}

#[test]
fn end_points_by_the_standard() {
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const EXACT: &str = "OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT";
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(url(&[]), "http://localhost:4318/v1development/profiles");
    assert_eq!(
        url(&[(BASE, "http://c:4318")]),
        "http://c:4318/v1development/profiles"
    );
    assert_eq!(
        url(&[(BASE, "https://c/otlp/")]),
        "https://c:443/otlp/v1development/profiles"
    );
    assert_eq!(
        url(&[(BASE, "http://c/otlp")]),
        "http://c:80/otlp/v1development/profiles"
    );
    assert_eq!(url(&[(EXACT, "http://c:1/x")]), "http://c:1/x");
    assert_eq!(url(&[(EXACT, "http://c:1")]), "http://c:1/");
    assert_eq!(
        url(&[(BASE, "http://b"), (EXACT, "http://c:1/x")]),
        "http://c:1/x"
    );
    assert_eq!(
        url(&[(BASE, "http://b:2"), (EXACT, " ")]),
        "http://b:2/v1development/profiles"
    );
    let path = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
    assert_eq!(url(&[GRPC]), format!("http://localhost:4317{path}"));
    assert_eq!(
        url(&[GRPC, (BASE, "https://c:7/x")]),
        format!("https://c:7{path}")
    );
    assert_eq!(url(&[GRPC, (BASE, "c:7")]), format!("https://c:7{path}"));
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    assert_eq!(
        url(&[GRPC, insecure, (BASE, "c:7")]),
        format!("http://c:7{path}")
    );
    assert_eq!(
        url(&[GRPC, (BASE, "http://[::1]:7")]),
        format!("http://[::1]:7{path}")
    );
}

#[test]
fn wrong_end_points() {
    for endpoint in [
        "c:4318",
        "ftp://c",
        "http://",
        "http://c:99999",
        "http://u:p@c",
        "no url",
    ] {
        let error = from(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)])
            .unwrap()
            .to_endpoint()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("expected a URL like http://host:4318"),
            "{endpoint}: {error}"
        );
        assert!(!error.contains("u:p"), "{error}");
    }
}

#[test]
fn variables_for_profiles_come_first() {
    let config = from(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_PROFILES_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_PROFILES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/a"),
        ("OTEL_EXPORTER_OTLP_PROFILES_CERTIFICATE", "/b"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        (
            "OTEL_EXPORTER_OTLP_PROFILES_HEADERS",
            "b=2, c = x%20y%2Cz ,",
        ),
    ])
    .unwrap();
    assert_eq!(config.protocol, Protocol::HttpProtobuf);
    assert_eq!(config.timeout, Duration::from_millis(2500));
    assert_eq!(config.compression, Compression::None);
    assert_eq!(config.ca_file, Some("/b".into()));
    assert!(!config.headers.contains_key("a"));
    assert_eq!(config.headers["b"], "2");
    assert_eq!(config.headers["c"], "x y,z");
}

#[test]
fn what_cannot_be_understood_is_named() {
    for (name, value) in [
        ("PROTOCOL", "http/json"),
        ("TIMEOUT", "10s"),
        ("TIMEOUT", "0"),
        ("COMPRESSION", "zstd"),
    ] {
        let name = format!("OTEL_EXPORTER_OTLP_{name}");
        let error = from(&[(&name, value)]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{name} cannot be {value:?}: expected ")),
            "{error}"
        );
    }
    for headers in [
        "secret",
        "a b=secret",
        "a=secret%0a",
        "host=secret",
        "a=secret%7f",
    ] {
        let error = from(&[("OTEL_EXPORTER_OTLP_HEADERS", headers)]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let config = Config::new().bearer_token("secret\n").unwrap();
    assert_eq!(config.headers["authorization"], "Bearer secret");
    assert!(!format!("{config:?}").contains("secret"));
    assert!(Config::new().bearer_token("a\nb").is_err());
}

#[test]
fn percents() {
    assert_eq!(percent_decoded("a%20b%"), "a b%");
    assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    assert_eq!(percent_decoded("%é+1"), "%é+1");
}
