//! The thread that reads: its schedule and its open files.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit};

use super::hub::{Order, Shared, Target};
use super::reader::Reader;
use super::sample::{Sample, Usage};

/// Intervals are multiples of this, so that however many subscribers there are, there are no more passes than this allows.
const TICK: Duration = Duration::from_millis(100);

/// An interval as it is kept: the nearest multiple of [`TICK`], at least one.
pub(super) fn rounded(interval: Duration) -> Duration {
    let ticks = (interval + TICK / 2).as_millis() / TICK.as_millis();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

/// The common clock of all subscribers.
pub(super) struct Clock;

impl Clock {
    /// Where multiples are counted from.
    fn origin() -> Instant {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        *ORIGIN.get_or_init(Instant::now)
    }

    /// When the next frame is due: at a multiple of the interval, not sooner than half an interval from now, so that the one after a
    /// first frame does not follow on its heels.
    pub(super) fn next(now: Instant, interval: Duration) -> Instant {
        let earliest = now.saturating_duration_since(Self::origin()) + interval / 2;
        let multiple = earliest.as_nanos().div_ceil(interval.as_nanos().max(1));
        let after = interval.saturating_mul(u32::try_from(multiple).unwrap_or(u32::MAX));
        let due = Self::origin() + after;
        // An agent that has run for 2^32 intervals has no multiples left to share.
        if due > now { due } else { now + interval }
    }

    /// A sample with the time of now.
    pub(super) fn sample(target: &Target, usage: Usage) -> Sample {
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = |value: i64| u64::try_from(value).unwrap_or(0);
        Sample {
            id: target.id.clone(),
            name: target.name.clone(),
            time: SystemTime::now(),
            monotonic_nanos: nanos(clock.tv_sec) * 1_000_000_000 + nanos(clock.tv_nsec),
            usage,
        }
    }
}

/// Starts the thread; it ends when nobody subscribes any more.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<()> {
    let run = move || {
        let mut sampler = Sampler::new();
        while let Some(orders) = shared.next_orders() {
            sampler.serve(&orders);
        }
    };
    std::thread::Builder::new().name("stats".to_owned()).stack_size(256 * 1024).spawn(run).map(drop)
}

/// The readers of one run of the thread, and with them the open files.
struct Sampler {
    readers: HashMap<Arc<str>, (Arc<Target>, Reader)>,
    /// Descriptors that may still be kept.
    budget: usize,
    buffer: Vec<u8>,
}

impl Sampler {
    fn new() -> Self {
        // Half of what the process may open; the rest is for sockets, shims and logs. Beyond it files are opened for each reading.
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        Self { readers: HashMap::new(), budget: usize::try_from(limit / 2).unwrap_or(usize::MAX), buffer: Vec::new() }
    }

    /// One pass: each container once, however many want it.
    fn serve(&mut self, orders: &[Order]) {
        let mut read: HashMap<Arc<str>, Option<Arc<Sample>>> = HashMap::new();
        for order in orders {
            let mut samples = Vec::with_capacity(order.targets.len());
            for target in &order.targets {
                let sample = read.entry(target.id.clone()).or_insert_with(|| self.read(target));
                samples.extend(sample.clone());
            }
            order.slot.put(samples);
        }
        self.forget(&read);
    }

    fn read(&mut self, target: &Arc<Target>) -> Option<Arc<Sample>> {
        if self.readers.get(&target.id).is_none_or(|(known, _)| !Arc::ptr_eq(known, target)) {
            self.close(&target.id);
            let mut reader = Reader::new(&target.dirs, true);
            if reader.descriptors() > self.budget {
                reader = Reader::new(&target.dirs, false);
            }
            self.budget -= reader.descriptors();
            self.readers.insert(target.id.clone(), (target.clone(), reader));
        }
        let (_, reader) = self.readers.get_mut(&target.id)?;
        if let Ok(usage) = reader.read(&mut self.buffer) {
            return Some(Arc::new(Clock::sample(target, usage)));
        }
        self.close(&target.id);
        None
    }

    /// Closes the files of containers that were not read and are registered no more: nobody else holds their target.
    fn forget(&mut self, read: &HashMap<Arc<str>, Option<Arc<Sample>>>) {
        let idle = |(id, (target, _)): (&Arc<str>, &(Arc<Target>, Reader))| {
            (!read.contains_key(id) && Arc::strong_count(target) == 1).then(|| id.clone())
        };
        let ids: Vec<Arc<str>> = self.readers.iter().filter_map(idle).collect();
        for id in ids {
            self.close(&id);
        }
    }

    fn close(&mut self, id: &str) {
        if let Some((_, reader)) = self.readers.remove(id) {
            self.budget += reader.descriptors();
        }
    }
}
