//! Archives made from a few bytes: entries with names that meet, links, whiteouts and attributes in every order.

use arbitrary::Arbitrary;

/// One entry.
#[derive(Debug, Arbitrary)]
pub struct Made {
    kind: Kind,
    /// Components of its name, each one of a few.
    path: [u8; 4],
    /// Where a link leads.
    target: [u8; 4],
    size: u16,
    xattr: Option<(u8, u16)>,
    mode: u16,
    uid: u32,
    mtime: i64,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
    Whiteout,
    Opaque,
}

/// Names that entries have in common, so that they meet; two have the length at which something changes.
fn component(byte: u8) -> String {
    match byte % 12 {
        0 => String::new(),
        1 => ".".into(),
        2 => "..".into(),
        3 => "n".repeat(255),
        4 => "m".repeat(256),
        other => char::from(b'a' + other).to_string(),
    }
}

fn path(parts: [u8; 4]) -> String {
    let used = usize::from(parts[0] >> 6) + 1;
    parts[..used].iter().map(|part| component(*part)).collect::<Vec<_>>().join("/")
}

/// The tar of these entries, in order.
#[must_use]
pub fn tar(entries: &[Made]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        let mut name = path(entry.path);
        match entry.kind {
            Kind::Whiteout => name = name.rsplit_once('/').map_or_else(|| format!(".wh.{name}"), |(above, last)| format!("{above}/.wh.{last}")),
            Kind::Opaque => name.push_str("/.wh..wh..opq"),
            _ => {}
        }
        let (kind, target) = match entry.kind {
            Kind::File | Kind::Whiteout | Kind::Opaque => (b'0', String::new()),
            Kind::HardLink => (b'1', path(entry.target)),
            Kind::Symlink => (b'2', path(entry.target)),
            Kind::Char => (b'3', String::new()),
            Kind::Block => (b'4', String::new()),
            Kind::Directory => (b'5', String::new()),
            Kind::Fifo => (b'6', String::new()),
        };
        let mut records = pax("path", name.as_bytes());
        if !target.is_empty() {
            records.extend(pax("linkpath", target.as_bytes()));
        }
        records.extend(pax("mtime", entry.mtime.to_string().as_bytes()));
        if let Some((key, length)) = entry.xattr {
            let key = ["user.a", "trusted.b", "security.capability", "trusted.overlay.opaque", "system.posix_acl_access"][usize::from(key) % 5];
            let value = if key.ends_with("opaque") { vec![b'y'] } else { vec![b'v'; usize::from(length)] };
            records.extend(pax(&format!("SCHILY.xattr.{key}"), &value));
        }
        push(&mut tar, b'x', &records, 0, 0);
        let data = vec![b'd'; if matches!(entry.kind, Kind::File) { usize::from(entry.size) } else { 0 }];
        push(&mut tar, kind, &data, entry.mode, entry.uid);
    }
    tar.extend([0; 1024]);
    tar
}

fn push(tar: &mut Vec<u8>, kind: u8, data: &[u8], mode: u16, uid: u32) {
    let mut block = [0; 512];
    block[0] = b'x';
    block[100..108].copy_from_slice(format!("{:07o}\0", mode & 0o7777).as_bytes());
    block[108..116].copy_from_slice(format!("{:07o}\0", uid & 0o777_7777).as_bytes());
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[329..337].copy_from_slice(b"0000003\0");
    block[337..345].copy_from_slice(b"0000007\0");
    sum(&mut block);
    tar.extend(block);
    tar.extend(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// Sets the checksum of a header.
fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// "LENGTH KEY=VALUE\n".
fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length = (body.len()..).find(|length| length.to_string().len() + body.len() == *length).unwrap_or_default();
    [length.to_string().as_bytes(), &body].concat()
}

/// Sets right the checksum of whatever looks like a header: chance would never find one.
#[must_use]
pub fn repaired(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    for block in data.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        sum(block);
    }
    data
}
