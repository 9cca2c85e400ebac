//! StreamStats: frames at an interval, for many readers, at the cost of one.

use std::process::Command;
use std::time::Duration;

use hull_proto::v1::{GetStatsRequest, StatsGroup, StreamStatsRequest, StreamStatsResponse};
use hull_tests::harness::stats::{frame, groups, kept_files, select, stream};
use hull_tests::harness::{Session, assert_error, connect_with_window, duration, host, wait};
use tonic::{Code, Streaming};

fn every(interval: Duration) -> StreamStatsRequest {
    StreamStatsRequest { interval: Some(duration(interval)), ..Default::default() }
}

/// Containers whose frames are large enough to fill buffers soon.
const MANY: usize = 40;
const TENTH: Duration = Duration::from_millis(100);

fn ids(frame: &StreamStatsResponse) -> Vec<&str> {
    frame.stats.iter().map(|stats| stats.id.as_str()).collect()
}

/// The first frame that is as it should be.
async fn until(
    what: &str,
    stream: &mut Streaming<StreamStatsResponse>,
    is_so: impl Fn(&StreamStatsResponse) -> bool,
) -> StreamStatsResponse {
    let found = async {
        loop {
            let frame = frame(stream).await;
            if is_so(&frame) {
                return frame;
            }
        }
    };
    wait::within(what, found).await
}

#[tokio::test]
async fn a_stream_pushes_at_its_interval() {
    let hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let mut stream = stream(&hull.clients, every(TENTH)).await;
    let mut times = Vec::new();
    let mut last = std::time::UNIX_EPOCH;
    while times.len() < 6 {
        let frame = frame(&mut stream).await;
        assert_eq!(ids(&frame), [id.as_str()]);
        times.push(frame.stats[0].monotonic_nanos);
        let wall = std::time::SystemTime::try_from(frame.stats[0].time.expect("a time")).expect("a time");
        assert!(wall > last);
        last = wall;
    }
    assert!(times.is_sorted());
    let average = (times[times.len() - 1] - times[0]) / (times.len() as u64 - 1);
    assert!(average >= 60_000_000, "frames come every {average} ns");
    // The wall clock is the real one.
    assert!(last.elapsed().is_ok_and(|age| age < wait::soon()));
}

#[tokio::test]
async fn the_first_frame_comes_at_once() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let request = StreamStatsRequest { selector: select(&[&id]), ..every(Duration::from_secs(3600)) };
    let mut stream = stream(&hull.clients, request).await;
    let first = frame(&mut stream).await;
    assert_eq!((ids(&first), first.missed), (vec![id.as_str()], 0));
}

#[tokio::test]
async fn containers_that_come_and_go_are_announced() {
    let hull = Session::own().await;
    let first = hull.run(hull.probe(&["sleep"])).await;
    let mut stream = stream(&hull.clients, every(TENTH)).await;
    let begun = frame(&mut stream).await;
    assert_eq!((ids(&begun), begun.started.len(), begun.stopped.len()), (vec![first.as_str()], 0, 0));
    let second = hull.run(hull.probe(&["sleep"])).await;
    let come = until("the second comes", &mut stream, |frame| frame.stats.len() == 2).await;
    assert_eq!((&come.started[..], &come.stopped[..]), (&[second.clone()][..], &[][..]));
    hull.remove(&first).await;
    let gone = until("the first goes", &mut stream, |frame| frame.stats.len() == 1).await;
    assert_eq!((ids(&gone), &gone.stopped[..]), (vec![second.as_str()], &[first.clone()][..]));
    // One that is started anew has come and gone.
    hull.kill(&second, "KILL").await;
    hull.wait(&second).await;
    let ended = until("the second ends", &mut stream, |frame| frame.stats.is_empty()).await;
    assert_eq!((ended.started.len(), &ended.stopped[..]), (0, &[second.clone()][..]));
    hull.start(&second).await;
    let again = until("the second is back", &mut stream, |frame| !frame.stats.is_empty()).await;
    assert_eq!((&again.started[..], again.stopped.len()), (&[second][..], 0));
}

