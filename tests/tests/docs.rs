//! What the documents and sample files say is there and holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every `[text](target)` of a document that is not a web address.
fn links(document: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    for (at, _) in document.match_indices("](") {
        let text = document[..at].rsplit('[').next().unwrap_or_default();
        let target = document[at + 2..].split(')').next().unwrap_or_default();
        if !target.starts_with("http") {
            links.push((text.to_owned(), target.to_owned()));
        }
    }
    links
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        for (text, target) in links(&read(&repository().join(name))) {
            assert!(repository().join(&target).exists(), "{name} links [{text}] to {target}, which is not there");
        }
    }
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let document = read(&repository().join("ARCHITECTURE.md"));
    let invariants: Vec<&str> = document.split("\n\n").filter(|block| block.contains("Invariant:")).collect();
    assert!(!invariants.is_empty());
    for invariant in invariants {
        let links = links(invariant);
        assert!(!links.is_empty(), "nothing enforces: {invariant}");
        for (text, target) in links {
            let test = text.trim_matches('`');
            let source = read(&repository().join(&target));
            assert!(source.contains(&format!("fn {test}(")), "{target} has no test {test}");
        }
    }
}

/// SCREAMING_SNAKE_CASE of a name.
fn code(name: &str) -> String {
    let mut code = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !code.is_empty() {
            code.push('_');
        }
        code.push(letter.to_ascii_uppercase());
    }
    code
}

#[test]
fn every_reason_of_an_error_is_explained() {
    let source = read(&repository().join("agent/daemon/src/error.rs"));
    let reasons = source.split("pub enum Reason {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the enum");
    let names = reasons.lines().filter_map(|line| line.trim().strip_suffix(','));
    let mut codes: Vec<String> = names.map(code).collect();
    codes.sort();
    assert!(codes.len() > 20);
    let hullctl = std::env::current_exe().expect("this test").with_file_name("../hullctl");
    assert!(hullctl.exists(), "{} is missing: run `make build`", hullctl.display());
    let output = Command::new(&hullctl).arg("explain").output().expect("hullctl");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let explained: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(explained, codes);
}

/// The sample as it is, and with every commented key put to use.
#[test]
fn the_sample_configuration_is_right_and_shows_real_keys() {
    let sample = read(&repository().join("deploy/hulld.toml"));
    let is_key = |line: &&str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    assert!(sample.lines().filter(is_key).count() > 10);
    let full: String =
        sample.lines().map(|line| format!("{}\n", if is_key(&line) { &line[1..] } else { line })).collect();
    let hulld = std::env::current_exe().expect("this test").with_file_name("../hulld");
    assert!(hulld.exists(), "{} is missing: run `make build`", hulld.display());
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [("sample", &sample), ("full", &full)] {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("writing the configuration");
        let output = Command::new(&hulld).arg("--check-config").arg("--config").arg(&path).output().expect("hulld");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
