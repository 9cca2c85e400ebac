//! Parsers for the control group files, on bytes and without allocation (but for the list of devices). What they do not know
//! they skip: kernels add keys.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst; cgroup-v1/{cpuacct,memory,pids,blkio-controller}.rst;
//! Documentation/scheduler/sched-bwc.rst for the version 1 `cpu.stat`.

use super::sample::{CpuStats, IoStats, MemoryStats};

/// What version 1 says where there is no limit: the largest count of pages, in bytes, for pages of 4 to 64 KiB
/// (`PAGE_COUNTER_MAX`).
const NO_LIMIT_V1: u64 = 0x7fff_ffff_ffff_0000;

/// A file with one number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    decimal(text.trim_ascii())
}

/// `cpu.stat` of version 2: microseconds and counts.
pub(super) fn cpu_v2(text: &[u8], cpu: &mut CpuStats) {
    for (key, value) in pairs(text) {
        match key {
            b"usage_usec" => cpu.usage_nanos = value.checked_mul(1000),
            b"user_usec" => cpu.user_nanos = value.checked_mul(1000),
            b"system_usec" => cpu.system_nanos = value.checked_mul(1000),
            b"throttled_usec" => cpu.throttled_nanos = value.checked_mul(1000),
            _ => throttling(key, value, cpu),
        }
    }
}

/// `cpu.stat` of version 1: counts, and `throttled_time` in nanoseconds.
pub(super) fn cpu_v1(text: &[u8], cpu: &mut CpuStats) {
    for (key, value) in pairs(text) {
        match key {
            b"throttled_time" => cpu.throttled_nanos = Some(value),
            _ => throttling(key, value, cpu),
        }
    }
}

fn throttling(key: &[u8], value: u64, cpu: &mut CpuStats) {
    match key {
        b"nr_periods" => cpu.periods = Some(value),
        b"nr_throttled" => cpu.throttled_periods = Some(value),
        _ => {}
    }
}

/// `memory.stat` of version 2, and the working set, for which `memory.usage` must be there already.
pub(super) fn memory_v2(text: &[u8], memory: &mut MemoryStats) {
    for (key, value) in pairs(text) {
        match key {
            b"anon" => memory.anon = Some(value),
            b"file" => memory.file = Some(value),
            b"kernel" => memory.kernel = Some(value),
            b"pgmajfault" => memory.major_faults = Some(value),
            b"inactive_file" => memory.working_set = memory.usage.map(|usage| usage.saturating_sub(value)),
            _ => {}
        }
    }
}

/// `memory.stat` of version 1: the `total_` lines count nested groups too, as version 2 does.
pub(super) fn memory_v1(text: &[u8], memory: &mut MemoryStats) {
    for (key, value) in pairs(text) {
        match key {
            b"total_rss" => memory.anon = Some(value),
            b"total_cache" => memory.file = Some(value),
            b"total_swap" => memory.swap = Some(value),
            b"total_pgmajfault" => memory.major_faults = Some(value),
            b"total_inactive_file" => memory.working_set = memory.usage.map(|usage| usage.saturating_sub(value)),
            b"hierarchical_memory_limit" => memory.limit = (value < NO_LIMIT_V1).then_some(value),
            _ => {}
        }
    }
}

/// `oom_kill` of `memory.events` (version 2) and `memory.oom_control` (version 1, Linux 4.13).
pub(super) fn oom_kills(text: &[u8]) -> Option<u64> {
    pairs(text).find_map(|(key, value)| (key == b"oom_kill").then_some(value))
}

/// `io.stat` of version 2: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
pub(super) fn io_v2(text: &[u8], io: &mut IoStats) {
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
pub(super) enum Counted {
    /// `blkio.throttle.io_service_bytes_recursive`
    Bytes,
    /// `blkio.throttle.io_serviced_recursive`
    Operations,
}

/// Version 1: lines "8:0 Read 4096", closed by "Total 4096".
pub(super) fn io_v1(text: &[u8], counted: Counted, io: &mut IoStats) {
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

/// "KEY VALUE" lines with a number.
fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let (key, value) = split(line, b' ')?;
        Some((key, decimal(value)?))
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == at)?;
    Some((&text[..at], &text[at + 1..]))
}

