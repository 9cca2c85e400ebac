//! Pulling: from a registry on loopback to an image whose layers can be mounted, on a fresh ext4.
//!
//! hull by gRPC, its peers by their commands, in turns. Wall time is that of the command; processor time is user and
//! system of the command, what it started, and of the daemon behind it. The registry's own is nobody's.

mod contenders;
mod images;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hull_tests::harness::{Agent, AgentOptions, Network, Registry, RegistryOptions, connect};

use self::contenders::{Contender, Cost, Hull};
use self::images::Images;
use crate::Result;
use crate::disk::Disk;
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// Bytes of the file system that everybody uses.
const DISK: u64 = 24 << 30;
/// Most rounds of one image: each takes seconds.
const ROUNDS: usize = 7;
/// Rounds of a latency, of which there are many, that one of these stands for.
const ROUND_EVERY: usize = 14;
/// Layers of the image that has many of one size.
const EIGHT: usize = 8;
const HUNDRED: usize = 100;
/// Resident memory while a 2 GB layer comes, bytes.
const MEMORY_GOAL_MB: f64 = 100.0;

/// Everything that the section works with.
struct Bench {
    hull: Hull,
    registry: Registry,
    disk: Disk,
    report: Report,
    rounds: usize,
}

/// Measures and publishes.
pub(crate) async fn measure(rounds: usize, parts: &[String]) -> Result<()> {
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let images = Images::prepare()?;
    let disk = Disk::new(DISK)?;
    let network = Network::new();
    let registry = Registry::start(&network, RegistryOptions::default());
    let options =
        AgentOptions { network: Some(Arc::clone(&network)), below: Some(disk.path().to_owned()), ..Default::default() };
    let agent = Agent::start(options);
    let hull = Hull::new(connect(&agent.socket()).await?, agent);
    let report = Report::new("pull", "images from a registry on loopback");
    let mut bench = Bench { hull, registry, disk, report, rounds: (rounds / ROUND_EVERY).clamp(1, ROUNDS) };
    for (image, goal, tar_goal) in
        [("small-gz", 0.4, Some(1.0)), ("small-zst", 0.4, Some(1.0)), ("large-gz", 0.7, None), ("large-zst", 0.6, None)]
    {
        if !wanted(image) {
            continue;
        }
        bench.registry.push(&images.source(image), &format!("bench/{image}:1"), &[]);
        bench.side_by_side(image, &images.layer(image), goal, tar_goal).await?;
    }
    if wanted("removal") {
        bench.removal(&images).await?;
    }
    if wanted("eight") {
        bench.eight(&images).await?;
    }
    if wanted("hundred") {
        bench.hundred(&images).await?;
    }
    if wanted("memory") {
        bench.memory(&images).await?;
    }
    bench.report.publish()?;
    let Bench { hull, registry, disk, .. } = bench;
    hull.close().await;
    drop((registry, disk));
    Ok(())
}

impl Bench {
    fn name(&self, image: &str) -> String {
        self.registry.name(&format!("bench/{image}:1"))
    }

    /// One image by everybody in turns; what does not take it is left out and said so.
    async fn side_by_side(&mut self, image: &str, layer: &Path, goal: f64, tar_goal: Option<f64>) -> Result<()> {
        let name = self.name(image);
        let mut contenders = contenders::all(self.registry.network(), self.disk.path(), layer)?;
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
        let mut of_hull = Vec::new();
        // One round to warm up what is cached: the registry's blobs, programs.
        for round in 0..=self.rounds {
            let cost = self.hull.pull(&name).await?;
            self.hull.remove(&name).await?;
            if round > 0 {
                of_hull.push(cost);
            }
            let mut left = Vec::new();
            for (contender, costs) in contenders.iter_mut().zip(&mut costs) {
                match contender.pull(&name) {
                    Ok(cost) if round > 0 => costs.push(cost),
                    Ok(_) => {}
                    Err(error) if round == 0 => left.push((contender.name(), error.to_string())),
                    Err(error) => return Err(error),
                }
            }
            for (gone, why) in left {
                self.report
                    .notes
                    .push(format!("{gone} does not take {image}: {}", why.lines().last().unwrap_or_default()));
                let index = contenders.iter().position(|contender| contender.name() == gone).unwrap_or_default();
                contenders.remove(index);
                costs.remove(index);
            }
        }
        let wall = |costs: &[Cost]| costs.iter().map(|cost| cost.wall).collect::<Vec<_>>();
        let cpu = |costs: &[Cost]| costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>();
        let names = std::iter::once("hull").chain(contenders.iter().map(Contender::name));
        let costs: Vec<(&str, Vec<Cost>)> = names.zip(std::iter::once(of_hull).chain(costs)).collect();
        for (who, costs) in &costs {
            self.report.measure(Measure::new(format!("{image}: {who}, wall"), "s", wall(costs)));
            self.report.measure(Measure::new(format!("{image}: {who}, cpu"), "s", cpu(costs)));
        }
        let ours = &costs[0].1;
        for (who, theirs) in costs.iter().skip(1) {
            let limit = match (*who, tar_goal) {
                ("containerd", _) => Goal::AtMost(goal),
                ("tar", Some(goal)) => Goal::AtMost(goal),
                _ => Goal::None,
            };
            let ratio = |of: &dyn Fn(&[Cost]) -> Vec<f64>| median(&of(ours)) / median(&of(theirs));
            self.report.figure(format!("{image}: wall, hull / {who}"), "", ratio(&wall), limit);
            // The goal on processor time is for the small image.
            let limit = if image.starts_with("small") && *who == "containerd" { limit } else { Goal::None };
            self.report.figure(format!("{image}: cpu, hull / {who}"), "", ratio(&cpu), limit);
        }
        Ok(())
    }

