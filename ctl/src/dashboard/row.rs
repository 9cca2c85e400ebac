//! One container of the table: what it is, what it uses now, and what it used before.

use hull_proto::v1::{Container, ContainerState, ContainerStats, DeviceIo, NetworkInterface};

use super::history::History;
use super::sort::Key;

/// A container.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) container: Container,
    /// The last reading, while it runs.
    pub(super) last: Option<ContainerStats>,
    /// Between the last two.
    pub(super) usage: Option<Usage>,
    /// Hundredths of a percent of one processor.
    pub(super) cpu: History,
    /// Bytes.
    pub(super) memory: History,
}

/// What a container uses; rates are of the time between two readings. What is not known is absent.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    /// Percent of one processor.
    pub(super) cpu: Option<f64>,
    /// Bytes, without page cache that can be given back.
    pub(super) memory: Option<u64>,
    /// Bytes.
    pub(super) limit: Option<u64>,
    pub(super) pids: Option<u64>,
    /// Bytes a second, without what the container says to itself.
    pub(super) received: Option<f64>,
    pub(super) sent: Option<f64>,
    /// Bytes a second.
    pub(super) read: Option<f64>,
    pub(super) written: Option<f64>,
    /// Percent of the periods in which it was throttled.
    pub(super) throttled: Option<f64>,
}

impl Row {
    /// A container of which nothing was read yet.
    pub(super) fn new(container: Container) -> Self {
        Self { container, last: None, usage: None, cpu: History::default(), memory: History::default() }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.container.name
    }

    /// Its state in a word.
    pub(super) fn state_name(&self) -> &'static str {
        match self.container.state() {
            ContainerState::Unspecified => "unknown",
            ContainerState::Created => "created",
            ContainerState::Starting => "starting",
            ContainerState::Running => "running",
            ContainerState::Paused => "paused",
            ContainerState::Stopping => "stopping",
            ContainerState::Exited => "exited",
            ContainerState::Removing => "removing",
        }
    }

    /// Takes a reading.
    pub(super) fn take(&mut self, now: ContainerStats) {
        let usage = Usage::between(self.last.as_ref(), &now);
        if let Some(cpu) = usage.cpu {
            self.cpu.push_percent(cpu);
        }
        if let Some(memory) = usage.memory {
            self.memory.push(memory);
        }
        self.usage = Some(usage);
        self.last = Some(now);
    }

    /// It does not run any more.
    pub(super) fn stopped(&mut self) {
        (self.last, self.usage) = (None, None);
    }

    /// When it was started or, before that, made.
    pub(super) fn since(&self) -> Option<&prost_types::Timestamp> {
        self.container.started_at.as_ref().or(self.container.created_at.as_ref())
    }

    /// What it is sorted by; nothing where that is not known.
    pub(super) fn value(&self, key: Key) -> Option<f64> {
        let usage = self.usage.as_ref();
        let both = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        match key {
            Key::Name | Key::State => None,
            Key::Cpu => usage?.cpu,
            Key::Memory => usage?.memory.map(float),
            Key::Pids => usage?.pids.map(float),
            Key::Network => usage.and_then(|usage| both(usage.received, usage.sent)),
            Key::Disk => usage.and_then(|usage| both(usage.read, usage.written)),
            Key::Age => {
                let started = self.since()?;
                #[expect(clippy::cast_precision_loss, reason = "the order of years is kept")]
                let seconds = started.seconds as f64;
                Some(-(seconds + f64::from(started.nanos) / 1e9))
            }
        }
    }
}

