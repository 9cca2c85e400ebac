//! What statistics tell, held against work of a known amount and against the kernel's own files.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hull_proto::v1::{
    ContainerConfig, GetStatsRequest, Namespace, NamespaceMode, Namespaces, NetworkInterface, NetworkStats, Resources,
    StatsGroup, StatsSelector,
};
use hull_tests::harness::stats::{groups, select, stats};
use hull_tests::harness::{Session, assert_error, host, wait};
use tonic::Code;

const MIB: u64 = 1 << 20;

/// The number after a key in a file of "KEY VALUE" lines, or the only one in it where the key is empty.
fn number(path: &Path, key: &str) -> u64 {
    let text = host::text(path);
    let found = if key.is_empty() {
        Some(text.trim())
    } else {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    found.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{key:?} in {}: {text}", path.display()))
}

/// What a statistic is between two looks at the kernel's file.
async fn between<T>(
    hull: &Session,
    id: &str,
    look: impl Fn() -> u64,
    of: impl AsyncFn(&Session, &str) -> T,
) -> (u64, T, u64) {
    let before = look();
    let value = of(hull, id).await;
    (before, value, look())
}

#[tokio::test]
async fn values_agree_with_the_kernel_s_files() {
    let hull = Session::shared().await;
    let limits = Resources { memory_max: Some(128 << 20), pids_max: Some(50), ..Resources::default() };
    let id = hull.run(ContainerConfig { resources: Some(limits), ..hull.probe(&["alloc", "32"]) }).await;
    hull.until_logged(&id, "allocated").await;
    let stats = stats(&hull, &id).await;
    let container = hull.get(&id).await;
    assert_eq!((stats.id.as_str(), stats.name.as_str()), (id.as_str(), container.name.as_str()));
    let file = |controller: &str, v2: &str, v1: &str| host::cgroup_file(controller, &container.cgroup_path, v2, v1);
    let near = |one: Option<u64>, other: u64| one.is_some_and(|one| one.abs_diff(other) <= 4 << 20);
    let memory = stats.memory.expect("memory");
    assert!(near(memory.usage, number(&file("memory", "memory.current", "memory.usage_in_bytes"), "")), "{memory:?}");
    // 32 MiB touched, and what a small static program has beside them.
    assert!((32 * MIB..36 * MIB).contains(&memory.anon.expect("anon")), "{memory:?}");
    let stat = file("memory", "memory.stat", "memory.stat");
    let (anon, cache, mapped, prefix) = if host::is_pure_v2() {
        ("anon", "file", "file_mapped", "")
    } else {
        ("total_rss", "total_cache", "total_mapped_file", "total_")
    };
    assert!(near(memory.anon, number(&stat, anon)) && near(memory.file, number(&stat, cache)), "{memory:?}");
    assert!(near(memory.mapped_file, number(&stat, mapped)), "{memory:?}");
    for (value, key) in [
        (memory.active_anon, "active_anon"),
        (memory.inactive_anon, "inactive_anon"),
        (memory.active_file, "active_file"),
        (memory.inactive_file, "inactive_file"),
        (memory.shmem, "shmem"),
        (memory.unevictable, "unevictable"),
    ] {
        assert!(near(value, number(&stat, &format!("{prefix}{key}"))), "{key}: {memory:?}");
    }
    // It only waits: it has no faults any more.
    assert_eq!(memory.faults, Some(number(&stat, &format!("{prefix}pgfault"))));
    assert!(memory.major_faults.is_some() && memory.kernel.is_some() && memory.peak >= memory.anon, "{memory:?}");
    assert!(memory.working_set <= memory.usage && memory.working_set >= memory.anon, "{memory:?}");
    assert_eq!((memory.limit, memory.oom_kills, memory.max_events), (Some(128 << 20), Some(0), Some(0)));
    let pids = stats.pids.expect("pids");
    let current = number(&file("pids", "pids.current", "pids.current"), "");
    assert_eq!((pids.current, pids.limit, pids.processes), (Some(current), Some(50), Some(1)));
    assert!(stats.monotonic_nanos > 0 && stats.time.is_some() && stats.since_monotonic_nanos.is_none());
}

#[tokio::test]
async fn processor_time_is_what_was_burnt() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["burn-exactly", "300"])).await;
    let line = hull.until_logged(&id, "burnt").await;
    let burnt: u64 = line.trim_start_matches("burnt ").parse().expect("nanoseconds");
    let cgroup = hull.get(&id).await.cgroup_path;
    let unified = host::unified_root().join(cgroup.trim_start_matches('/')).join("cpu.stat");
    let usage = |line: &'static str| number(&unified, line) * 1000;
    let (before, cpu, after) =
        between(&hull, &id, || usage("usage_usec"), async |hull, id| stats(hull, id).await.cpu).await;
    let cpu = cpu.expect("cpu");
    let used = cpu.usage_nanos.expect("usage");
    assert!((before..=after).contains(&used), "{before} {used} {after}");
    // What the probe used, and what setting it up and waiting took; its clock is finer than the group's.
    assert!(used + 1_000_000 >= burnt && used < burnt + 200_000_000, "{used} of {burnt}");
    let (user, system) = (cpu.user_nanos.expect("user"), cpu.system_nanos.expect("system"));
    assert!((user + system).abs_diff(used) < 10_000_000, "{cpu:?}");
    if host::is_pure_v2() {
        // How the kernel parts it; emulation makes more of it the kernel's.
        let parts = (usage("user_usec"), usage("system_usec"));
        assert!(user.abs_diff(parts.0) < 10_000_000 && system.abs_diff(parts.1) < 10_000_000, "{cpu:?} {parts:?}");
    } else {
        assert!(user > system, "{cpu:?}");
    }
    assert!(cpu.per_cpu_nanos.is_empty() || cpu.per_cpu_nanos.iter().sum::<u64>() + 1_000_000 >= burnt, "{cpu:?}");
}

