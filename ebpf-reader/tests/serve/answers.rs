//! What the page's own interface answers, and `/metrics`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::client::encoded;
use crate::server::Server;
use crate::writer::{CHECKOUT, HOSTILE_ROUTE, SEARCH};

#[test]
fn usage_by_trace_and_by_attribute() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    server.wait_for_traces();
    // Enough for the proportion to be plain.
    let usage = server.wait_for("/api/usage?by=trace", |usage| {
        usage["total"]["samples"].as_u64().unwrap() > 300
    });
    let groups = usage["groups"].as_array().unwrap();
    let names: Vec<&str> = groups
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, [CHECKOUT, SEARCH]);
    let cpu = |index: usize| groups[index]["cpu_ns"].as_u64().unwrap() as f64;
    let ratio = cpu(0) / cpu(1);
    assert!((1.3..3.0).contains(&ratio), "{ratio}");

    let routes = server.get("/api/usage?by=http.route").json();
    assert_eq!(routes["groups"][0]["name"], "/checkout");
    assert_eq!(routes["groups"][1]["name"], HOSTILE_ROUTE);
    let found = server
        .get(&format!("/api/usage?search={}", &SEARCH[..5]))
        .json();
    assert_eq!(found["count"], 1);
    assert_eq!(found["groups"][0]["name"], SEARCH);
    let one = server.get("/api/usage?limit=1").json();
    assert_eq!(
        (
            one["count"].as_u64(),
            one["groups"].as_array().unwrap().len()
        ),
        (Some(2), 1)
    );
    let services = server.get("/api/usage?by=service").json();
    assert_eq!(services["groups"][0]["name"], "serve-test");
    let labels = server.get("/api/labels").json();
    assert_eq!(labels, serde_json::json!(["http.route"]));

    let filtered = server
        .get(&format!(
            "/api/usage?attribute=http.route%3D{}",
            encoded(HOSTILE_ROUTE)
        ))
        .json();
    assert_eq!(filtered["count"], 1);
    assert_eq!(filtered["groups"][0]["name"], SEARCH);
}

#[test]
fn time_off_the_cpu() {
    let Some(server) = Server::start(&["--off-cpu"]) else {
        return;
    };
    let usage = server.wait_for("/api/usage?by=http.route", |usage| {
        usage["count"] == 2 && usage["total"]["samples"].as_u64().unwrap() > 100
    });
    let groups = usage["groups"].as_array().unwrap();
    let find = |name: &str| groups.iter().find(|group| group["name"] == name).unwrap();
    let blocked = |name: &str| find(name)["blocked_ns"].as_u64().unwrap() as f64;
    // It sleeps 8 ms for each 6 ms on the CPU; sleeps take longer, never shorter.
    let ratio = blocked("/checkout") / find("/checkout")["cpu_ns"].as_u64().unwrap() as f64;
    assert!(ratio > 0.9, "{ratio}: {usage}");
    assert!(
        blocked(HOSTILE_ROUTE) < blocked("/checkout") / 4.0,
        "{usage}"
    );
    let filter = "attribute=http.route%3D%2Fcheckout";
    let flame = server
        .get(&format!("/api/flame?activity=off-cpu&{filter}"))
        .json();
    assert!(
        flame["names"].to_string().contains("handle_checkout"),
        "{flame}"
    );
    assert!(flame["names"].to_string().contains("sleep"), "{flame}");
}

#[test]
fn flame_graphs_by_trace() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    server.wait_for_traces();
    for (trace, own, other) in [
        (CHECKOUT, "handle_checkout", "handle_search"),
        (SEARCH, "handle_search", "handle_checkout"),
    ] {
        let flame = server.get(&format!("/api/flame?trace_id={trace}")).json();
        let names = flame["names"].to_string();
        assert!(names.contains(own), "{names}");
        assert!(!names.contains(other), "{names}");
        assert!(flame["root"][1].as_u64().unwrap() > 0);
    }
    let none = server
        .get(&format!("/api/flame?trace_id={}", "3".repeat(32)))
        .json();
    assert_eq!(none["root"], serde_json::json!([0, 0, 0]));
}

#[test]
fn the_state_of_the_server() {
    let Some(server) = Server::start(&["--keep", "2", "--memory", "5"]) else {
        return;
    };
    let status = server.wait_for("/api/status", |status| {
        status["samples"].as_u64().unwrap() > 50
    });
    assert_eq!(status["keep_seconds"], 120);
    assert_eq!(status["ring_limit_bytes"], 5 << 20);
    assert_eq!(status["frequency_hz"], 499);
    assert_eq!(status["targets"], 1);
    assert!(status["ring_bytes"].as_u64().unwrap() > 0);
    assert_eq!(status["push"], serde_json::Value::Null);
    assert_eq!(server.get("/healthz").text(), "ok\n");
    assert!(server.stop().success());
}

#[test]
fn metrics_for_prometheus() {
    let Some(server) = Server::start(&["--push=http://127.0.0.1:9"]) else {
        return;
    };
    server.wait_for("/api/status", |status| {
        status["push"]["last_error"].is_string()
    });
    let answer = server.get("/metrics");
    assert!(answer.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let value = |name: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {text}"))
            .parse()
            .unwrap()
    };
    assert!(value("ebpf_reader_samples_total") > 0);
    assert!(value("ebpf_reader_samples_with_context_total") > 0);
    assert_eq!(value("ebpf_reader_targets"), 1);
    assert!(value("ebpf_reader_ring_bytes") > 0);
    assert!(value("ebpf_reader_push_failures_total{kind=\"attempt\"}") > 0);
    let resident = value("process_resident_memory_bytes");
    assert!((5_000_000..500_000_000).contains(&resident), "{resident}");

    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        println!("skipped: needs promtool (package prometheus)");
        return;
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}\n{text}"
    );
}

#[test]
fn mistakes_are_told_in_one_line() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    for (path, status, text) in [
        (
            "/api/usage?trace_id=x",
            400,
            "trace_id must be 32 hexadecimal digits\n",
        ),
        (
            "/api/usage?traceid=x",
            400,
            "there is no parameter traceid\n",
        ),
        (
            "/api/flame?attribute=x",
            400,
            "attribute must be NAME=VALUE\n",
        ),
        (
            "/debug/pprof/profile?seconds=901",
            400,
            "seconds must be at most 900: samples are kept for that long (--keep)\n",
        ),
        ("/nothing", 404, "there is nothing here\n"),
        ("/api/%3Cscript%3E", 404, "there is nothing here\n"),
    ] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (status, text),
            "{path}"
        );
        assert!(answer.headers["content-type"].starts_with("text/plain"));
    }
}

#[test]
fn the_page_allows_itself_nothing_from_elsewhere() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    for path in [
        "/",
        "/trace/11111111111111111111111111111111",
        "/api/status",
        "/nothing",
    ] {
        let answer = server.get(path);
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; "),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let (page, script) = (server.get("/").text(), server.get("/page.js").text());
    for text in [&page, &script, &server.get("/page.css").text()] {
        assert!(!text.contains("https://") && !text.contains("http://"));
    }
    // What data could be parsed as markup by.
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
        "createContextualFragment",
    ] {
        assert!(!script.contains(way), "{way}");
    }
    assert!(!page.contains("style=") && !page.contains("onclick"));
}
