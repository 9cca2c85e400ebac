//! The node's totals in /proc, see proc_stat(5), proc_meminfo(5) and proc_loadavg(5).

use super::{decimal, hundredths, lines, split, words};
use crate::stats::sample::{NodeCpu, NodeLoad, NodeMemory};

/// What the kernel counts processor time in, for programs: USER_HZ is 100 everywhere but on alpha and ia64.
const NANOS_PER_TICK: u64 = 10_000_000;

/// The first lines of `/proc/stat`: "cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL ...", then one for each processor.
pub(in crate::stats) fn cpu(text: &[u8]) -> Option<NodeCpu> {
    let mut cpu = None;
    for line in lines(text) {
        let mut words = words(line);
        let Some(processor) = words.next().and_then(|word| word.strip_prefix(b"cpu")) else { break };
        match &mut cpu {
            None if processor.is_empty() => cpu = Some(all_processors(words)?),
            Some(NodeCpu { cpus, .. }) => *cpus += 1,
            None => return None,
        }
    }
    cpu
}

fn all_processors<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<NodeCpu> {
    let mut values = [0_u64; 8];
    for value in &mut values {
        *value = decimal(words.next()?)?.checked_mul(NANOS_PER_TICK)?;
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = values;
    Some(NodeCpu {
        cpus: 0,
        // Guests are in it already.
        user_nanos: user.checked_add(nice)?,
        system_nanos: system.checked_add(irq)?.checked_add(softirq)?,
        idle_nanos: idle,
        iowait_nanos: iowait,
        steal_nanos: steal,
    })
}

/// `/proc/meminfo`: "MemTotal:       24684084 kB".
pub(in crate::stats) fn memory(text: &[u8], memory: &mut NodeMemory) {
    for line in lines(text) {
        let Some((key, rest)) = split(line, b':') else { continue };
        let value = words(rest).next().and_then(decimal).and_then(|kilobytes| kilobytes.checked_mul(1024));
        match key {
            b"MemTotal" => memory.total = value,
            b"MemFree" => memory.free = value,
            b"MemAvailable" => memory.available = value,
            b"Buffers" => memory.buffers = value,
            b"Cached" => memory.cached = value,
            b"SwapTotal" => memory.swap_total = value,
            b"SwapFree" => memory.swap_free = value,
            _ => {}
        }
    }
}

/// `/proc/loadavg`: "3.85 3.22 2.49 4/113 21502".
pub(in crate::stats) fn load(text: &[u8]) -> Option<NodeLoad> {
    let mut words = words(text.trim_ascii_end());
    let (load1, load5, load15) = (words.next()?, words.next()?, words.next()?);
    let (running, tasks) = split(words.next()?, b'/')?;
    Some(NodeLoad {
        load1: hundredths(load1)?,
        load5: hundredths(load5)?,
        load15: hundredths(load15)?,
        running: decimal(running)?,
        tasks: decimal(tasks)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let text = b"cpu  1449902 250078 277607 468839 7470 1 2831 2267 9 0\ncpu0 730563 114127 133796 246263 3002 0 492 1134 0 0\ncpu1 719338 135951 143811 222576 4468 0 2339 1132 0 0\nintr 16292876 0 0\nctxt 39485520\n";
        let expected = NodeCpu {
            cpus: 2,
            user_nanos: 16_999_800_000_000,
            system_nanos: 2_804_390_000_000,
            idle_nanos: 4_688_390_000_000,
            iowait_nanos: 74_700_000_000,
            steal_nanos: 22_670_000_000,
        };
        assert_eq!(cpu(text), Some(expected));
        for text in [&b""[..], b"intr 1\n", b"cpu 1 2\n", b"cpu0 1 2 3 4 5 6 7 8\n"] {
            assert_eq!(cpu(text), None);
        }
    }

    #[test]
    fn memory_of_the_node() {
        let mut found = NodeMemory::default();
        memory(
            b"MemTotal:       24684084 kB\nMemFree:         5831508 kB\nMemAvailable:   20628752 kB\nBuffers:          121224 kB\nCached:         14390708 kB\nSwapCached:            0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\nHugePages_Total:       0\n",
            &mut found,
        );
        let expected = NodeMemory {
            total: Some(24_684_084 << 10),
            free: Some(5_831_508 << 10),
            available: Some(20_628_752 << 10),
            buffers: Some(121_224 << 10),
            cached: Some(14_390_708 << 10),
            swap_total: Some(0),
            swap_free: Some(0),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn load_of_the_node() {
        let expected = NodeLoad { load1: 385, load5: 1_322, load15: 249, running: 4, tasks: 113 };
        assert_eq!(load(b"3.85 13.22 2.49 4/113 21502\n"), Some(expected));
        assert_eq!(load(b"3.85 13.22\n"), None);
    }
}