#[tokio::test]
async fn throttling_is_counted() {
    let hull = Session::shared().await;
    let limits = Resources { cpu_quota: Some(5_000), cpu_period: Some(50_000), ..Resources::default() };
    let id = hull.run(ContainerConfig { resources: Some(limits), ..hull.probe(&["burn-exactly", "60"]) }).await;
    hull.until_logged(&id, "burnt").await;
    let cgroup = hull.get(&id).await.cgroup_path;
    let file = host::cgroup_file("cpu", &cgroup, "cpu.stat", "cpu.stat");
    let look = || number(&file, "nr_throttled");
    let (before, found, after) = between(&hull, &id, look, async |hull, id| stats(hull, id).await).await;
    let cpu = found.cpu.expect("cpu");
    let throttled = cpu.throttled_periods.expect("throttled periods");
    assert!((before..=after).contains(&throttled) && throttled >= 3, "{before} {cpu:?} {after}");
    let nanos =
        if host::is_pure_v2() { number(&file, "throttled_usec") * 1000 } else { number(&file, "throttled_time") };
    assert!(cpu.throttled_nanos.is_some_and(|told| told > 0 && told <= nanos), "{cpu:?}");
    assert!(cpu.periods >= cpu.throttled_periods);
    // It stood still for want of a processor, and nothing else in it went on.
    let pressure = found.pressure.expect("pressure").cpu.expect("cpu");
    assert!(pressure.some.expect("some").total_nanos > 10_000_000, "{pressure:?}");
}

#[tokio::test]
async fn pressure_is_the_kernel_s() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["burn-exactly", "50"])).await;
    hull.until_logged(&id, "burnt").await;
    let group = host::unified_root().join(hull.get(&id).await.cgroup_path.trim_start_matches('/'));
    let total = |file: &str, line: &str| {
        let text = host::text(group.join(file));
        let line = text.lines().find(|found| found.starts_with(line)).unwrap_or_else(|| panic!("{file}: {text}"));
        line.rsplit_once("total=").expect("a total").1.parse::<u64>().expect("a number") * 1000
    };
    for (name, at) in [("cpu.pressure", 0), ("memory.pressure", 1), ("io.pressure", 2)] {
        for line in ["some", "full"] {
            let before = total(name, line);
            let pressure = stats(&hull, &id).await.pressure.expect("pressure");
            let after = total(name, line);
            let found = [pressure.cpu, pressure.memory, pressure.io][at].expect(name);
            let stall = if line == "some" { found.some } else { found.full }.expect(line);
            assert!((before..=after).contains(&stall.total_nanos), "{name} {line}: {before} {stall:?} {after}");
            assert!(
                [stall.avg10, stall.avg60, stall.avg300].iter().all(|avg| (0.0..=100.0).contains(avg)),
                "{stall:?}"
            );
        }
    }
}

#[tokio::test]
async fn bytes_that_were_synced_are_bytes_written() {
    let hull = Session::shared().await;
    let device = std::fs::metadata(hull.agent.data_dir()).expect("the data directory").dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let sys = format!("/sys/dev/block/{major}:{minor}");
    if !Path::new(&sys).exists() {
        eprintln!("skipped: {} is on no block device", hull.agent.data_dir().display());
        return;
    }
    let id = hull.run(hull.probe(&["write-synced", "/written", "8388608"])).await;
    hull.until_logged(&id, "written").await;
    let io = stats(&hull, &id).await.io.expect("io");
    let written: u64 = io.devices.iter().map(|device| device.write_bytes).sum();
    let operations: u64 = io.devices.iter().map(|device| device.write_ops).sum();
    // The file, and what its file system writes about it on the container's behalf.
    assert!((8 * MIB..12 * MIB).contains(&written) && (1..=4096).contains(&operations), "{io:?}");
}

