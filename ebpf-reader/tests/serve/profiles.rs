//! Profiles in pprof's format, of the next seconds and of the last ones, read back by `go tool pprof` too.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use ebpf_reader::pprof::proto;
use flate2::read::GzDecoder;
use prost::Message;

use crate::client::Answer;
use crate::server::Server;
use crate::writer::{CHECKOUT, SEARCH};

fn decode(answer: &Answer) -> proto::Profile {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut bytes = Vec::new();
    GzDecoder::new(&answer.body[..])
        .read_to_end(&mut bytes)
        .unwrap();
    proto::Profile::decode(&bytes[..]).unwrap()
}

/// Trace ids of the samples.
fn traces(profile: &proto::Profile) -> Vec<&str> {
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let mut traces: Vec<&str> = profile
        .sample
        .iter()
        .filter_map(|sample| {
            let mut labels = sample.label.iter();
            let label = labels.find(|label| text(label.key) == "trace_id")?;
            Some(text(label.str))
        })
        .collect();
    traces.sort_unstable();
    traces.dedup();
    traces
}

#[test]
fn the_next_seconds() {
    let Some(server) = Server::start(&["--window", "600"]) else {
        return;
    };
    let begin = Instant::now();
    let profile = decode(&server.get("/debug/pprof/profile?seconds=2"));
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    // Just the seconds that were asked for, though a window is ten minutes long.
    let seconds = profile.duration_nanos as f64 / 1e9;
    assert!(
        (1.9..took.as_secs_f64() + 0.1).contains(&seconds),
        "{seconds}"
    );
    assert_eq!(traces(&profile), [CHECKOUT, SEARCH]);
    let one = decode(&server.get(&format!("/debug/pprof/profile?seconds=1&trace_id={SEARCH}")));
    assert_eq!(traces(&one), [SEARCH]);
    let one =
        decode(&server.get("/debug/pprof/profile?seconds=1&attribute=http.route%3D%2Fcheckout"));
    assert_eq!(traces(&one), [CHECKOUT]);
}

#[test]
fn the_last_seconds() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    server.wait_for_traces();
    for path in [
        "/debug/pprof/past?seconds=60",
        "/debug/pprof/profile?seconds=60&past=1",
    ] {
        let begin = Instant::now();
        let profile = decode(&server.get(path));
        assert!(begin.elapsed() < Duration::from_secs(50));
        assert_eq!(traces(&profile), [CHECKOUT, SEARCH]);
    }
    let parca = decode(&server.get("/debug/pprof/past?seconds=60&labels=parca"));
    assert!(parca.string_table.iter().any(|text| text == "http_route"));
}

#[test]
fn go_tool_pprof_asks_for_it() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    if Command::new("go").arg("version").output().is_err() {
        println!("skipped: needs go, for go tool pprof");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("go")
        .args(["tool", "pprof", "-top", "-seconds", "2", "-timeout", "120"])
        .arg(format!("-tagfocus=trace_id={CHECKOUT}"))
        .arg(format!("http://{}/debug/pprof/profile", server.address()))
        .env("PPROF_TMPDIR", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("handle_checkout"), "{text}");
    assert!(!text.contains("handle_search"), "{text}");
}