fn device(word: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = split(word, b':')?;
    Some((u32::try_from(decimal(major)?).ok()?, u32::try_from(decimal(minor)?).ok()?))
}

/// Digits only; `None` for anything else, "max" included, and for what does not fit.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample::DeviceIo;

    #[test]
    fn cpu_of_version_2() {
        // Linux 6.1 with the cpu controller.
        let text = b"usage_usec 183012\nuser_usec 61004\nsystem_usec 122008\nnr_periods 12\nnr_throttled 3\nthrottled_usec 45678\nnr_bursts 0\nburst_usec 0\n";
        let mut cpu = CpuStats::default();
        cpu_v2(text, &mut cpu);
        assert_eq!(
            cpu,
            CpuStats {
                usage_nanos: Some(183_012_000),
                user_nanos: Some(61_004_000),
                system_nanos: Some(122_008_000),
                periods: Some(12),
                throttled_periods: Some(3),
                throttled_nanos: Some(45_678_000),
            }
        );
    }

    #[test]
    fn cpu_of_a_hybrid_host() {
        // Linux 6.18: version 2 without the controller, version 1 beside it.
        let mut cpu = CpuStats::default();
        cpu_v2(b"usage_usec 7\nuser_usec 3\nsystem_usec 4\nnice_usec 0\n", &mut cpu);
        assert_eq!((cpu.usage_nanos, cpu.periods, cpu.throttled_nanos), (Some(7000), None, None));
        cpu_v1(b"nr_periods 5\nnr_throttled 2\nthrottled_time 99\nnr_bursts 0\nburst_time 0\n", &mut cpu);
        assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_nanos), (Some(5), Some(2), Some(99)));
    }

    #[test]
    fn memory_of_version_2() {
        let text = b"anon 4206592\nfile 94208\nkernel 1277952\nkernel_stack 98304\ninactive_anon 4186112\ninactive_file 90112\nactive_file 4096\npgfault 1000\npgmajfault 21\n";
        let mut memory = MemoryStats { usage: Some(100_112), ..MemoryStats::default() };
        memory_v2(text, &mut memory);
        assert_eq!((memory.anon, memory.file, memory.kernel), (Some(4_206_592), Some(94_208), Some(1_277_952)));
        assert_eq!((memory.working_set, memory.major_faults), (Some(10_000), Some(21)));
        assert_eq!(oom_kills(b"low 0\nhigh 0\nmax 14\noom 2\noom_kill 3\noom_group_kill 0\n"), Some(3));
    }

    #[test]
    fn memory_of_version_1() {
        let text = b"cache 1\nrss 2\npgmajfault 3\nhierarchical_memory_limit 67108864\nhierarchical_memsw_limit 9223372036854771712\ntotal_cache 270336\ntotal_rss 135168\ntotal_swap 4096\ntotal_pgmajfault 7\ntotal_inactive_file 999999\n";
        let mut memory = MemoryStats { usage: Some(5), ..MemoryStats::default() };
        memory_v1(text, &mut memory);
        assert_eq!((memory.anon, memory.file, memory.swap), (Some(135_168), Some(270_336), Some(4096)));
        assert_eq!((memory.limit, memory.working_set, memory.major_faults), (Some(67_108_864), Some(0), Some(7)));
        memory_v1(b"hierarchical_memory_limit 9223372036854771712\n", &mut memory);
        assert_eq!(memory.limit, None);
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1));
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\n"), None);
    }

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

    #[test]
    fn nothing_is_made_up() {
        assert_eq!(number(b"42\n"), Some(42));
        for text in [&b"max\n"[..], b"", b"-1", b"18446744073709551616", b"1 2"] {
            assert_eq!(number(text), None);
        }
        let mut cpu = CpuStats::default();
        cpu_v2(b"usage_usec\nuser_usec x\n\nsystem_usec 18446744073709551615\n", &mut cpu);
        assert_eq!(cpu, CpuStats::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(text in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            cpu_v2(&text, &mut CpuStats::default());
            cpu_v1(&text, &mut CpuStats::default());
            memory_v2(&text, &mut MemoryStats::default());
            memory_v1(&text, &mut MemoryStats::default());
            io_v2(&text, &mut IoStats::default());
            io_v1(&text, Counted::Bytes, &mut IoStats::default());
            let _ = (number(&text), oom_kills(&text));
        }
    }
}