#[tokio::test]
async fn deltas_add_up_to_what_counters_stand_at() {
    let hull = Session::shared().await;
    let id = hull.run(hull.shell("while :; do /probe burn 20 >/dev/null; done")).await;
    let request = |deltas| StreamStatsRequest {
        selector: select(&[&id]),
        deltas,
        groups: groups(&[StatsGroup::Cpu, StatsGroup::Memory, StatsGroup::Pids, StatsGroup::Node]),
        ..every(TENTH)
    };
    let mut stream = stream(&hull.clients, request(true)).await;
    let first = frame(&mut stream).await;
    assert_eq!(first.stats[0].since_monotonic_nanos, None, "the first is since the start");
    let usage =
        |frame: &StreamStatsResponse| frame.stats[0].cpu.as_ref().and_then(|cpu| cpu.usage_nanos).expect("usage");
    let mut sum = usage(&first);
    let mut before = first;
    for _ in 0..6 {
        let next = frame(&mut stream).await;
        assert_eq!(next.stats[0].since_monotonic_nanos, Some(before.stats[0].monotonic_nanos));
        let node = next.node.as_ref().expect("the node");
        assert_eq!(node.since_monotonic_nanos, before.node.as_ref().map(|node| node.monotonic_nanos));
        // Two processors cannot do more than this between two frames.
        let elapsed = next.stats[0].monotonic_nanos - before.stats[0].monotonic_nanos;
        let cpus = u64::from(node.cpu.expect("cpu").cpus);
        assert!(usage(&next) <= elapsed * cpus + 50_000_000, "{} of {elapsed}", usage(&next));
        // What is no counter is no delta.
        assert!(next.stats[0].memory.as_ref().and_then(|memory| memory.usage) > Some(0));
        assert!(next.stats[0].pids.as_ref().and_then(|pids| pids.current) >= Some(1));
        sum += usage(&next);
        before = next;
    }
    let absolute = GetStatsRequest { selector: select(&[&id]), ..Default::default() };
    let absolute = hull.clients.stats.clone().get_stats(absolute).await.expect("GetStats").into_inner();
    let stands = absolute.stats[0].cpu.as_ref().and_then(|cpu| cpu.usage_nanos).expect("usage");
    assert!(sum > 0 && sum <= stands, "{sum} {stands}");
    assert_eq!(absolute.stats[0].since_monotonic_nanos, None);
}

#[tokio::test]
async fn one_of_fifty_that_never_reads_harms_nobody() {
    let hull = Session::own().await;
    for _ in 0..MANY {
        hull.run(hull.probe(&["sleep"])).await;
    }
    // On a connection of its own, as a program that hangs has. What HTTP/2 holds for it fills up in a second or two.
    let hanging = connect_with_window(&hull.agent.socket(), 16 * 1024).await.expect("connecting");
    let mut lazy = stream(&hanging, every(TENTH)).await;
    let interval = wait::scaled(Duration::from_millis(400));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..49 {
        let mut stream = stream(&hull.clients, every(interval)).await;
        readers.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..12 {
                let frame = frame(&mut stream).await;
                assert_eq!((frame.stats.len(), frame.missed), (MANY, 0), "every frame reaches whoever reads");
                times.push(frame.stats[0].monotonic_nanos);
            }
            times
        });
    }
    let before = host::resident(hull.agent.pid());
    let mut moments = std::collections::BTreeSet::new();
    while let Some(times) = readers.join_next().await {
        moments.extend(times.expect("a reader"));
    }
    // Fifty readers cost the readings of two: theirs, of which first frames have some of their own, and the lazy one's.
    assert!(moments.len() <= 49 + 13, "{} readings", moments.len());
    let after = host::resident(hull.agent.pid());
    assert!(after < before + (8 << 20), "the agent grew from {before} to {after} bytes");
    // What was on its way, then the newest and the count of those that it missed.
    let behind = until("the newest", &mut lazy, |frame| frame.missed > 0).await;
    assert!(behind.missed > 5, "{}", behind.missed);
    let newest = moments.last().copied().unwrap_or_default();
    let caught_up = until("the present", &mut lazy, |frame| frame.stats[0].monotonic_nanos > newest).await;
    assert!(caught_up.missed <= behind.missed, "{} {}", caught_up.missed, behind.missed);
}

