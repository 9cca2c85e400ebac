//! The thread that reads: its schedule and its open files.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::group::{Group, Groups};
use super::read::{Budget, Gone, NodeReader, Reader, Scratch};
use super::sample::{Moment, NodeSample, Sample, Usage};
use super::shared::{Order, Readers, Selection, Shared, Work};
use super::subscription::Reading;
use super::target::Target;

/// Intervals are multiples of this, so that however many subscribers there are, there are no more passes than this allows.
const TICK: Duration = Duration::from_millis(100);
/// Samples of a container that are kept to be written over: one may be with readers while the other is made.
const KEPT: usize = 2;

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
}

/// Starts the thread; it ends when nobody wants anything any more.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<()> {
    let run = move || {
        let mut sampler = Sampler::new(&shared);
        while let Some(work) = shared.next_work() {
            let (begun, reads) = (Instant::now(), !work.orders.is_empty());
            sampler.work(work);
            if reads {
                shared.passed(begun.elapsed());
            }
        }
    };
    std::thread::Builder::new().name("stats".to_owned()).stack_size(256 * 1024).spawn(run).map(drop)
}

/// The readers of one run of the thread, and with them the open files.
pub(super) struct Sampler {
    /// By run.
    entries: HashMap<u64, Entry>,
    node: NodeEntry,
    scratch: Scratch,
    pass: u64,
}

/// One container.
struct Entry {
    reader: Reader,
    /// The newest last.
    samples: Vec<Arc<Sample>>,
    /// In which pass that was read.
    pass: u64,
    /// Groups that the pass under way is to read.
    wanted: Groups,
    /// Whether the pass under way is to read everything anew.
    afresh: bool,
}

/// The node.
struct NodeEntry {
    reader: NodeReader,
    newest: Option<Arc<NodeSample>>,
    pass: u64,
}

impl Sampler {
    pub(super) fn new(shared: &Shared) -> Self {
        let node = NodeEntry { reader: NodeReader::new(shared.data_dir.clone()), newest: None, pass: 0 };
        Self { entries: HashMap::new(), node, scratch: Scratch::new(Budget::of_process()), pass: 0 }
    }

    pub(super) fn work(&mut self, work: Work) {
        for target in work.departed {
            self.close(target.run);
        }
        if !work.orders.is_empty() {
            self.serve(work.orders);
        }
        if let Some(wanted) = work.wanted {
            self.trim(&wanted);
        }
    }

    /// One pass: each container once, however many want it.
    fn serve(&mut self, orders: Vec<Order>) {
        self.pass += 1;
        let now = Moment::now().monotonic_nanos;
        for order in &orders {
            for target in order.targets.iter() {
                let entry = self.entries.entry(target.run).or_insert_with(|| Entry::new(Arc::clone(target)));
                entry.want(order, now);
            }
        }
        for order in orders {
            let mut samples = Vec::with_capacity(order.targets.len());
            samples.extend(order.targets.iter().filter_map(|target| self.read(target)));
            let node = order.groups.has(Group::Node).then(|| self.read_node(order.max_age, now));
            let reading = Arc::new(Reading::new(samples, node));
            match order.readers {
                Readers::Subscribers(slots) => slots.iter().for_each(|slot| slot.put(Arc::clone(&reading))),
                // Who asked may have gone.
                Readers::Once(answer) => drop(answer.send(reading)),
            }
        }
    }

    fn read(&mut self, target: &Target) -> Option<Arc<Sample>> {
        let entry = self.entries.get_mut(&target.run)?;
        let (wanted, afresh) = (entry.wanted, entry.afresh);
        let mut outcome = entry.read(self.pass, &mut self.scratch);
        if self.scratch.is_exhausted() {
            // Others need descriptors: those that are kept go, and none is kept from now on.
            self.entries.values_mut().for_each(|entry| entry.reader.keep_only(Groups::NONE, &mut self.scratch));
            self.node.reader.close(&mut self.scratch);
            self.scratch.stop_keeping();
            let entry = self.entries.get_mut(&target.run)?;
            (entry.pass, entry.wanted, entry.afresh) = (0, wanted, afresh);
            outcome = entry.read(self.pass, &mut self.scratch);
        }
        if outcome.is_err() {
            self.close(target.run);
        }
        outcome.ok()
    }

