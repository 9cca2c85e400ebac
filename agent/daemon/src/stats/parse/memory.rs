//! Memory.

use super::{pairs, value_of};
use crate::stats::sample::MemoryStats;

/// What version 1 says where there is no limit: the largest count of pages, in bytes, for pages of 4 to 64 KiB
/// (`PAGE_COUNTER_MAX`).
const NO_LIMIT_V1: u64 = 0x7fff_ffff_ffff_0000;

/// `memory.stat` of version 2, and the working set, for which `memory.usage` must be there already.
pub(in crate::stats) fn memory_v2(text: &[u8], memory: &mut MemoryStats) {
    for (key, value) in pairs(text) {
        match key {
            b"anon" => memory.anon = Some(value),
            b"file" => memory.file = Some(value),
            b"kernel" => memory.kernel = Some(value),
            b"file_mapped" => memory.mapped_file = Some(value),
            _ => either(key, value, memory),
        }
    }
    working_set(memory);
}

/// `memory.stat` of version 1: the `total_` lines count nested groups too, as version 2 does.
pub(in crate::stats) fn memory_v1(text: &[u8], memory: &mut MemoryStats) {
    for (key, value) in pairs(text) {
        if key == b"hierarchical_memory_limit" {
            memory.limit = (value < NO_LIMIT_V1).then_some(value);
        }
        let Some(key) = key.strip_prefix(b"total_") else { continue };
        match key {
            b"rss" => memory.anon = Some(value),
            b"cache" => memory.file = Some(value),
            b"swap" => memory.swap = Some(value),
            b"mapped_file" => memory.mapped_file = Some(value),
            _ => either(key, value, memory),
        }
    }
    working_set(memory);
}

/// What is called the same in both versions.
fn either(key: &[u8], value: u64, memory: &mut MemoryStats) {
    match key {
        b"shmem" => memory.shmem = Some(value),
        b"active_anon" => memory.active_anon = Some(value),
        b"inactive_anon" => memory.inactive_anon = Some(value),
        b"active_file" => memory.active_file = Some(value),
        b"inactive_file" => memory.inactive_file = Some(value),
        b"unevictable" => memory.unevictable = Some(value),
        b"pgfault" => memory.faults = Some(value),
        b"pgmajfault" => memory.major_faults = Some(value),
        _ => {}
    }
}

fn working_set(memory: &mut MemoryStats) {
    memory.working_set = memory.usage.zip(memory.inactive_file).map(|(usage, inactive)| usage.saturating_sub(inactive));
}

/// `memory.events` of version 2.
pub(in crate::stats) fn memory_events(text: &[u8], memory: &mut MemoryStats) {
    for (key, value) in pairs(text) {
        match key {
            b"low" => memory.low_events = Some(value),
            b"high" => memory.high_events = Some(value),
            b"max" => memory.max_events = Some(value),
            b"oom" => memory.oom_events = Some(value),
            b"oom_kill" => memory.oom_kills = Some(value),
            _ => {}
        }
    }
}

/// `memory.oom_control` of version 1; it counts since Linux 4.13.
pub(in crate::stats) fn oom_control(text: &[u8], memory: &mut MemoryStats) {
    memory.oom_kills = value_of(text, b"oom_kill");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.1, all controllers; lines that are not read are left out but for one.
    const V2: &[u8] = b"anon 4206592\nfile 94208\nkernel 1277952\nkernel_stack 98304\npagetables 131072\nshmem 8192\nfile_mapped 53248\nfile_dirty 0\ninactive_anon 4186112\nactive_anon 20480\ninactive_file 90112\nactive_file 4096\nunevictable 16384\nslab 1007616\npgfault 1000\npgmajfault 21\nworkingset_refault_file 0\n";
    /// Linux 6.18, hybrid; the lines of the group alone differ from those that count nested ones.
    const V1: &[u8] = b"cache 1\nrss 2\nrss_huge 0\nshmem 3\nmapped_file 4\npgpgin 156631\npgfault 5\npgmajfault 6\ninactive_anon 7\nactive_anon 8\ninactive_file 9\nactive_file 10\nunevictable 11\nhierarchical_memory_limit 67108864\nhierarchical_memsw_limit 9223372036854771712\ntotal_cache 270336\ntotal_rss 135168\ntotal_shmem 12288\ntotal_mapped_file 53248\ntotal_swap 4096\ntotal_pgpgin 307343579\ntotal_pgfault 319094\ntotal_pgmajfault 7\ntotal_inactive_anon 3495727104\ntotal_active_anon 4722688\ntotal_inactive_file 999999\ntotal_active_file 4042997760\ntotal_unevictable 16015360\n";

    #[test]
    fn memory_of_version_2() {
        let mut memory = MemoryStats { usage: Some(100_112), ..MemoryStats::default() };
        memory_v2(V2, &mut memory);
        memory_events(b"low 1\nhigh 2\nmax 14\noom 3\noom_kill 4\noom_group_kill 0\n", &mut memory);
        let expected = MemoryStats {
            usage: Some(100_112),
            working_set: Some(10_000),
            anon: Some(4_206_592),
            file: Some(94_208),
            kernel: Some(1_277_952),
            mapped_file: Some(53_248),
            shmem: Some(8_192),
            active_anon: Some(20_480),
            inactive_anon: Some(4_186_112),
            active_file: Some(4_096),
            inactive_file: Some(90_112),
            unevictable: Some(16_384),
            faults: Some(1_000),
            major_faults: Some(21),
            low_events: Some(1),
            high_events: Some(2),
            max_events: Some(14),
            oom_events: Some(3),
            oom_kills: Some(4),
            // These are in files of their own.
            swap: None,
            limit: None,
            peak: None,
        };
        assert_eq!(memory, expected);
    }

    #[test]
    fn memory_of_version_1() {
        let mut memory = MemoryStats { usage: Some(5), ..MemoryStats::default() };
        memory_v1(V1, &mut memory);
        oom_control(b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", &mut memory);
        let expected = MemoryStats {
            usage: Some(5),
            working_set: Some(0),
            anon: Some(135_168),
            file: Some(270_336),
            swap: Some(4_096),
            limit: Some(67_108_864),
            mapped_file: Some(53_248),
            shmem: Some(12_288),
            active_anon: Some(4_722_688),
            inactive_anon: Some(3_495_727_104),
            active_file: Some(4_042_997_760),
            inactive_file: Some(999_999),
            unevictable: Some(16_015_360),
            faults: Some(319_094),
            major_faults: Some(7),
            oom_kills: Some(1),
            ..MemoryStats::default()
        };
        assert_eq!(memory, expected);
        memory_v1(b"hierarchical_memory_limit 9223372036854771712\n", &mut memory);
        assert_eq!(memory.limit, None);
        oom_control(b"oom_kill_disable 0\nunder_oom 0\n", &mut memory);
        assert_eq!(memory.oom_kills, None);
    }
}