impl Usage {
    fn between(then: Option<&ContainerStats>, now: &ContainerStats) -> Self {
        let elapsed =
            then.map(|then| now.monotonic_nanos.saturating_sub(then.monotonic_nanos)).filter(|time| *time > 0);
        // A counter that fell was begun anew.
        let rate = |counter: &dyn Fn(&ContainerStats) -> Option<u64>| {
            let grown = counter(now)?.checked_sub(counter(then?)?)?;
            Some(float(grown) / float(elapsed?))
        };
        let a_second = |per_nano: Option<f64>| per_nano.map(|rate| rate * 1e9);
        let memory = now.memory.as_ref();
        let throttled = rate(&|stats| stats.cpu.as_ref()?.throttled_periods)
            .zip(rate(&|stats| stats.cpu.as_ref()?.periods))
            .filter(|(_, all)| *all > 0.0);
        Self {
            cpu: rate(&|stats| stats.cpu.as_ref()?.usage_nanos).map(|share| share * 100.0),
            memory: memory.and_then(|memory| memory.working_set.or(memory.usage)),
            limit: memory.and_then(|memory| memory.limit),
            pids: now.pids.as_ref().and_then(|pids| pids.current),
            received: a_second(rate(&|stats| network(stats, |interface| interface.rx_bytes))),
            sent: a_second(rate(&|stats| network(stats, |interface| interface.tx_bytes))),
            read: a_second(rate(&|stats| disk(stats, |device| device.read_bytes))),
            written: a_second(rate(&|stats| disk(stats, |device| device.write_bytes))),
            throttled: throttled.map(|(throttled, all)| throttled / all * 100.0),
        }
    }

    /// Of its limit, in percent.
    pub(super) fn memory_share(&self) -> Option<f64> {
        let (memory, limit) = self.memory.zip(self.limit)?;
        percent_of(memory, limit)
    }
}

fn network(stats: &ContainerStats, counter: impl Fn(&NetworkInterface) -> u64) -> Option<u64> {
    let interfaces = &stats.network.as_ref()?.interfaces;
    Some(interfaces.iter().filter(|interface| interface.name != "lo").map(counter).sum())
}

fn disk(stats: &ContainerStats, counter: impl Fn(&DeviceIo) -> u64) -> Option<u64> {
    Some(stats.io.as_ref()?.devices.iter().map(counter).sum())
}

/// `part` of `whole` in percent, if there is a whole.
pub(super) fn percent_of(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole) * 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{CpuStats, IoStats, MemoryStats, NetworkStats};

    use super::*;

    fn reading(monotonic_nanos: u64, used: u64, received: u64) -> ContainerStats {
        let interface = |name: &str, rx_bytes| NetworkInterface { name: name.into(), rx_bytes, ..Default::default() };
        let cpu = CpuStats {
            usage_nanos: Some(used),
            periods: Some(monotonic_nanos),
            throttled_periods: Some(used),
            ..Default::default()
        };
        ContainerStats {
            monotonic_nanos,
            cpu: Some(cpu),
            memory: Some(MemoryStats { working_set: Some(256), limit: Some(1024), ..Default::default() }),
            network: Some(NetworkStats { interfaces: vec![interface("lo", used), interface("eth0", received)] }),
            io: Some(IoStats { devices: vec![DeviceIo { read_bytes: received, ..Default::default() }; 2] }),
            ..Default::default()
        }
    }

    #[test]
    fn rates_are_of_two_readings() {
        let mut row = Row::new(Container::default());
        row.take(reading(1_000_000_000, 500_000_000, 10));
        assert_eq!((row.value(Key::Cpu), row.value(Key::Memory), row.value(Key::Network)), (None, Some(256.0), None));
        row.take(reading(3_000_000_000, 2_000_000_000, 2010));
        let usage = row.usage.clone().unwrap();
        assert_eq!((usage.cpu, usage.memory_share()), (Some(75.0), Some(25.0)));
        assert_eq!((usage.received, usage.read, usage.throttled), (Some(1000.0), Some(2000.0), Some(75.0)));
        assert_eq!(row.cpu.last(9).collect::<Vec<_>>(), [7500]);
        // It was started anew: its counters are smaller.
        row.take(reading(4_000_000_000, 1, 0));
        assert_eq!(row.usage.clone().unwrap().cpu, None);
        row.stopped();
        assert_eq!((row.value(Key::Cpu), row.value(Key::Age)), (None, None));
    }
}
