//! Parsers for the kernel's files, on bytes and without allocation (but for lists, whose room is used again). What they do not
//! know they skip: kernels add keys.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst; cgroup-v1/{cpuacct,memory,pids,blkio-controller,hugetlb}.rst;
//! Documentation/scheduler/sched-bwc.rst for the version 1 `cpu.stat`; Documentation/accounting/psi.rst; proc(5).

mod cpu;
mod io;
mod memory;
mod network;
pub(super) mod node;
mod pressure;

pub(super) use self::cpu::{cpu_v1, cpu_v2, per_cpu};
pub(super) use self::io::{Counted, io_v1, io_v2};
pub(super) use self::memory::{memory_events, memory_v1, memory_v2, oom_control};
pub(super) use self::network::interfaces;
pub(super) use self::pressure::pressure;

/// A file with one number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    decimal(text.trim_ascii())
}

/// The value of one key of a file with "KEY VALUE" lines.
pub(super) fn value_of(text: &[u8], key: &[u8]) -> Option<u64> {
    pairs(text).find_map(|(found, value)| (found == key).then_some(value))
}

/// How many lines there are: processes of `cgroup.procs`.
pub(super) fn count_lines(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
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

/// "12.34" as 1234: a number with two places, as the kernel writes averages.
fn hundredths(text: &[u8]) -> Option<u32> {
    let (whole, part) = split(text, b'.')?;
    let value = decimal(whole)?.checked_mul(100)?.checked_add(decimal(part).filter(|_| part.len() == 2)?)?;
    u32::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample::{CpuStats, IoStats, MemoryStats, NetworkStats, NodeMemory, Pressure};

    #[test]
    fn nothing_is_made_up() {
        assert_eq!(number(b"42\n"), Some(42));
        for text in [&b"max\n"[..], b"", b"-1", b"18446744073709551616", b"1 2"] {
            assert_eq!(number(text), None);
        }
        let mut cpu = CpuStats::default();
        cpu_v2(b"usage_usec\nuser_usec x\n\nsystem_usec 18446744073709551615\n", &mut cpu);
        assert_eq!(cpu, CpuStats::default());
        assert_eq!(hundredths(b"0.07"), Some(7));
        for text in [&b"1"[..], b"1.2", b"1.234", b".12", b"99999999.00", b"-1.00"] {
            assert_eq!(hundredths(text), None);
        }
        assert_eq!((count_lines(b""), count_lines(b"1\n22\n")), (0, 2));
        assert_eq!(value_of(b"nr_descendants 3\nnr_dying_descendants 0\n", b"nr_descendants"), Some(3));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(text in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            cpu_v2(&text, &mut CpuStats::default());
            cpu_v1(&text, &mut CpuStats::default());
            per_cpu(&text, &mut CpuStats::default());
            memory_v2(&text, &mut MemoryStats::default());
            memory_v1(&text, &mut MemoryStats::default());
            memory_events(&text, &mut MemoryStats::default());
            oom_control(&text, &mut MemoryStats::default());
            io_v2(&text, &mut IoStats::default());
            io_v1(&text, Counted::Bytes, &mut IoStats::default());
            pressure(&text, &mut Pressure::default());
            interfaces(&text, &mut NetworkStats::default());
            node::memory(&text, &mut NodeMemory::default());
            let _ = (number(&text), count_lines(&text), node::cpu(&text), node::load(&text));
        }
    }
}
