use std::collections::HashMap;
use std::time::Duration;

use hull_wire::{LogRate, LogUnit, Overrun};
use proptest::prelude::*;

use super::*;
use crate::lifecycle::config::{
    ContainerConfig, Device, DnsConfig, IoMax, LogConfig, Mount, MountKind, NamespaceMode, Namespaces, Resources,
    Rlimit, SeccompProfile, Security, TimeOffsets,
};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_./:-]{1,12}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(text(), 0..4)
}

fn mode() -> impl Strategy<Value = NamespaceMode> {
    prop_oneof![Just(NamespaceMode::Private), Just(NamespaceMode::Host), text().prop_map(NamespaceMode::Container)]
}

fn namespaces() -> impl Strategy<Value = Namespaces> {
    let time = any::<Option<(i64, i64)>>().prop_map(|offsets| {
        offsets.map(|(monotonic_nanos, boottime_nanos)| TimeOffsets { monotonic_nanos, boottime_nanos })
    });
    let cgroup = prop_oneof![Just(NamespaceMode::Private), Just(NamespaceMode::Host)];
    (mode(), mode(), mode(), mode(), cgroup, any::<bool>(), time).prop_map(
        |(pid, network, ipc, uts, cgroup, user_auto, time)| Namespaces {
            pid,
            network,
            ipc,
            uts,
            cgroup,
            user_auto,
            time,
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    let io_max =
        (text(), any::<[Option<u64>; 4]>()).prop_map(|(device, [read_bps, write_bps, read_iops, write_iops])| IoMax {
            device,
            read_bps,
            write_bps,
            read_iops,
            write_iops,
        });
    (
        any::<[Option<i64>; 6]>(),
        any::<[Option<u32>; 2]>(),
        any::<Option<u64>>(),
        proptest::option::of(text()),
        proptest::collection::vec(io_max, 0..3),
        proptest::collection::btree_map(text(), any::<u64>(), 0..3),
    )
        .prop_map(|(signed, weights, cpu_period, cpuset, io_max, hugetlb)| Resources {
            memory_max: signed[0],
            memory_high: signed[1],
            memory_low: signed[2],
            memory_swap_max: signed[3],
            cpu_quota: signed[4],
            pids_max: signed[5],
            cpu_weight: weights[0],
            io_weight: weights[1],
            cpu_period,
            cpuset_cpus: cpuset.clone(),
            cpuset_mems: cpuset,
            io_max,
            hugetlb,
        })
}

fn mounts() -> impl Strategy<Value = Vec<Mount>> {
    let kind = prop_oneof![text().prop_map(|source| MountKind::Bind { source }), Just(MountKind::Tmpfs)];
    let mount = (kind, text(), any::<bool>(), texts()).prop_map(|(kind, target, read_only, options)| Mount {
        kind,
        target,
        read_only,
        options,
    });
    proptest::collection::vec(mount, 0..4)
}

fn security() -> impl Strategy<Value = Security> {
    let seccomp = prop_oneof![
        Just(SeccompProfile::Default),
        Just(SeccompProfile::Unconfined),
        ".{0,20}".prop_map(SeccompProfile::Json)
    ];
    (any::<bool>(), texts(), texts(), any::<bool>(), seccomp).prop_map(
        |(privileged, cap_add, cap_drop, allow_new_privileges, seccomp)| Security {
            privileged,
            cap_add,
            cap_drop,
            allow_new_privileges,
            seccomp,
        },
    )
}

fn device(path: &str) -> Device {
    Device { host_path: path.to_owned(), container_path: path.to_owned(), permissions: "r".into() }
}

fn rlimit((name, soft, hard): (String, u64, u64)) -> Rlimit {
    Rlimit { name: format!("RLIMIT_{name}"), soft, hard }
}

fn log(size: Option<u64>, files: Option<u32>, flags: [bool; 6]) -> LogConfig {
    let rate = |amount| LogRate {
        amount,
        unit: if flags[0] { LogUnit::Bytes } else { LogUnit::Lines },
        overrun: if flags[1] { Overrun::Block } else { Overrun::Drop },
    };
    LogConfig { max_size: size, max_files: files, rate: size.map(rate) }
}

fn container() -> impl Strategy<Value = ContainerConfig> {
    let strings = (text(), ".{0,9}", texts(), texts(), texts(), texts(), texts(), texts());
    let options = proptest::option::of(text());
    let numbers = (
        proptest::option::of(1..=64i32),
        any::<Option<u32>>(),
        any::<Option<i32>>(),
        any::<Option<u64>>(),
        proptest::option::of((0..1u64 << 33).prop_map(Duration::from_nanos)),
        proptest::collection::vec(("[A-Z]{1,9}", any::<u64>(), any::<u64>()), 0..3),
    );
    let parts = (namespaces(), resources(), mounts(), security());
    (strings, options, any::<[bool; 6]>(), numbers, parts).prop_map(|(strings, option, flags, numbers, parts)| {
        let (image, name, list, args, env, groups, masked, readonly) = strings;
        let (stop_signal, umask, oom_score_adj, shm_size, stop_timeout, limits) = numbers;
        let (namespaces, resources, mounts, security) = parts;
        let pairs = || list.iter().map(|text| (text.clone(), name.clone()));
        ContainerConfig {
            image,
            labels: pairs().collect(),
            sysctls: pairs().collect(),
            extra_hosts: pairs().collect(),
            dns: option.is_some().then(|| DnsConfig {
                servers: list.clone(),
                searches: args.clone(),
                options: env.clone(),
            }),
            devices: list.iter().map(|path| device(path)).collect(),
            name,
            entrypoint: list,
            args,
            clear_entrypoint: flags[0],
            env,
            cwd: option.clone(),
            user: option.clone(),
            additional_groups: groups,
            umask,
            terminal: flags[1],
            stdin_open: flags[2],
            stdin_once: flags[3],
            stop_signal,
            stop_timeout,
            auto_remove: flags[4],
            hostname: option.clone(),
            domainname: option,
            namespaces,
            resources,
            mounts,
            read_only_rootfs: flags[5],
            masked_paths: masked,
            readonly_paths: readonly,
            security,
            rlimits: limits.into_iter().map(rlimit).collect(),
            oom_score_adj,
            shm_size,
            log: log(shm_size, umask, flags),
        }
    })
}

proptest! {
    #[test]
    fn a_config_goes_round(config in container()) {
        prop_assert_eq!(config::container(render::config(&config)), Ok(config));
    }

    #[test]
    fn resources_go_round(resources in resources()) {
        prop_assert_eq!(config::resources(render::resources(&resources)), resources);
    }
}

fn minimal() -> v1::ContainerConfig {
    v1::ContainerConfig { image: "demo".into(), ..Default::default() }
}

fn refusal(change: impl FnOnce(&mut v1::ContainerConfig)) -> String {
    let mut config = minimal();
    change(&mut config);
    config::container(config).unwrap_err().to_string()
}

fn namespaces_with(change: impl FnOnce(&mut v1::Namespaces)) -> Option<v1::Namespaces> {
    let mut namespaces = v1::Namespaces::default();
    change(&mut namespaces);
    Some(namespaces)
}

#[test]
fn what_is_absent_is_the_default() {
    let expected = ContainerConfig { image: "demo".into(), ..Default::default() };
    assert_eq!(config::container(minimal()), Ok(expected));
}

#[test]
fn defaults_within_parts_are_filled_in() {
    let mut config = minimal();
    config.devices = vec![v1::Device { host_path: "/dev/kvm".into(), ..Default::default() }];
    config.rlimits = vec![v1::Rlimit { r#type: "nofile".into(), soft: 1, hard: 2 }];
    let parsed = config::container(config).unwrap();
    let device = Device { host_path: "/dev/kvm".into(), container_path: "/dev/kvm".into(), permissions: "rwm".into() };
    assert_eq!(parsed.devices, [device]);
    assert_eq!(parsed.rlimits[0].name, "RLIMIT_NOFILE");
}

#[test]
fn what_is_wrong_is_refused_by_its_path() {
    let unknown = |mode| Some(v1::Namespace { mode, container: String::new() });
    for (problem, path) in [
        (refusal(|c| c.image.clear()), "config.image: is required"),
        (refusal(|c| c.init = true), "config.init: "),
        (refusal(|c| c.stop_signal = "SIGNOPE".into()), "config.stop_signal: "),
        (refusal(|c| c.stop_timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 })), "config.stop_timeout: "),
        (refusal(|c| c.mounts = vec![Default::default()]), "config.mounts[0].type: is required"),
        (
            refusal(|c| c.mounts = vec![v1::Mount { r#type: 7, ..Default::default() }]),
            "config.mounts[0].type: 7 is none of its values",
        ),
        (
            refusal(|c| c.mounts = vec![v1::Mount { r#type: 1, ..Default::default() }]),
            "config.mounts[0].source: is required",
        ),
        (
            refusal(|c| c.mounts = vec![v1::Mount { r#type: 2, source: "/x".into(), ..Default::default() }]),
            "config.mounts[0].source: a tmpfs has no source",
        ),
        (refusal(|c| c.namespaces = namespaces_with(|n| n.pid = unknown(9))), "config.namespaces.pid.mode: 9 "),
        (
            refusal(|c| c.namespaces = namespaces_with(|n| n.ipc = unknown(3))),
            "config.namespaces.ipc.container: is required",
        ),
        (refusal(|c| c.namespaces = namespaces_with(|n| n.user = -1)), "config.namespaces.user: -1 "),
        (
            refusal(|c| {
                let container = v1::Namespace { mode: 3, container: "a".into() };
                c.namespaces = namespaces_with(|n| n.cgroup = Some(container));
            }),
            "config.namespaces.cgroup.mode: ",
        ),
        (
            refusal(|c| {
                let stray = v1::Namespace { mode: 2, container: "a".into() };
                c.namespaces = namespaces_with(|n| n.uts = Some(stray));
            }),
            "config.namespaces.uts.container: ",
        ),
        (refusal(|c| c.rlimits = vec![Default::default()]), "config.rlimits[0].type: is required"),
        (
            refusal(|c| {
                let profile = Some(v1::seccomp::Profile::Unconfined(false));
                c.security = Some(v1::Security { seccomp: Some(v1::Seccomp { profile }), ..Default::default() });
            }),
            "config.security.seccomp.unconfined: ",
        ),
    ] {
        assert!(problem.starts_with(path), "{problem}");
    }
}

#[test]
fn exec_needs_a_program_and_a_terminal_for_its_size() {
    let start = v1::ExecStart { container: "a".into(), argv: vec!["sh".into()], ..Default::default() };
    let (container, parsed) = config::exec(start.clone()).unwrap();
    assert_eq!((container.as_str(), parsed.terminal), ("a", None));
    let terminal = v1::ExecStart { terminal: true, ..start.clone() };
    assert_eq!(config::exec(terminal.clone()).unwrap().1.terminal, Some((24, 80)));
    let size = Some(v1::TerminalSize { rows: 70_000, columns: 1 });
    let problem = config::exec(v1::ExecStart { terminal_size: size, ..terminal }).unwrap_err();
    assert!(problem.message.starts_with("start.terminal_size.rows: "), "{problem}");
    assert!(config::exec(v1::ExecStart { terminal_size: size, ..start.clone() }).is_err());
    assert!(config::exec(v1::ExecStart { argv: vec![], ..start }).is_err());
}

#[test]
fn enumerations_refuse_what_they_do_not_have() {
    assert_eq!(wait_condition(0), Ok(WaitCondition::NotRunning));
    assert!(wait_condition(4).is_err());
    assert!(state("filter.states[0]", 0).is_err());
    assert!(log_options(&v1::StreamLogsRequest { stream: 3, ..Default::default() }).is_err());
    let labels = HashMap::new();
    let config = Some(v1::ImageConfig { labels, ..Default::default() });
    assert!(images::import(v1::ImportStart { format: 4, tags: vec![], config }).is_err());
}
