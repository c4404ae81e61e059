//! The page in a real browser: Debian's chromium, without a window.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Server;
use crate::writer::{CHECKOUT, SEARCH};

/// `None` where there is no browser.
fn browser() -> Option<PathBuf> {
    let names = ["/usr/bin/chromium", "/usr/bin/google-chrome"];
    let found = names.iter().map(Path::new).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: needs a browser (package chromium)");
    }
    found.map(Path::to_owned)
}

/// Opens a page, lets it load its data, and returns what it then consists of.
fn page(browser: &Path, url: &str, options: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
        ])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        // Time goes on as fast as requests are answered.
        .args([
            "--virtual-time-budget=4000",
            "--timeout=60000",
            "--window-size=1200,900",
        ])
        .args(options)
        .args(["--dump-dom", url])
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        page.contains("data-shown"),
        "the script did not run: {page}\n{errors}"
    );
    page
}

#[test]
fn the_page_shows_traces_and_the_flame_graph_of_one() {
    let (Some(browser), Some(server)) = (browser(), Server::start(&[])) else {
        return;
    };
    server.wait_for_traces();
    let url = |path: &str| format!("http://{}{path}", server.address());

    let list = page(&browser, &url("/"), &[]);
    for trace in [CHECKOUT, SEARCH] {
        assert!(list.contains(&format!("href=\"/trace/{trace}\"")), "{list}");
    }

    for (trace, own, other) in [
        (CHECKOUT, "handle_checkout", "handle_search"),
        (SEARCH, "handle_search", "handle_checkout"),
    ] {
        let flame = page(&browser, &url(&format!("/trace/{trace}")), &[]);
        assert!(flame.contains(&format!("trace {trace}")), "{flame}");
        let frames: Vec<&str> = flame
            .match_indices("class=\"frame ")
            .map(|(at, _)| &flame[at..])
            .collect();
        assert!(frames.len() > 3, "{flame}");
        assert!(flame.contains(own), "{flame}");
        assert!(!flame.contains(other), "{flame}");
    }

    // What a hostile program publishes is text.
    let routes = page(&browser, &url("/?by=http.route"), &[]);
    assert!(routes.contains("&lt;img src=x onerror="), "{routes}");
    assert!(!routes.contains("<img src=\"x\""), "{routes}");
    assert!(!routes.contains("<title>owned</title>"), "{routes}");
    assert!(routes.contains("/checkout"), "{routes}");
}

#[test]
fn a_wrong_address_is_told_on_the_page() {
    let (Some(browser), Some(server)) = (browser(), Server::start(&[])) else {
        return;
    };
    server.wait_for_traces();
    let url = format!("http://{}/trace/%3Cb%3Ex", server.address());
    let page = page(&browser, &url, &[]);
    assert!(
        page.contains("trace_id must be 32 hexadecimal digits"),
        "{page}"
    );
    assert!(page.contains("trace &lt;b&gt;x"), "{page}");
}

#[test]
fn a_token_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "a-secret-of-enough-length").unwrap();
    let token = ["--token-file", path.to_str().unwrap()];
    let (Some(browser), Some(server)) = (browser(), Server::start(&token)) else {
        return;
    };
    let page = page(&browser, &format!("http://{}/", server.address()), &[]);
    assert!(page.contains("<form id=\"token\">"), "{page}");
    assert!(page.contains("A token is needed."), "{page}");
}
