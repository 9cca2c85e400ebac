//! Environment entries and labels, from flags and files.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Largest file of entries that is read.
const MAX_FILE: u64 = 1 << 20;

/// Entries of the files, then those of the flags: later ones win. A bare NAME takes the caller's value, and is left out
/// where the caller has none.
pub(crate) fn environment(files: &[PathBuf], entries: &[String]) -> Result<Vec<String>> {
    environment_of(files, entries, |name| std::env::var(name).ok())
}

fn environment_of(files: &[PathBuf], entries: &[String], own: impl Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for (line, entry) in lines(file)? {
            let name = entry.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(Error::new(format!("{}:{line}: not a NAME=VALUE", file.display())));
            }
            all.extend(complete(&entry, &own));
        }
    }
    for entry in entries {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::new(format!("--env {entry}: expected NAME=VALUE or NAME")));
        }
        all.extend(complete(entry, &own));
    }
    Ok(all)
}

fn complete(entry: &str, own: impl Fn(&str) -> Option<String>) -> Option<String> {
    if entry.contains('=') {
        return Some(entry.to_owned());
    }
    own(entry).map(|value| format!("{entry}={value}"))
}

/// Labels of the files, then those of the flags: later ones win. A bare KEY has an empty value.
pub(crate) fn labels(files: &[PathBuf], labels: &[String]) -> Result<HashMap<String, String>> {
    let mut all = HashMap::new();
    for file in files {
        for (_, text) in lines(file)? {
            all.extend([label(&text)?]);
        }
    }
    for text in labels {
        all.extend([label(text)?]);
    }
    Ok(all)
}

fn label(text: &str) -> Result<(String, String)> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Error::new(format!("--label {text}: expected KEY[=VALUE]"))),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    }
}

/// Lines that are neither empty nor comments, with their numbers.
fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let text = read(path)?;
    let numbered =
        text.trim_start_matches('\u{feff}').lines().enumerate().map(|(at, line)| (at + 1, line.trim_start()));
    Ok(numbered
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| (number, line.to_owned()))
        .collect())
}

/// A text file of at most 1 MiB.
pub(crate) fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    read.map_err(|error| Error::file(path, &error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::new(format!("{}: larger than 1 MiB", path.display())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("file");
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn files_come_before_flags_and_names_take_the_callers_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "# comment\n\n  A=1\nB= two words \nHOME\nUNSET\n");
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let got = environment_of(&[path], &["A=2".into(), "UNSET".into(), "E=".into()], own).unwrap();
        assert_eq!(got, ["A=1", "B= two words ", "HOME=/root", "A=2", "E="]);
    }

    #[test]
    fn names_with_blanks_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "A=1\nnot good=1\n");
        assert!(environment(&[path], &[]).unwrap_err().to_string().contains("file:2:"));
        assert!(environment(&[], &["=x".into()]).is_err());
        assert!(environment(&["/nonexistent".into()], &[]).is_err());
    }

    #[test]
    fn large_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, &"#".repeat((1 << 20) + 1));
        assert!(environment(&[path], &[]).unwrap_err().to_string().contains("1 MiB"));
    }

    #[test]
    fn labels_later_ones_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "a=1\nb\n");
        let got = labels(&[path], &["a=x=y".into()]).unwrap();
        assert_eq!((got["a"].as_str(), got["b"].as_str()), ("x=y", ""));
        assert!(labels(&[], &["=v".into()]).is_err());
    }
}
