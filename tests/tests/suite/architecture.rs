//! The rules of ARCHITECTURE.md that a compiler does not keep: who imports whom within a crate, where unsafe code is, how long a
//! file is.

use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Rust sources below a directory of the workspace, with their paths relative to it.
fn sources(directory: &str) -> Vec<(String, String)> {
    let (root, mut found) = (workspace(), Vec::new());
    let mut stack = vec![root.join(directory)];
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            let skipped = path.file_name().is_some_and(|name| name == "target" || name == ".git" || name == ".venv");
            if !skipped {
                stack.extend(fs::read_dir(&path).expect("reading a directory").flatten().map(|entry| entry.path()));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&root).expect("below the workspace").display().to_string();
            found.push((name, fs::read_to_string(&path).expect("reading a source")));
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

/// Lines of code: without comments, and without the tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]").filter(|line| !line.trim_start().starts_with("//"))
}

/// The files below `directory`, but not those below `except`, that mention one of `words` in their code.
fn mentions(directory: &str, except: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources(directory) {
        if except.iter().any(|path| name.starts_with(path)) {
            continue;
        }
        for line in code(&text) {
            if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                found.push(format!("{name}: {word}"));
            }
        }
    }
    found
}

const DAEMON: &str = "agent/daemon/src";

#[test]
fn only_service_sees_the_api_s_types() {
    assert_eq!(
        mentions(DAEMON, &["agent/daemon/src/service", "agent/daemon/src/app.rs"], &["hull_proto"]),
        Vec::<String>::new()
    );
}

#[test]
fn parts_of_the_daemon_import_downwards_only() {
    // {service, exposition} -> lifecycle -> {runtime, images, network, stats, events, store, metrics, traces}; only app.rs sees all.
    // What a user asked for, the plain data of lifecycle/config.rs, is known to whoever carries it out.
    let parts = [
        "service",
        "exposition",
        "lifecycle",
        "runtime",
        "images",
        "network",
        "stats",
        "events",
        "store",
        "metrics",
        "traces",
    ];
    let allowed: [(&str, &[&str]); 11] = [
        ("service", &["lifecycle", "runtime", "images", "network", "stats", "events", "store", "metrics", "traces"]),
        ("exposition", &["lifecycle", "runtime", "images", "network", "stats", "events", "store", "metrics", "traces"]),
        ("lifecycle", &["runtime", "images", "network", "stats", "events", "store", "metrics", "traces"]),
        ("runtime", &[]),
        ("images", &["events", "store"]),
        ("network", &["runtime", "store"]),
        ("stats", &["runtime"]),
        ("events", &["store"]),
        ("store", &[]),
        ("metrics", &[]),
        ("traces", &[]),
    ];
    let mut wrong = Vec::new();
    for (part, below) in allowed {
        let directory = format!("{DAEMON}/{part}");
        if !workspace().join(&directory).exists() {
            continue;
        }
        for (name, text) in sources(&directory) {
            if name.contains("tests") {
                continue;
            }
            for line in code(&text).filter(|line| !line.contains("crate::lifecycle::config")) {
                let other = parts.iter().chain(&["app"]).find(|other| line.contains(&format!("crate::{other}")));
                if let Some(other) = other.filter(|other| **other != part && !below.contains(other)) {
                    wrong.push(format!("{name}: crate::{other}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_counts_knows_nothing_of_who_asks() {
    let protocols = ["http", "hyper", "tonic", "tower", "tokio"];
    assert_eq!(mentions("agent/daemon/src/metrics", &[], &protocols), Vec::<String>::new());
    assert_eq!(mentions("agent/daemon/src/traces", &[], &["tonic::", "hyper", "hull_proto"]), Vec::<String>::new());
    assert_eq!(mentions("agent/daemon/src/exposition", &[], &["tonic::", "hull_proto"]), Vec::<String>::new());
}

#[test]
fn the_shim_s_system_calls_are_the_only_unsafe_code_of_the_product() {
    let allowed =
        ["agent/shim/src/sys", "agent/shim/tests", "tests/probe/src/sys.rs", "tests/tests/suite/architecture.rs"];
    let mut found = Vec::new();
    for directory in ["agent", "ctl", "proto", "tests"] {
        found.extend(mentions(directory, &allowed, &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_shim_has_no_threads_and_no_runtime() {
    assert_eq!(
        mentions("agent/shim/src", &[], &["std::thread::spawn", "thread::Builder", "tokio::", "async fn"]),
        Vec::<String>::new()
    );
}

#[test]
fn main_sees_setup_and_monitor_and_those_see_sys() {
    let wrong = [
        mentions("agent/shim/src/sys", &[], &["crate::setup", "crate::monitor"]),
        mentions("agent/shim/src/setup", &[], &["crate::monitor"]),
    ];
    assert_eq!(wrong.concat(), Vec::<String>::new());
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let mut long = Vec::new();
    for directory in ["agent", "ctl", "proto", "tests"] {
        for (name, text) in sources(directory) {
            // A table of tests may be long; a part of the product may not.
            let limit = if name.starts_with("tests/tests/") { 700 } else { 500 };
            if text.lines().count() > limit {
                long.push(format!("{name}: {} lines", text.lines().count()));
            }
        }
    }
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), "unimplemented!(", "todo!("];
    let mut found = Vec::new();
    for directory in ["agent", "ctl", "proto", "tests"] {
        for (name, text) in sources(directory) {
            if name == "tests/tests/suite/architecture.rs" {
                continue;
            }
            let word = words.iter().find(|word| text.contains(*word));
            found.extend(word.map(|word| format!("{name}: {word}")));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_main_file_of_the_daemon_is_under_80_lines() {
    let text = fs::read_to_string(workspace().join(DAEMON).join("main.rs")).expect("main.rs");
    assert!(text.lines().count() < 80, "{}", text.lines().count());
}

#[test]
fn the_static_shim_is_small() {
    let path = hull_tests::harness::shim();
    let size = fs::metadata(&path).expect("the shim").len();
    assert!(size < 1_500_000, "{size} bytes");
    let program = fs::read(&path).expect("reading the shim");
    assert!(!program.windows(8).any(|window| window == b"/ld-linu"), "the shim is not static");
}
