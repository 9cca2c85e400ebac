use proptest::prelude::*;

use super::*;
use crate::images::testing::{Tar, header, sum};

/// All entries with their data.
fn read(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(tar);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).map_err(|error| read_error("reading", error))?;
        entries.push((entry, data));
    }
    Ok(entries)
}

fn refused(tar: Vec<u8>, part: &str) {
    let error = read(&tar).unwrap_err();
    assert!(error.message.contains(part), "{error}; expected {part:?}");
    assert!(matches!(error.reason, Reason::InvalidArchive | Reason::LimitExceeded), "{error:?}");
}

#[test]
fn sizes_of_extended_headers_count() {
    // CVE-2025-62518: the header says 0, PAX says 1024; who believes the header takes the data for entries.
    let smuggled = Tar::default().file("smuggled", b"").end();
    let tar =
        Tar::default().pax(&[("size", b"1536")]).block(header(b"outer", b'0', 0)).data(&smuggled).file("after", b"x");
    let entries = read(&tar.end()).unwrap();
    let names: Vec<_> = entries.iter().map(|(entry, _)| entry.path.as_slice()).collect();
    assert_eq!(names, [&b"outer"[..], b"after"]);
    assert_eq!(entries[0].1, smuggled);
    // The other way: the header says 512, PAX says 0.
    let tar = Tar::default().pax(&[("size", b"0")]).block(header(b"outer", b'0', 512)).file("next", b"").end();
    assert_eq!(read(&tar).unwrap()[1].0.path, b"next");
    // A value with line ends in front of the size.
    let tar = Tar::default()
        .pax(&[("SCHILY.xattr.user.a", b"\n\n"), ("size", b"3")])
        .block(header(b"f", b'0', 0))
        .data(b"abc");
    assert_eq!(read(&tar.end()).unwrap()[0].1, b"abc");
}

#[test]
fn what_readers_differ_on_is_refused() {
    for kind in *b"123456" {
        refused(Tar::default().block(header(b"x", kind, 512)).data(b"data").end(), "a size of 512");
    }
    refused(Tar::default().pax(&[]).pax(&[]).file("x", b"").end(), "two headers of one kind");
    refused(
        Tar::default().pax(&[("path", b"a")]).entry("././@LongLink", b'L', b"b\0").file("x", b"").end(),
        "both a GNU and a PAX",
    );
    refused(Tar::default().entry("l", b'L', b"no nul").file("x", b"").end(), "long name");
    refused(Tar::default().entry("l", b'L', b"a\0b\0").file("x", b"").end(), "long name");
    refused(Tar::default().pax(&[]).end(), "describes the next entry");
    refused(Tar::default().entry("g", b'g', b"11 path=ab\n").file("x", b"").end(), "global");
    for kind in *b"VMDNAX?" {
        refused(Tar::default().entry("x", kind, b"").end(), "is not supported");
    }
    let lone = Tar::default().file("a", b"").block([0; 512]).file("b", b"");
    refused(lone.end(), "lone zero block");
}

#[test]
fn damage_is_refused() {
    let good = Tar::default().file("name", b"some data").end();
    for cut in [1, 511, 513, 520, 1023] {
        refused(good[..cut].to_vec(), "ends");
    }
    let mut bad = good.clone();
    bad[0] ^= 1;
    refused(bad, "checksum");
    for (range, text) in [
        (124..136, &b"12x45678901\0"[..]),
        (100..108, b"zzzzzzz\0"),
        (136..148, b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        let mut block = header(b"name", b'0', 0);
        block[range].copy_from_slice(text);
        sum(&mut block);
        refused(Tar::default().block(block).end(), "entry \"name\"");
    }
    let mut block = header(b"name", b'0', 0);
    block[108..116].copy_from_slice(b"\x80\0\0\x01\0\0\0\0");
    sum(&mut block);
    refused(Tar::default().block(block).end(), "uid");
    refused(Tar::default().pax(&[("size", b"18446744073709551615")]).file("x", b"").end(), "size does not fit");
    refused(Tar::default().file("", b"").end(), "name is empty");
    refused(Tar::default().pax(&[("path", &[b'p'; PATH_MAX + 1])]).file("x", b"").end(), "longer than 4096");
    refused(Tar::default().block(header(b"x", b'x', (8 << 30) - 1)).end(), "larger than");
    refused(Tar::default().block(header(b"x", b'L', (8 << 30) - 1)).end(), "larger than");
}

#[test]
fn sparse_maps_are_checked() {
    let sparse = |records: &[(&str, &[u8])]| {
        let mut all: Vec<(&str, &[u8])> = vec![("GNU.sparse.name", b"s"), ("GNU.sparse.size", b"100")];
        all.extend(records);
        Tar::default().pax(&all).file("x", b"0123456789").end()
    };
    let entries = read(&sparse(&[("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"5,4,90,6")])).unwrap();
    let mut expected = [0; 100];
    expected[5..9].copy_from_slice(b"0123");
    expected[90..96].copy_from_slice(b"456789");
    assert_eq!((entries[0].0.path.as_slice(), entries[0].1.as_slice()), (&b"s"[..], &expected[..]));
    for (blocks, map) in [
        (&b"2"[..], &b"90,6,5,4"[..]),
        (b"2", b"5,4,7,6"),
        (b"2", b"5,4,95,6"),
        (b"2", b"5,4,90,5"),
        (b"1", b"5,4,90,6"),
        (b"2", b"5,18446744073709551615,90,6"),
        (b"2", b"5,4,90"),
        (b"2", b"5,,90,6"),
    ] {
        refused(sparse(&[("GNU.sparse.numblocks", blocks), ("GNU.sparse.map", map)]), "");
    }
    refused(sparse(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")]), "unknown version");
    for map in ["99999999999\n", "1\n0\n", "1\n0\nx\n", "1\n0\n99\n"] {
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", b"9"),
        ];
        refused(Tar::default().pax(&records).file("x", map.as_bytes()).end(), "");
    }
}

proptest! {
    #[test]
    fn damaged_archives_are_read_without_harm(at in 0usize..4096, byte: u8, cut in 0usize..4096) {
        let tar = Tar::default()
            .pax(&[("path", b"a/b"), ("SCHILY.xattr.user.a", b"v"), ("size", b"3")])
            .file("x", b"abc")
            .link("l", b'2', "target")
            .entry("././@LongLink", b'L', b"a-long-name\0")
            .file("y", &[1; 700]);
        let mut bytes = tar.end();
        let at = at % bytes.len();
        bytes[at] = byte;
        if at % 512 < 148 || at % 512 > 156 {
            // Keep the checksum right, so that the fields themselves are read.
            let start = at / 512 * 512;
            let mut block: [u8; 512] = bytes[start..start + 512].try_into().unwrap();
            if block[257..262] == *b"ustar" {
                sum(&mut block);
                bytes[start..start + 512].copy_from_slice(&block);
            }
        }
        bytes.truncate(cut.max(at + 1));
        drop(read(&bytes));
    }
}