#[tokio::test]
async fn forked_processes_and_threads_are_counted() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["fork", "7"])).await;
    assert_eq!(hull.until_logged(&id, "forked").await, "forked 7 0");
    let pids = stats(&hull, &id).await.pids.expect("pids");
    assert_eq!((pids.current, pids.processes), (Some(8), Some(8)));
}

#[tokio::test]
async fn open_files_of_few_processes_are_counted_where_the_kernel_tells() {
    let hull = Session::shared().await;
    let tells = std::fs::metadata("/proc/self/fd").expect("descriptors").len() > 0;
    for (forks, counted) in [(None, true), (Some(7), true), (Some(20), false)] {
        let command = forks.map_or(vec!["sleep".to_owned()], |count| vec!["fork".to_owned(), count.to_string()]);
        let id = hull.run(hull.probe(&command.iter().map(String::as_str).collect::<Vec<_>>())).await;
        if forks.is_some() {
            hull.until_logged(&id, "forked").await;
        }
        let init = hull.get(&id).await.pid;
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).expect("children");
        let pids: Vec<&str> = children.split_whitespace().collect();
        assert_eq!(pids.len(), forks.unwrap_or(0));
        let listed = |pid: &str| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count() as u64;
        let truth = listed(&init.to_string()) + pids.into_iter().map(listed).sum::<u64>();
        let found = stats(&hull, &id).await.open_files;
        assert_eq!(found, (tells && counted).then_some(truth), "{forks:?}");
        // Nor is anything else told to who asks for them alone.
        let request = GetStatsRequest { selector: select(&[&id]), groups: groups(&[StatsGroup::OpenFiles]) };
        let alone = hull.clients.stats.clone().get_stats(request).await.expect("GetStats").into_inner().stats.remove(0);
        assert_eq!((alone.open_files, alone.pids, alone.cpu), (found, None, None));
    }
}

fn interface<'a>(network: &'a Option<NetworkStats>, name: &str) -> &'a NetworkInterface {
    let network = network.as_ref().expect("network");
    network.interfaces.iter().find(|interface| interface.name == name).unwrap_or_else(|| panic!("{network:?}"))
}

#[tokio::test]
async fn bytes_sent_are_bytes_counted() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["send", "250", "1000"])).await;
    hull.until_logged(&id, "sent").await;
    let network = stats(&hull, &id).await.network;
    assert_eq!(network.as_ref().expect("network").interfaces.len(), 1);
    // Each with the headers of IP and UDP.
    let bytes = 250 * (1000 + 20 + 8);
    let expected = NetworkInterface {
        name: "lo".into(),
        rx_bytes: bytes,
        rx_packets: 250,
        tx_bytes: bytes,
        tx_packets: 250,
        ..NetworkInterface::default()
    };
    assert_eq!(*interface(&network, "lo"), expected);
    // One that joins the network namespace has its numbers; one with the host's network has none of its own.
    let with = |mode: NamespaceMode, container: &str| {
        let network = Some(Namespace { mode: mode.into(), container: container.into() });
        let namespaces = Some(Namespaces { network, ..Namespaces::default() });
        ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }
    };
    let joined = hull.run(with(NamespaceMode::Container, &id)).await;
    assert_eq!(*interface(&stats(&hull, &joined).await.network, "lo"), expected);
    let with_host = hull.run(with(NamespaceMode::Host, "")).await;
    assert_eq!(stats(&hull, &with_host).await.network, None);
}

#[tokio::test]
async fn out_of_memory_kills_are_counted() {
    let hull = Session::shared().await;
    // Version 1 does not count run-ins with a limit of memory and swap together.
    let memory_swap_max = host::is_pure_v2().then_some(0);
    let limits = Resources { memory_max: Some(24 << 20), memory_swap_max, ..Resources::default() };
    let line = "/probe alloc 200; echo ended $?; sleep 1000";
    let id = hull.run(ContainerConfig { resources: Some(limits), ..hull.shell(line) }).await;
    assert_eq!(hull.until_logged(&id, "ended").await, "ended 137");
    let memory = stats(&hull, &id).await.memory.expect("memory");
    assert_eq!(memory.oom_kills, Some(1), "{memory:?}");
    assert!(memory.max_events > Some(0) && memory.peak > Some(20 << 20), "{memory:?}");
    if host::is_pure_v2() {
        assert!(memory.oom_events >= Some(1) && memory.low_events == Some(0) && memory.high_events == Some(0));
    } else {
        // Version 1 does not tell them: absent, not zero.
        assert_eq!((memory.oom_events, memory.low_events, memory.high_events), (None, None, None));
    }
}

