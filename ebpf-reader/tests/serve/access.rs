//! Who may ask.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::client::{connect, exchange};
use crate::server::Server;

const SECRET: &str = "a secret of enough length".trim_ascii();

#[test]
fn other_hosts_names_are_refused() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    for (host, status) in [
        (Some("evil.example"), 421),
        (Some("127.0.0.1.evil.example"), 421),
        (None, 421),
        (Some("localhost"), 200),
        (Some("[::1]:99"), 200),
    ] {
        let line = host.map(|host| format!("Host: {host}"));
        let mut lines = vec!["GET /api/status HTTP/1.1"];
        lines.extend(line.as_deref());
        let answer = exchange(connect(server.address()), &lines).unwrap();
        // hyper itself refuses a request without a host in HTTP/1.1, or we do.
        assert!(
            answer.status == status || (host.is_none() && answer.status == 400),
            "{host:?}"
        );
    }
    let answer = exchange(
        connect(server.address()),
        &[
            "POST /api/status HTTP/1.1",
            "Host: localhost",
            "Content-Length: 0",
        ],
    );
    assert_eq!(answer.unwrap().status, 405);
}

#[test]
fn other_addresses_need_a_token() {
    let output = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["serve", "--listen", "0.0.0.0:0", "-p", "1"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.starts_with(
            "error: no permission to listen at 0.0.0.0:0, where others can connect: needs a secret"
        ),
        "{error}"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let token = SECRET.replace(' ', "-");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    let Some(server) = Server::start(&[
        "--listen",
        "0.0.0.0:0",
        "--token-file",
        path.to_str().unwrap(),
    ]) else {
        return;
    };
    let port = server.address().rsplit_once(':').unwrap().1;
    let get = |path: &str, header: &str| {
        let request = format!("GET {path} HTTP/1.1");
        let lines = [request.as_str(), "Host: some.host", header];
        exchange(connect(&format!("127.0.0.1:{port}")), &lines).unwrap()
    };
    let right = format!("Authorization: Bearer {token}");
    for path in [
        "/api/status",
        "/api/usage",
        "/metrics",
        "/debug/pprof/past?seconds=1",
    ] {
        let refused = get(path, "Authorization: Bearer wrong");
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        assert_eq!(get(path, "Accept: */*").status, 401, "{path}");
        assert_eq!(get(path, &right).status, 200, "{path}");
    }
    // The page has to load before it can ask for the token; it holds no data.
    for path in [
        "/",
        "/page.js",
        "/healthz",
        "/trace/11111111111111111111111111111111",
    ] {
        assert_eq!(get(path, "Accept: */*").status, 200, "{path}");
    }
    let refused = get("/metrics", &right).text();
    assert!(
        refused.contains("ebpf_reader_http_requests_refused_total 8\n"),
        "{refused}"
    );
}

#[test]
fn a_unix_socket_is_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // One that an earlier run has left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    let Some(server) = Server::start(&["--listen", &listen]) else {
        return;
    };
    assert_eq!(server.address(), listen);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = UnixStream::connect(&path).unwrap();
    let answer = exchange(stream, &["GET /api/status HTTP/1.1", "Host: anything"]).unwrap();
    assert_eq!(answer.status, 200);

    // A second server does not take it over.
    let output = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["serve", "--listen", &listen, "-p", "1"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("another program listens there"), "{error}");
    assert!(server.stop().success());
    assert!(!path.exists());
}

#[test]
fn files_are_not_replaced_by_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "kept").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
        .args(["serve", "-p", "1", "--listen"])
        .arg(format!("unix:{}", path.display()))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("there is a file that is no socket"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
}
