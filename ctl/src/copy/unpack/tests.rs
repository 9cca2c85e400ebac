use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

/// A tar with one entry after the other: name, type, link, data.
fn tar_of(entries: &[(&str, EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(7);
        header.set_mtime(1000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn into(directory: &Path, prefix: &str, name: &str, tar: &[u8]) -> Result<Left> {
    let directory = directory.to_str().unwrap().to_owned();
    unpack(&Unpacking { directory, prefix: prefix.into(), name: name.into(), ownership: false }, tar)
}

#[test]
fn a_tree_is_unpacked_by_its_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(&[
        ("src/", EntryType::Directory, "", ""),
        ("src/a", EntryType::Regular, "", "hello"),
        ("src/b", EntryType::Link, "src/a", ""),
        ("src/c", EntryType::Symlink, "../../../etc", ""),
        ("src/deep/er/f", EntryType::Regular, "", "x"),
        ("src/dev", EntryType::Char, "", ""),
    ]);
    let left = into(dir.path(), "src", "new", &tar).unwrap();
    assert_eq!(left.devices, 1);
    let new = dir.path().join("new");
    assert_eq!(fs::read_to_string(new.join("b")).unwrap(), "hello");
    assert_eq!(fs::metadata(new.join("a")).unwrap().ino(), fs::metadata(new.join("b")).unwrap().ino());
    assert_eq!(fs::metadata(new.join("a")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(&new).unwrap().mtime(), 1000);
    assert_eq!(fs::read_link(new.join("c")).unwrap(), Path::new("../../../etc"));
    assert_eq!(fs::read_to_string(new.join("deep/er/f")).unwrap(), "x");
    assert!(!new.join("dev").exists());
}

/// CVE-2018-15664 and its kin: what the container sends never leaves the directory.
#[test]
fn nothing_leaves_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    let inside = dir.path().join("inside");
    let file = EntryType::Regular;
    let evil: &[&[(&str, EntryType, &str, &str)]] = &[
        &[("../outside/x", file, "", "evil")],
        &[("s/../../outside/x", file, "", "evil")],
        &[("/s/../../outside/x", file, "", "evil")],
        &[("other", file, "", "evil")],
        &[("s/l", EntryType::Symlink, "../../outside", ""), ("s/l/x", file, "", "evil")],
        &[("s", EntryType::Symlink, "../outside", ""), ("s/x", file, "", "evil")],
        &[("s/h", EntryType::Link, "../outside/canary", "")],
        &[
            ("s/l", EntryType::Symlink, "../../outside/canary", ""),
            ("s/h", EntryType::Link, "s/l", ""),
            ("s/h/x", file, "", ""),
        ],
        &[("s/l", EntryType::Symlink, "../../outside", ""), ("s/l/", EntryType::Directory, "", "")],
    ];
    for entries in evil {
        fs::create_dir(&inside).unwrap();
        let result = into(&inside, "s", "s", &tar_of(entries));
        assert!(result.is_err(), "{entries:?}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{entries:?}");
        assert_eq!(fs::metadata(outside.join("canary")).unwrap().nlink(), 1);
        fs::remove_dir_all(&inside).unwrap();
    }
    // A link that becomes a file is replaced, not written through.
    fs::create_dir(&inside).unwrap();
    symlink("../outside/canary", inside.join("s")).unwrap();
    into(&inside, "s", "s", &tar_of(&[("s", file, "", "mine")])).unwrap();
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
    assert_eq!(fs::read_to_string(inside.join("s")).unwrap(), "mine");
}

#[test]
fn records_are_read_by_their_length() {
    let records = Extensions::parse(b"9 a=1\n2=\n14 path=x\ny\nz\n").unwrap();
    assert_eq!(records.get("a"), Some(&b"1\n2="[..]));
    assert_eq!(records.get("path"), Some(&b"x\ny\nz"[..]));
    assert!(Extensions::parse(b"99 a=1\n").is_none());
    assert!(Extensions::parse(b"x").is_none());
}

#[test]
fn times_are_decimal() {
    for (text, expected) in [("10", (10, 0)), ("1.5", (1, 500_000_000)), ("-1.25", (-2, 750_000_000)), ("-3", (-3, 0))]
    {
        assert_eq!(time(text), Some(expected));
    }
    assert_eq!(time("x"), None);
}