#[tokio::test]
async fn the_writable_layer_is_what_was_measured_last() {
    let hull = Session::own().await;
    let writes = hull.shell("dd if=/dev/zero of=/big bs=1M count=5 2>/dev/null; echo written; sleep 1000");
    let id = hull.run(writes).await;
    hull.until_logged(&id, "written").await;
    // The end of another makes the agent look at what is to be measured.
    hull.output(hull.probe(&["exit", "0"])).await;
    let layer = wait::until_async("it is measured", || async { stats(&hull, &id).await.writable_layer }).await;
    assert!((5 * MIB..6 * MIB).contains(&layer.bytes) && (2..20).contains(&layer.inodes), "{layer:?}");
    assert!(layer.measured_at.is_some());
    // Known from the first sample on where it was measured before.
    hull.kill(&id, "KILL").await;
    hull.wait(&id).await;
    hull.start(&id).await;
    let again = stats(&hull, &id).await.writable_layer.expect("the layer");
    assert!(again.bytes >= 5 * MIB, "{again:?}");
}

#[tokio::test]
async fn the_node_s_totals_are_the_kernel_s() {
    let hull = Session::shared().await;
    let request = || GetStatsRequest { groups: groups(&[StatsGroup::Node]), ..Default::default() };
    let total = |key: &str| {
        let text = host::text("/proc/meminfo");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).expect("the key");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    let busy = || {
        let text = host::text("/proc/stat");
        let line = text.lines().next().expect("a line").trim_start_matches("cpu ");
        let ticks: Vec<u64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        (ticks[0] + ticks[1]) * 10_000_000
    };
    let before = busy();
    let answer = hull.clients.stats.clone().get_stats(request()).await.expect("GetStats").into_inner();
    let after = busy();
    assert!(answer.stats.is_empty(), "only the node was asked for");
    let node = answer.node.expect("the node");
    let cpu = node.cpu.expect("cpu");
    assert!((before..=after).contains(&cpu.user_nanos), "{before} {cpu:?} {after}");
    let processors = host::text("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    assert_eq!(usize::try_from(cpu.cpus), Ok(processors));
    let memory = node.memory.expect("memory");
    assert_eq!((memory.total, memory.swap_total), (Some(total("MemTotal")), Some(total("SwapTotal"))));
    assert!(memory.available.is_some_and(|bytes| bytes > 0 && bytes < total("MemTotal")), "{memory:?}");
    assert!(node.load.is_some_and(|load| load.load1 >= 0.0 && load.running >= 1 && load.tasks >= load.running));
    assert_eq!(node.pressure.is_some(), Path::new("/proc/pressure/cpu").exists());
    let disk = node.disk.expect("disk");
    let found = nix::sys::statvfs::statvfs(&hull.agent.data_dir()).expect("statvfs");
    assert_eq!(disk.bytes, found.blocks() * found.fragment_size());
    assert!(disk.free_bytes > 0 && disk.free_bytes <= disk.bytes);
    // Nobody asked for it: it is not there.
    let other = GetStatsRequest { selector: select(&[]), ..Default::default() };
    assert_eq!(hull.clients.stats.clone().get_stats(other).await.expect("GetStats").into_inner().node, None);
}

#[tokio::test]
async fn groups_that_nobody_asked_for_are_absent() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let ask = async |groups: Vec<i32>| {
        let request = GetStatsRequest { selector: select(&[&id]), groups };
        hull.clients.stats.clone().get_stats(request).await.map(|answer| answer.into_inner().stats.remove(0))
    };
    let few = ask(groups(&[StatsGroup::Cpu, StatsGroup::Network])).await.expect("GetStats");
    assert!(few.cpu.is_some() && few.network.is_some());
    assert!(few.open_files.is_none());
    assert!(few.memory.is_none() && few.pids.is_none() && few.io.is_none() && few.pressure.is_none());
    let all = ask(Vec::new()).await.expect("GetStats");
    assert!(
        all.cpu.is_some() && all.memory.is_some() && all.pids.is_some() && all.io.is_some() && all.network.is_some()
    );
    for wrong in [0, 77] {
        assert_error(ask(vec![1, wrong]).await, Code::InvalidArgument, "INVALID_ARGUMENT", "groups");
    }
}

#[tokio::test]
async fn labels_select() {
    let hull = Session::shared().await;
    let mut config = hull.probe(&["sleep"]);
    config.labels.insert("stats".into(), hull.name("chosen"));
    let id = hull.run(config).await;
    hull.run(hull.probe(&["sleep"])).await;
    let labels = [("stats".to_owned(), hull.name("chosen"))].into();
    let selector = Some(StatsSelector { labels, ..StatsSelector::default() });
    let request = GetStatsRequest { selector, ..Default::default() };
    let answer = hull.clients.stats.clone().get_stats(request).await.expect("GetStats").into_inner();
    assert_eq!(answer.stats.iter().map(|stats| stats.id.clone()).collect::<Vec<_>>(), [id]);
}