    fn read_node(&mut self, max_age: Duration, now: u64) -> Arc<NodeSample> {
        let node = &mut self.node;
        if let Some(newest) = &node.newest
            && (node.pass == self.pass || is_younger(newest.at, max_age, now))
        {
            return Arc::clone(newest);
        }
        let sample = Arc::new(node.reader.read(&mut self.scratch));
        node.pass = self.pass;
        node.newest = Some(Arc::clone(&sample));
        sample
    }

    /// Closes what no subscriber wants.
    fn trim(&mut self, wanted: &[(Selection, Groups)]) {
        let mut of_run: HashMap<u64, Groups> = HashMap::new();
        for (selection, groups) in wanted {
            for target in selection.iter() {
                let all = of_run.entry(target.run).or_default();
                *all = all.union(*groups);
            }
        }
        let scratch = &mut self.scratch;
        self.entries.retain(|run, entry| {
            let groups = of_run.get(run).copied().unwrap_or(Groups::NONE);
            entry.reader.keep_only(groups, scratch);
            of_run.contains_key(run)
        });
        if !wanted.iter().any(|(_, groups)| groups.has(Group::Node)) {
            self.node.reader.close(scratch);
            self.node.newest = None;
        }
    }

    fn close(&mut self, run: u64) {
        if let Some(mut entry) = self.entries.remove(&run) {
            entry.reader.keep_only(Groups::NONE, &mut self.scratch);
        }
    }
}

impl Entry {
    fn new(target: Arc<Target>) -> Self {
        Self {
            reader: Reader::new(target),
            samples: Vec::with_capacity(KEPT),
            pass: 0,
            wanted: Groups::NONE,
            afresh: false,
        }
    }

    /// Notes what the pass is to read. What is young enough is not read again.
    fn want(&mut self, order: &Order, now: u64) {
        let groups = order.groups.intersection(Groups::CONTAINER);
        let young = self
            .samples
            .last()
            .is_some_and(|sample| sample.groups.contain(groups) && is_younger(sample.at, order.max_age, now));
        if !young {
            self.wanted = self.wanted.union(groups);
            // Who asks once has no frame before that would have told it.
            self.afresh |= order.max_age.is_zero() && matches!(order.readers, Readers::Once(_));
        }
    }

    /// The sample of this pass, read if it was not yet, or one that is young enough.
    fn read(&mut self, pass: u64, scratch: &mut Scratch) -> Result<Arc<Sample>, Gone> {
        if (self.pass == pass || self.wanted == Groups::NONE)
            && let Some(newest) = self.samples.last()
        {
            return Ok(Arc::clone(newest));
        }
        let (mut sample, known) = self.place();
        // Nobody else has it: this copies nothing.
        let place = Arc::make_mut(&mut sample);
        place.identity = self.reader.target().identity();
        place.at = Moment::now();
        place.groups = std::mem::take(&mut self.wanted);
        self.reader.read(place, known, std::mem::take(&mut self.afresh), scratch)?;
        self.samples.push(Arc::clone(&sample));
        self.pass = pass;
        Ok(sample)
    }

    /// A sample that no reader holds, and whether it has the values of the newest.
    fn place(&mut self) -> (Arc<Sample>, bool) {
        let Some(mut newest) = self.samples.pop() else { return (Arc::new(self.empty()), false) };
        if Arc::get_mut(&mut newest).is_some() {
            return (newest, true);
        }
        let oldest = self.samples.pop().and_then(|mut oldest| {
            Arc::get_mut(&mut oldest)?.usage.copy(&newest.usage);
            Some(oldest)
        });
        let place = oldest.unwrap_or_else(|| Arc::new((*newest).clone()));
        self.samples.push(newest);
        (place, true)
    }

    fn empty(&self) -> Sample {
        let target = self.reader.target();
        Sample {
            identity: target.identity(),
            run: target.run,
            at: Moment::now(),
            groups: Groups::NONE,
            usage: Usage::default(),
        }
    }
}

/// Whether a reading is younger than `max_age`.
fn is_younger(at: Moment, max_age: Duration, now: u64) -> bool {
    u128::from(now.saturating_sub(at.monotonic_nanos)) < max_age.as_nanos()
}
