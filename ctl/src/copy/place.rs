//! Where a copy goes: the same for both directions, and as Docker decides it.

use crate::error::{Error, Result};

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Its name; "." where what is in a directory is copied, and not the directory.
    pub(crate) name: &'a str,
    pub(crate) is_directory: bool,
}

/// What was named as the target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) path: &'a str,
    /// What is there, with links followed; `None`: nothing.
    pub(crate) is_directory: Option<bool>,
}

/// Where the source goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// A directory that has to be there.
    pub(crate) directory: String,
    /// The source's name in it; ".": what is in the source goes into the directory itself.
    pub(crate) name: String,
}

/// Decides it.
pub(crate) fn place(source: Source<'_>, destination: Destination<'_>) -> Result<Place> {
    let Destination { path, is_directory } = destination;
    let wrong = |problem: &str| Err(Error::new(format!("{path}: {problem}")));
    let into = |directory: &str, name: &str| Ok(Place { directory: directory.to_owned(), name: name.to_owned() });
    let (above, name) = split(path);
    match (is_directory, source.is_directory) {
        (Some(true), _) => into(path, source.name),
        (Some(false), true) => wrong("it is a file, and a directory cannot be copied to it"),
        (Some(false), false) if of_directory(path) => wrong("it is not a directory"),
        (None, true) if ends_in_dot(path) => wrong("there is no such directory"),
        (None, false) if of_directory(path) => wrong("there is no such directory"),
        (Some(false) | None, _) => into(above, name),
    }
}

fn ends_in_dot(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// Whether a path can be a directory's only.
fn of_directory(path: &str) -> bool {
    path.ends_with('/') || ends_in_dot(path)
}

/// The directory of a path, and its last component.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((above, name)) => (above, name),
        None => (".", path),
    }
}

/// Components of a name in a tar, taken as relative; `None` if it leads out of where it is.
pub(crate) fn cleaned(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Source<'_> = Source { name: "f", is_directory: false };
    const DIRECTORY: Source<'_> = Source { name: "d", is_directory: true };
    const CONTENTS: Source<'_> = Source { name: ".", is_directory: true };

    fn to(source: Source<'_>, path: &str, is_directory: Option<bool>) -> Option<(String, String)> {
        let placed = place(source, Destination { path, is_directory });
        placed.ok().map(|place| (place.directory, place.name))
    }

    /// The table of `docker cp`'s manual.
    #[test]
    fn the_matrix() {
        let some = |directory: &str, name: &str| Some((directory.to_owned(), name.to_owned()));
        for (source, path, there, expected) in [
            (FILE, "new", None, some(".", "new")),
            (FILE, "/a/new", None, some("/a", "new")),
            (FILE, "/new", None, some("/", "new")),
            (FILE, "new/", None, None),
            (FILE, "new/.", None, None),
            (FILE, "old", Some(false), some(".", "old")),
            (FILE, "old/", Some(false), None),
            (FILE, "dir", Some(true), some("dir", "f")),
            (FILE, "dir/", Some(true), some("dir/", "f")),
            (FILE, "/", Some(true), some("/", "f")),
            (DIRECTORY, "new", None, some(".", "new")),
            (DIRECTORY, "a/new/", None, some("a", "new")),
            (DIRECTORY, "new/.", None, None),
            (DIRECTORY, "old", Some(false), None),
            (DIRECTORY, "dir", Some(true), some("dir", "d")),
            (DIRECTORY, "dir/.", Some(true), some("dir/.", "d")),
            (CONTENTS, "new", None, some(".", "new")),
            (CONTENTS, "old", Some(false), None),
            (CONTENTS, "dir", Some(true), some("dir", ".")),
        ] {
            assert_eq!(to(source, path, there), expected, "{source:?} to {path} ({there:?})");
        }
    }

    #[test]
    fn names_that_lead_out_are_none() {
        assert_eq!(cleaned(b"./a//b/../c"), Some(vec![&b"a"[..], b"c"]));
        assert_eq!(cleaned(b"/a"), Some(vec![&b"a"[..]]));
        assert_eq!(cleaned(b"a/../.."), None);
    }
}