    /// Removing the small image, and pulling what is there.
    async fn removal(&mut self, images: &Images) -> Result<()> {
        self.registry.push(&images.source("small-gz"), "bench/small-gz:1", &[]);
        let name = self.name("small-gz");
        let (mut removals, mut again) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            self.hull.pull(&name).await?;
            again.push(self.hull.pull(&name).await?.wall * 1e3);
            removals.push(self.hull.remove(&name).await? * 1e3);
        }
        self.report.figure("small: removing it", "ms", median(&removals), Goal::AtMost(50.0));
        self.report.measure(Measure::new("small: removing it", "ms", removals));
        self.report.measure(Measure::new("small: pulling it when it is there", "ms", again));
        Ok(())
    }

    /// Eight layers side by side, and eight images of one of them each, one after the other.
    async fn eight(&mut self, images: &Images) -> Result<()> {
        self.registry.push(&images.source("eight"), "bench/eight:1", &[]);
        for index in 0..EIGHT {
            self.registry.push(&images.source(&format!("one-{index}")), &format!("bench/one-{index}:1"), &[]);
        }
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let one = self.hull.pull(&self.name("eight")).await?;
            self.hull.remove(&self.name("eight")).await?;
            let mut sum = Cost::default();
            for index in 0..EIGHT {
                let name = self.name(&format!("one-{index}"));
                let cost = self.hull.pull(&name).await?;
                sum = Cost { wall: sum.wall + cost.wall, cpu: sum.cpu + cost.cpu };
                self.hull.remove(&name).await?;
            }
            if round > 0 {
                together.push(one);
                alone.push(sum);
            }
        }
        let walls = |costs: &[Cost]| costs.iter().map(|cost| cost.wall).collect::<Vec<_>>();
        let ratio = median(&walls(&together)) / median(&walls(&alone));
        self.report.figure("eight layers: together / one after the other", "", ratio, Goal::AtMost(0.65));
        for (what, costs) in [("together", together), ("one after the other", alone)] {
            self.report.measure(Measure::new(format!("eight layers {what}, wall"), "s", walls(&costs)));
            let cpu = costs.iter().map(|cost| cost.cpu).collect();
            self.report.measure(Measure::new(format!("eight layers {what}, cpu"), "s", cpu));
        }
        Ok(())
    }

    /// A hundred layers, pulled and run.
    async fn hundred(&mut self, images: &Images) -> Result<()> {
        self.registry.push(&images.source("hundred"), "bench/hundred:1", &[]);
        let name = self.name("hundred");
        let cost = self.hull.pull(&name).await?;
        self.report.figure(format!("{HUNDRED} layers: pulling them"), "s", cost.wall, Goal::None);
        let begun = Instant::now();
        self.hull.run(&name).await?;
        self.report.figure(
            format!("{HUNDRED} layers: their first container runs"),
            "ms",
            begun.elapsed().as_secs_f64() * 1e3,
            Goal::None,
        );
        self.hull.remove(&name).await?;
        Ok(())
    }

    /// Memory while a layer of 2 GB comes.
    async fn memory(&mut self, images: &Images) -> Result<()> {
        self.registry.push(&images.source("huge"), "bench/huge:1", &[]);
        let name = self.name("huge");
        self.hull.forget_peak()?;
        let cost = self.hull.pull(&name).await?;
        self.report.figure(
            "a layer of 2 GB: peak of resident memory",
            "MB",
            self.hull.peak()?,
            Goal::AtMost(MEMORY_GOAL_MB),
        );
        self.report.figure("a layer of 2 GB: pulling it", "s", cost.wall, Goal::None);
        self.hull.remove(&name).await?;
        Ok(())
    }
}
