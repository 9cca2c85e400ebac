//! Input and output of block devices.

use super::{decimal, lines, split, words};
use crate::stats::sample::IoStats;

/// `io.stat` of version 2: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
pub(in crate::stats) fn io_v2(text: &[u8], io: &mut IoStats) {
    io.devices.clear();
    for line in lines(text) {
        let mut words = words(line);
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        let device = io.device(major, minor);
        for word in words {
            let Some((key, value)) = split(word, b'=') else { continue };
            let Some(value) = decimal(value) else { continue };
            match key {
                b"rbytes" => device.read_bytes = value,
                b"wbytes" => device.write_bytes = value,
                b"rios" => device.read_ops = value,
                b"wios" => device.write_ops = value,
                _ => {}
            }
        }
    }
    // A device that was only looked at has a line of zeroes, or none.
    io.devices.retain(|device| {
        device.read_ops != 0 || device.write_ops != 0 || device.read_bytes != 0 || device.write_bytes != 0
    });
}

/// What a file of version 1 counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::stats) enum Counted {
    /// `blkio.throttle.io_service_bytes_recursive`
    Bytes,
    /// `blkio.throttle.io_serviced_recursive`
    Operations,
}

/// Version 1: lines "8:0 Read 4096", closed by "Total 4096".
pub(in crate::stats) fn io_v1(text: &[u8], counted: Counted, io: &mut IoStats) {
    for line in lines(text) {
        let mut words = words(line);
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        let (Some(kind), Some(value)) = (words.next(), words.next().and_then(decimal)) else { continue };
        if value == 0 || !matches!(kind, b"Read" | b"Write") {
            continue;
        }
        let device = io.device(major, minor);
        match (kind, counted) {
            (b"Read", Counted::Bytes) => device.read_bytes = value,
            (b"Read", Counted::Operations) => device.read_ops = value,
            (_, Counted::Bytes) => device.write_bytes = value,
            (_, Counted::Operations) => device.write_ops = value,
        }
    }
}

fn device(word: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = split(word, b':')?;
    Some((u32::try_from(decimal(major)?).ok()?, u32::try_from(decimal(minor)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample::DeviceIo;

    #[test]
    fn io_of_both_versions() {
        let expected = [
            DeviceIo {
                major: 8,
                minor: 16,
                read_bytes: 1_459_200,
                write_bytes: 314_773_504,
                read_ops: 192,
                write_ops: 353,
            },
            DeviceIo { major: 259, minor: 0, read_bytes: 90, write_bytes: 0, read_ops: 1, write_ops: 0 },
        ];
        let mut io = IoStats::default();
        io_v2(
            b"8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0 \n7:0 rbytes=0 wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n259:0 rbytes=90 wbytes=0 rios=1 wios=0 dbytes=5 dios=9 cost.usage=7\n",
            &mut io,
        );
        assert_eq!(io.devices, expected);
        let mut io = IoStats::default();
        io_v1(
            b"8:16 Read 1459200\n8:16 Write 314773504\n8:16 Sync 5\n8:16 Async 6\n8:16 Discard 0\n8:16 Total 316232704\n259:0 Read 90\n259:0 Write 0\nTotal 316232794\n",
            Counted::Bytes,
            &mut io,
        );
        io_v1(b"8:16 Read 192\n8:16 Write 353\n259:0 Read 1\nTotal 546\n", Counted::Operations, &mut io);
        assert_eq!(io.devices, expected);
    }
}
