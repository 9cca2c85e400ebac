//! Tars made by hand, for what no tool would write.

/// Entries, one after the other.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

/// A header block of an entry, GNU style.
pub(super) fn header(name: &[u8], kind: u8, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar  \0");
    sum(&mut block);
    block
}

/// Sets the checksum.
pub(super) fn sum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub(super) fn block(mut self, block: [u8; 512]) -> Self {
        self.0.extend(block);
        self
    }

    pub(super) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn entry(self, name: &str, kind: u8, data: &[u8]) -> Self {
        self.block(header(name.as_bytes(), kind, data.len() as u64)).data(data)
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(name, b'0', data)
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.entry(name, b'5', b"")
    }

    /// A hard (`b'1'`) or symbolic (`b'2'`) link.
    pub(super) fn link(self, name: &str, kind: u8, target: &str) -> Self {
        let mut block = header(name.as_bytes(), kind, 0);
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        sum(&mut block);
        self.block(block)
    }

    /// A PAX header of the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        self.entry("pax", b'x', &body)
    }

    /// The archive with its end marker.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// "LENGTH KEY=VALUE\n".
pub(super) fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length = (body.len()..).find(|length| length.to_string().len() + body.len() == *length).unwrap();
    [length.to_string().as_bytes(), &body].concat()
}
