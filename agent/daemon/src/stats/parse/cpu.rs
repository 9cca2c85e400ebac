//! Processor time.

use super::{decimal, pairs, words};
use crate::stats::sample::CpuStats;

/// `cpu.stat` of version 2: microseconds and counts.
pub(in crate::stats) fn cpu_v2(text: &[u8], cpu: &mut CpuStats) {
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
pub(in crate::stats) fn cpu_v1(text: &[u8], cpu: &mut CpuStats) {
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

/// `cpuacct.usage_percpu` of version 1: nanoseconds on each processor, on one line.
pub(in crate::stats) fn per_cpu(text: &[u8], cpu: &mut CpuStats) {
    cpu.per_cpu_nanos.clear();
    cpu.per_cpu_nanos.extend(words(text.trim_ascii_end()).map_while(decimal));
}

#[cfg(test)]
mod tests {
    use super::*;

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
                per_cpu_nanos: Vec::new(),
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
    fn processors_one_by_one() {
        let mut cpu = CpuStats { per_cpu_nanos: vec![1, 2, 3], ..CpuStats::default() };
        per_cpu(b"9832868543378 10052698645715 \n", &mut cpu);
        assert_eq!(cpu.per_cpu_nanos, [9_832_868_543_378, 10_052_698_645_715]);
        per_cpu(b"", &mut cpu);
        assert!(cpu.per_cpu_nanos.is_empty());
    }
}
