//! Layers that mean harm, and whiteouts: what becomes of them in the tree.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::images::testing::{Tar, header, sum};
use crate::images::tree::NodeId;

fn build(tar: &[u8]) -> Result<Tree> {
    let mut archive = TarReader::new(tar);
    let writer = Writer::new(tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut layer = Layer { tree: Tree::new(), writer };
    while let Some(entry) = archive.next()? {
        layer.add(entry, &mut archive)?;
    }
    layer.tree.finish();
    Ok(layer.tree)
}

/// "path kind" of everything in the tree, in order.
fn listing(tar: Vec<u8>) -> Vec<String> {
    let tree = build(&tar).unwrap();
    let mut lines = Vec::new();
    let mut pending: Vec<(String, NodeId)> = vec![(String::new(), 0)];
    while let Some((path, id)) = pending.pop() {
        let node = &tree.nodes[id];
        let kind = match &node.content {
            Content::Directory(directory) => {
                pending.extend(
                    directory.children.iter().map(|(name, child)| (format!("{path}/{}", name.escape_ascii()), *child)),
                );
                if node.attributes.xattrs.iter().any(|xattr| &*xattr.name == b"trusted.overlay.opaque") {
                    "opaque"
                } else {
                    "dir"
                }
                .to_owned()
            }
            Content::File(data) => format!("file {}", data.size),
            Content::Symlink(target, _) => format!("link {}", target.escape_ascii()),
            Content::CharDevice(major, minor) => format!("char {major}:{minor}"),
            other => format!("{other:?}"),
        };
        lines.push(format!("{path} {kind}"));
    }
    lines.sort();
    lines.retain(|line| line != " dir");
    lines
}

fn refused(tar: Vec<u8>, part: &str) {
    let error = build(&tar).unwrap_err();
    assert!(error.message.contains(part), "{error}; expected {part:?}");
    assert!(matches!(error.reason, Reason::InvalidArchive | Reason::LimitExceeded), "{error:?}");
    // And through the front door, without a trace of the host's file system.
    assert!(convert(&*tar, tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap(), &AtomicU64::new(0)).is_err());
}

#[test]
fn names_stay_inside() {
    assert_eq!(listing(Tar::default().file("/etc/passwd", b"").end()), ["/etc dir", "/etc/passwd file 0"]);
    assert_eq!(listing(Tar::default().file("././a//b", b"x").end()), ["/a dir", "/a/b file 1"]);
    for name in ["..", "../x", "a/../b", "a/..", "/../x", "./../x"] {
        refused(Tar::default().file(name, b"").end(), "\"..\"");
        refused(Tar::default().dir(name).end(), "\"..\"");
    }
    refused(Tar::default().file("x", b"").link("y", b'1', "../x").end(), "\"..\"");
    refused(Tar::default().file(".", b"").end(), "root of the layer");
    refused(Tar::default().link(".", b'2', "/etc").end(), "root of the layer");
    refused(
        Tar::default()
            .file(&"n".repeat(256).replace("nn", "n")[..100], b"")
            .pax(&[("path", &[b'n'; 256])])
            .file("x", b"")
            .end(),
        "longer than 255",
    );
    refused(Tar::default().pax(&[("path", [&[b'n'; 256][..], b"/x"].concat().as_slice())]).file("x", b"").end(), "255");
    refused(Tar::default().pax(&[("path", "d/".repeat(1200).as_bytes())]).dir("x").end(), "too many directories");
    refused(Tar::default().file("f", b"").file("f/x", b"").end(), "no directory");
}

#[test]
fn links_are_followed_within_the_layer_only() {
    // CVE-2021-32760 and kin: a link out of the layer, then a file through it.
    let tar = Tar::default().link("out", b'2', "/etc").file("out/passwd", b"x").end();
    assert_eq!(listing(tar), ["/etc dir", "/etc/passwd file 1", "/out link /etc"]);
    let tar = Tar::default().link("up", b'2', "../../../..").file("up/x", b"").end();
    assert_eq!(listing(tar), ["/up link ../../../..", "/x file 0"]);
    let tar = Tar::default().dir("usr/lib").link("lib", b'2', "usr/lib").file("lib/a", b"").end();
    assert_eq!(listing(tar), ["/lib link usr/lib", "/usr dir", "/usr/lib dir", "/usr/lib/a file 0"]);
    refused(Tar::default().link("a", b'2', "b").link("b", b'2', "a").file("a/x", b"").end(), "too many symbolic links");
    refused(Tar::default().link("a", b'2', "a/a").file("a/x", b"").end(), "too many symbolic links");
    // The last component is replaced, never followed.
    assert_eq!(listing(Tar::default().link("a", b'2', "/etc/passwd").file("a", b"xy").end()), ["/a file 2"]);
    assert_eq!(listing(Tar::default().link("a", b'2', "/etc").dir("a").end()), ["/a dir"]);
    refused(Tar::default().link("a", b'2', "").end(), "empty");
    refused(Tar::default().pax(&[("linkpath", &[b't'; 4096])]).link("a", b'2', "x").end(), "longer than 4095");
}

#[test]
fn hard_links_need_a_target_in_the_layer() {
    refused(Tar::default().link("a", b'1', "/etc/passwd").end(), "not there");
    refused(Tar::default().link("a", b'1', "a").end(), "not there");
    refused(Tar::default().dir("d").link("a", b'1', "d").end(), "cannot have one");
    refused(Tar::default().link("a", b'1', "/").end(), "not there");
    refused(Tar::default().file("x", b"").link(".wh.x", b'1', "x").end(), "cannot have one");
    // Through a link: stays inside, and makes no directories on the way.
    refused(Tar::default().link("out", b'2', "/etc").link("a", b'1', "out/passwd").end(), "not there");
    assert_eq!(listing(Tar::default().file("x", b"1").link("x", b'1', "x").end()), ["/x file 1"]);
    // The first name goes, the second stays.
    assert_eq!(listing(Tar::default().file("x", b"1").link("y", b'1', "x").dir("x").end()), ["/x dir", "/y file 1"]);
}

#[test]
fn whiteouts() {
    assert_eq!(listing(Tar::default().file("a/.wh.b", b"").end()), ["/a dir", "/a/b char 0:0"]);
    assert_eq!(
        listing(Tar::default().file("a/.wh..wh..opq", b"").file("a/x", b"").end()),
        ["/a opaque", "/a/x file 0"]
    );
    assert_eq!(
        listing(Tar::default().file("a/x", b"").file("a/.wh..wh..opq", b"").dir("a").end()),
        ["/a opaque", "/a/x file 0"]
    );
    // Hides what is below, never what is in the same layer, in either order.
    for tar in [Tar::default().file("f", b"1").file(".wh.f", b""), Tar::default().file(".wh.f", b"").file("f", b"1")] {
        assert_eq!(listing(tar.end()), ["/f file 1"]);
    }
    for tar in
        [Tar::default().file("d/x", b"1").file(".wh.d", b""), Tar::default().file(".wh.d", b"").file("d/x", b"1")]
    {
        assert_eq!(listing(tar.end()), ["/d opaque", "/d/x file 1"]);
    }
    // Through a link: hides in the layer, not outside.
    let tar = Tar::default().link("out", b'2', "/").file("out/.wh.etc", b"").end();
    assert_eq!(listing(tar), ["/etc char 0:0", "/out link /"]);
    for name in [".wh.", ".wh..", ".wh...", ".wh..wh.aufs", ".wh..wh.plnk"] {
        refused(Tar::default().file(name, b"").end(), "whiteout");
    }
    refused(Tar::default().file(".wh.x", b"data").end(), "no empty file");
    refused(Tar::default().dir(".wh.x").end(), "no empty file");
    refused(Tar::default().file("x", b"").link(".wh.y", b'2', "x").end(), "no empty file");
}

#[test]
fn attributes_that_would_steer_overlayfs_or_do_not_fit_are_refused() {
    let with = |key: &str, value: &[u8]| Tar::default().pax(&[(key, value)]).dir("d").end();
    for name in ["redirect", "metacopy", "origin", "whiteout", "opaque.x"] {
        refused(with(&format!("SCHILY.xattr.trusted.overlay.{name}"), b"/"), "overlay");
    }
    refused(with("SCHILY.xattr.trusted.overlay.opaque", b"x"), "opaque");
    assert_eq!(listing(with("SCHILY.xattr.trusted.overlay.opaque", b"y")), ["/d opaque"]);
    for name in ["system.nfs4_acl", "strange", "user.", "user"] {
        refused(with(&format!("SCHILY.xattr.{name}"), b"v"), "extended attribute");
    }
    refused(with(&format!("SCHILY.xattr.user.{}", "n".repeat(256)), b"v"), "extended attribute");
    refused(with("SCHILY.xattr.user.a", &vec![0; 65_536]), "larger than");
    let values: Vec<_> = (0..3).map(|n| (format!("SCHILY.xattr.user.{n}"), vec![0; 60_000])).collect();
    let records: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    refused(Tar::default().pax(&records).dir("d").end(), "larger than");
    let mut device = header(b"dev", b'3', 0);
    device[329..337].copy_from_slice(b"0010000\0");
    sum(&mut device);
    assert!(
        convert(
            &*Tar::default().block(device).end(),
            tempfile::tempfile().unwrap(),
            tempfile::tempfile().unwrap(),
            &AtomicU64::new(0)
        )
        .is_err()
    );
}

#[test]
fn links_to_links_are_no_way_out() {
    // A hard link to a link out of the layer, then a file, a whiteout, an opaque mark and a program of root's through it
    // (CVE-2021-32760, CVE-2025-47290): all inside, and the links as they were.
    let out = || Tar::default().link("out", b'2', "/etc").link("h", b'1', "out");
    assert_eq!(listing(out().file("h/x", b"x").end()), ["/etc dir", "/etc/x file 1", "/h link /etc", "/out link /etc"]);
    assert_eq!(
        listing(out().file("h/.wh.passwd", b"").end()),
        ["/etc dir", "/etc/passwd char 0:0", "/h link /etc", "/out link /etc"]
    );
    assert_eq!(listing(out().file("h/.wh..wh..opq", b"").end()), ["/etc opaque", "/h link /etc", "/out link /etc"]);
    // A directory or file in the link's place is new: its mode and owner are not those of what the link names.
    assert_eq!(listing(out().dir("h").file("h/x", b"").end()), ["/h dir", "/h/x file 0", "/out link /etc"]);
    let mut program = header(b"h", b'0', 0);
    program[100..108].copy_from_slice(b"0004755\0");
    sum(&mut program);
    let tree = build(&out().block(program).end()).unwrap();
    let Content::Directory(root) = &tree.nodes[0].content else { panic!("the root is a directory") };
    let modes: Vec<_> = root.children.iter().map(|(name, id)| (&**name, tree.nodes[*id].attributes.mode)).collect();
    assert_eq!(modes, [(&b"h"[..], 0o4755), (b"out", 0o777)]);
}

#[test]
fn an_archive_in_a_file_stays_a_file() {
    // CVE-2025-62518: the size in the header and that of PAX disagree, and the data is an archive of its own, twice over.
    let innermost = Tar::default().link("passwd", b'2', "/etc/passwd").end();
    let inner = Tar::default().file("innermost.tar", &innermost).file(".wh.etc", b"").end();
    let size = inner.len().to_string();
    for claimed in [0, 512, 1024, 1 << 20] {
        let outer = Tar::default().pax(&[("size", size.as_bytes())]).block(header(b"inner.tar", b'0', claimed));
        let names = listing(outer.data(&inner).file("last", b"1").end());
        assert_eq!(names, [format!("/inner.tar file {size}"), "/last file 1".to_owned()], "{claimed}");
    }
    // Where PAX cuts the file short, what follows is taken for an entry, as by every reader.
    let cut = Tar::default().pax(&[("size", b"0")]).block(header(b"inner.tar", b'0', 512)).data(&[b'x'; 512]);
    refused(cut.end(), "checksum");
}

#[test]
fn bombs() {
    // 400 GiB of nothing in a few bytes.
    let size = (400u64 << 30).to_string();
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"0"),
        ("GNU.sparse.map", b""),
    ];
    refused(Tar::default().pax(&records).file("x", b"").end(), "larger than");
    // A terabyte promised by a header: memory must not be taken for it.
    refused(Tar::default().block(header(b"x", b'0', (8 << 30) - 1)).data(b"little").end(), "ends");
}