#[tokio::test]
async fn files_are_kept_only_as_long_as_somebody_listens() {
    let hull = Session::own().await;
    let first = hull.run(hull.probe(&["sleep"])).await;
    let second = hull.run(hull.probe(&["sleep"])).await;
    assert_eq!(kept_files(&hull.agent), 0);
    let mut slow = stream(&hull.clients, every(Duration::from_secs(3600))).await;
    frame(&mut slow).await;
    let both = kept_files(&hull.agent);
    assert!(both >= 10 && both.is_multiple_of(2), "{both} files");
    // The open interfaces hold a network namespace: they go with the container, and not with the next frame.
    hull.remove(&first).await;
    wait::until("the files of the first are closed", || (kept_files(&hull.agent) == both / 2).then_some(()));
    // A reading beside it leaves nothing open.
    let all = GetStatsRequest::default();
    hull.clients.stats.clone().get_stats(all).await.expect("GetStats");
    wait::until("as many as before", || (kept_files(&hull.agent) == both / 2).then_some(()));
    drop(slow);
    wait::until("all are closed", || (kept_files(&hull.agent) == 0).then_some(()));
    // Groups that nobody asks for are not opened.
    let request = StreamStatsRequest { groups: groups(&[StatsGroup::Pressure]), ..every(TENTH) };
    let mut narrow = stream(&hull.clients, request).await;
    let only = frame(&mut narrow).await;
    assert_eq!((ids(&only), only.stats[0].pressure.is_some()), (vec![second.as_str()], true));
    assert_eq!(kept_files(&hull.agent), 3);
}

#[tokio::test]
async fn few_descriptors_are_enough() {
    const CONTAINERS: usize = 20;
    let hull = Session::own().await;
    for _ in 0..CONTAINERS {
        hull.run(hull.probe(&["sleep"])).await;
    }
    let limit = |most: usize| {
        let pid = hull.agent.pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:")]).status();
        assert!(done.expect("prlimit").success());
    };
    let open = || std::fs::read_dir(format!("/proc/{}/fd", hull.agent.pid())).expect("descriptors").count();
    let whole = |frame: &StreamStatsResponse| {
        frame.stats.len() == CONTAINERS
            && frame.stats.iter().all(|stats| {
                let pids = stats.pids.as_ref().is_some_and(|pids| pids.current.is_some() && pids.limit.is_none());
                let memory =
                    stats.memory.as_ref().is_some_and(|memory| memory.usage.is_some() && memory.anon.is_some());
                pids && memory && stats.network.is_some() && stats.pressure.is_some()
            })
    };
    // Of these, statistics take no more than three quarters.
    let budget = open() * 3;
    limit(open() * 4 + 8);
    let mut stream_of_all = stream(&hull.clients, every(TENTH)).await;
    for _ in 0..5 {
        let frame = frame(&mut stream_of_all).await;
        assert!(whole(&frame), "{frame:?}");
        assert!(kept_files(&hull.agent) <= budget + 6, "{} of {budget}", kept_files(&hull.agent));
    }
    // Those that are always read are among them: of all containers.
    let kept = |name: &str| {
        let links = std::fs::read_dir(format!("/proc/{}/fd", hull.agent.pid())).expect("descriptors");
        let path = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
        path.filter(|path| path.ends_with(name)).count()
    };
    assert_eq!((kept("pids.current"), kept("pids.max")), (CONTAINERS, 0));
    drop(stream_of_all);
    wait::until("all are closed", || (kept_files(&hull.agent) == 0).then_some(()));
    // Nearly all are taken by others: it makes do with one at a time.
    limit(open() + 6);
    let mut stream_of_all = stream(&hull.clients, every(TENTH)).await;
    for _ in 0..5 {
        let frame = frame(&mut stream_of_all).await;
        assert!(whole(&frame), "{frame:?}");
    }
    assert_eq!(kept_files(&hull.agent), 0);
}

#[tokio::test]
async fn wrong_selections_and_intervals_are_refused() {
    let hull = Session::shared().await;
    let mut service = hull.clients.stats.clone();
    let unknown = service.get_stats(GetStatsRequest { selector: select(&["nobody"]), ..Default::default() }).await;
    assert_error(unknown, Code::NotFound, "CONTAINER_NOT_FOUND", "nobody");
    for interval in [Duration::from_millis(99), Duration::from_secs(3601)] {
        let refused = service.stream_stats(every(interval)).await;
        assert_error(refused, Code::InvalidArgument, "INVALID_ARGUMENT", "interval");
    }
}
