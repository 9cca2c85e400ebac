//! What a container's process is and may do: ids, limits, capabilities, system calls, devices, descriptors.

use std::collections::{BTreeSet, HashMap};

use hull_proto::v1::{
    ContainerConfig, Device, Namespace, NamespaceMode, Namespaces, Rlimit, Seccomp, Security, UserNamespaceMode,
    seccomp,
};
use hull_tests::harness::{Rootfs, Session, assert_error, host, metadata};
use sha2::{Digest as _, Sha256};
use tonic::Code;

const EPERM: &str = "1";
/// Docker's default set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot,
/// mknod, audit_write, setfcap.
const DEFAULT_CAPS: u64 = 0xa804_25fb;

fn security(security: Security) -> Option<Security> {
    Some(security)
}

fn profile(profile: seccomp::Profile) -> Option<Security> {
    Some(Security { seccomp: Some(Seccomp { profile: Some(profile) }), ..Security::default() })
}

fn unconfined() -> Option<Security> {
    profile(seccomp::Profile::Unconfined(true))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What the probe said of system calls: name -> errno.
async fn syscalls(hull: &Session, config: ContainerConfig, names: &[&str]) -> HashMap<String, String> {
    let mut args = words(&["/probe", "syscalls"]);
    args.extend(words(names));
    let output = hull.output(ContainerConfig { args, ..config }).await;
    assert_eq!(output.exit.code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    output
        .lines()
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, errno)| (name.to_owned(), errno.to_owned()))
        .collect()
}

#[tokio::test]
async fn arguments_environment_and_directory_are_those_asked_for() {
    let hull = Session::shared().await;
    let config = ContainerConfig {
        entrypoint: words(&["/probe", "report"]),
        args: words(&["", "two words", "ünï\u{1F600}", "-x"]),
        env: words(&["A=b", "EMPTY=", "FROM_IMAGE=changed", "EQUALS=a=b=c"]),
        cwd: "/var/log".into(),
        ..hull.probe(&[])
    };
    let report = hull.report(config).await;
    assert_eq!(report.argv, ["/probe", "report", "", "two words", "ünï\u{1F600}", "-x"]);
    assert_eq!(report.cwd, "/var/log");
    for (name, value) in [("A", "b"), ("EMPTY", ""), ("FROM_IMAGE", "changed"), ("EQUALS", "a=b=c"), ("HOME", "/root")]
    {
        assert_eq!(report.env.get(name).map(String::as_str), Some(value), "{name}");
    }
    let known: BTreeSet<&str> = ["A", "EMPTY", "FROM_IMAGE", "EQUALS", "HOME", "PATH", "HOSTNAME"].into();
    assert!(report.env.keys().all(|name| known.contains(name.as_str())), "{:?}", report.env);
}

#[tokio::test]
async fn the_image_s_command_is_the_default() {
    let hull = Session::shared().await;
    let report = hull.report(ContainerConfig { args: Vec::new(), ..hull.probe(&[]) }).await;
    assert_eq!(report.argv, ["/probe"]);
    assert_eq!(report.env["FROM_IMAGE"], "yes");
}

#[tokio::test]
async fn users_are_looked_up_in_the_image() {
    let hull = Session::shared().await;
    // User, then: uid, gid, supplementary groups, HOME.
    let cases: [(&str, u32, u32, &[u32], &str); 9] = [
        ("", 0, 0, &[0], "/root"),
        ("0", 0, 0, &[0], "/root"),
        ("app", 1000, 1000, &[1000, 2000, 2001], "/home/app"),
        ("1000", 1000, 1000, &[1000, 2000, 2001], "/home/app"),
        ("app:tools", 1000, 2001, &[2001], "/home/app"),
        ("app:42", 1000, 42, &[42], "/home/app"),
        ("4711", 4711, 0, &[0], "/"),
        ("4711:815", 4711, 815, &[815], "/"),
        ("daemon:daemon", 1, 1, &[1], "/"),
    ];
    for (user, uid, gid, groups, home) in cases {
        let report = hull.report(ContainerConfig { user: user.into(), ..hull.probe(&[]) }).await;
        assert_eq!(report.uids, [uid; 4], "{user:?}");
        assert_eq!(report.gids, [gid; 4], "{user:?}");
        let beyond: BTreeSet<u32> = report.groups.iter().copied().chain([gid]).collect();
        assert_eq!(beyond, groups.iter().copied().chain([gid]).collect(), "{user:?}");
        assert_eq!(report.env["HOME"], home, "{user:?}");
    }
}

#[tokio::test]
async fn a_user_who_is_not_known_never_becomes_root() {
    let hull = Session::shared().await;
    for user in [
        "nobody-knows",
        "app:nogroup",
        "4294967296",
        "-1",
        "18446744073709551616",
        "0x0",
        " 0",
        "0 ",
        "+0",
        "1000:-1",
        ":",
        "app:",
        "1e3",
    ] {
        let id = match hull.try_create(ContainerConfig { user: user.into(), ..hull.probe(&[]) }).await {
            Ok(id) => id,
            Err(status) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{user:?}: {status:?}");
                continue;
            }
        };
        let status = hull.try_start(&id).await.expect_err(user);
        assert_eq!(metadata(&status, "step"), "looking up the user", "{user:?}: {status:?}");
    }
}

#[tokio::test]
async fn user_databases_are_untrusted() {
    let hull = Session::shared().await;
    let base = || Rootfs::empty().dir("bin", 0o755).programs().dir("etc", 0o755);
    let huge = "x".repeat(32 << 20);
    let hostile = [
        ("outside", base().link("etc/passwd", "/proc/1/environ")),
        ("absolute", base().link("etc/passwd", "/etc/group").file("etc/group", 0o644, "app:x:7:7::/:/bin/sh\n")),
        ("huge", base().file("etc/passwd", 0o644, huge)),
        ("fifo", base().fifo("etc/passwd")),
        ("directory", base().dir("etc/passwd", 0o755)),
        ("zeros", base().file("etc/passwd", 0o644, "app:x:99999999999:0::/:/bin/sh\n")),
        ("short", base().file("etc/passwd", 0o644, "app:x\n\n:::::::\napp\n")),
    ];
    for (name, rootfs) in hostile {
        let image = hull.image(&format!("users-{name}"), rootfs).await;
        let config = ContainerConfig { image, user: "app".into(), ..hull.command(&["/probe"]) };
        match hull.try_output(config).await {
            Ok(output) => {
                let report: hull_tests::harness::Report = serde_json::from_slice(&output.stdout).expect("a report");
                assert_eq!((name, report.uids[0]), ("absolute", 7), "a link inside the root is followed, and no other");
            }
            Err(status) => assert_eq!(metadata(&status, "step"), "looking up the user", "{name}: {status:?}"),
        }
    }
}

#[tokio::test]
async fn additional_groups_and_umask_are_set() {
    let hull = Session::shared().await;
    let config = ContainerConfig {
        user: "app".into(),
        additional_groups: words(&["lone", "7777"]),
        umask: Some(0o077),
        ..hull.probe(&[])
    };
    let report = hull.report(config).await;
    for group in [3000, 7777, 2000, 2001] {
        assert!(report.groups.contains(&group), "{group} is not in {:?}", report.groups);
    }
    assert_eq!(report.umask, 0o077);
    assert_eq!(hull.report(hull.probe(&[])).await.umask, 0o022);
    let wrong = ContainerConfig { umask: Some(0o1000), ..hull.probe(&[]) };
    assert_error(hull.try_create(wrong).await, Code::InvalidArgument, "INVALID_ARGUMENT", "umask");
}

#[tokio::test]
async fn resource_limits_are_set() {
    let hull = Session::shared().await;
    let rlimit = |name: &str, soft: u64, hard: u64| Rlimit { r#type: name.into(), soft, hard };
    let config = ContainerConfig {
        rlimits: vec![rlimit("nofile", 123, 456), rlimit("RLIMIT_CORE", 0, 0), rlimit("RLIMIT_NPROC", 50, 60)],
        ..hull.probe(&[])
    };
    let report = hull.report(config).await;
    for (name, value) in [("nofile", (123, 456)), ("core", (0, 0)), ("nproc", (50, 60))] {
        assert_eq!(report.rlimits[name], value, "{name}");
    }
    for wrong in [rlimit("nofish", 1, 1), rlimit("nofile", 2, 1), rlimit("", 1, 1)] {
        let config = ContainerConfig { rlimits: vec![wrong], ..hull.probe(&[]) };
        assert_error(hull.try_create(config).await, Code::InvalidArgument, "INVALID_ARGUMENT", "rlimit");
    }
    let twice =
        ContainerConfig { rlimits: vec![rlimit("nofile", 1, 1), rlimit("RLIMIT_NOFILE", 2, 2)], ..hull.probe(&[]) };
    assert_error(hull.try_create(twice).await, Code::InvalidArgument, "INVALID_ARGUMENT", "rlimit");
}

#[tokio::test]
async fn oom_score_adj_is_set_or_the_host_s_limit_told() {
    let hull = Session::shared().await;
    let report = hull.report(ContainerConfig { oom_score_adj: Some(321), ..hull.probe(&[]) }).await;
    assert_eq!(report.oom_score_adj, 321);
    match hull.try_output(ContainerConfig { oom_score_adj: Some(-500), ..hull.probe(&[]) }).await {
        Ok(output) => assert_eq!(output.exit.code, 0),
        Err(status) => assert_eq!(metadata(&status, "step"), "setting oom_score_adj", "{status:?}"),
    }
    let wrong = ContainerConfig { oom_score_adj: Some(1001), ..hull.probe(&[]) };
    assert_error(hull.try_create(wrong).await, Code::InvalidArgument, "INVALID_ARGUMENT", "oom_score_adj");
}

#[tokio::test]
async fn capabilities_are_docker_s_default_set() {
    let hull = Session::shared().await;
    let root = hull.report(hull.probe(&[])).await.caps;
    assert_eq!((root.effective, root.permitted, root.bounding), (DEFAULT_CAPS, DEFAULT_CAPS, DEFAULT_CAPS));
    // CVE-2022-29162: inheritable capabilities; ambient ones likewise.
    assert_eq!((root.inheritable, root.ambient), (0, 0));
    let app = hull.report(ContainerConfig { user: "app".into(), ..hull.probe(&[]) }).await.caps;
    assert_eq!((app.effective, app.permitted, app.inheritable, app.ambient), (0, 0, 0, 0));
    assert_eq!(app.bounding, DEFAULT_CAPS);
}

#[tokio::test]
async fn capabilities_are_added_and_dropped() {
    let hull = Session::shared().await;
    const NET_ADMIN: u64 = 1 << 12;
    const CHOWN: u64 = 1;
    let last = host::text("/proc/sys/kernel/cap_last_cap").trim().parse::<u32>().expect("a number");
    let own = hull.agent.pid();
    let bounding = host::text(format!("/proc/{own}/status"))
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:\t")?, 16).ok())
        .expect("CapBnd");
    let all = bounding & ((2 << last) - 1);
    let cases: [(&[&str], &[&str], u64); 7] = [
        (&["CAP_NET_ADMIN"], &[], DEFAULT_CAPS | NET_ADMIN),
        (&["net_admin"], &["chown"], (DEFAULT_CAPS | NET_ADMIN) & !CHOWN),
        (&[], &["ALL"], 0),
        (&["chown"], &["ALL"], CHOWN),
        (&["ALL"], &[], all),
        (&["ALL"], &["NET_ADMIN"], all & !NET_ADMIN),
        (&["CHOWN"], &["CAP_MKNOD"], DEFAULT_CAPS & !(1 << 27)),
    ];
    for (add, drop, expected) in cases {
        let config = ContainerConfig {
            security: security(Security { cap_add: words(add), cap_drop: words(drop), ..Security::default() }),
            ..hull.probe(&[])
        };
        let caps = hull.report(config).await.caps;
        assert_eq!(caps.effective, expected, "{add:?} {drop:?}: {:x} {expected:x}", caps.effective);
        assert_eq!(
            (caps.bounding, caps.permitted, caps.inheritable, caps.ambient),
            (expected, expected, 0, 0),
            "{add:?} {drop:?}"
        );
    }
    let config = ContainerConfig {
        security: security(Security { cap_add: words(&["CAP_NONSENSE"]), ..Security::default() }),
        ..hull.probe(&[])
    };
    assert_error(hull.try_create(config).await, Code::InvalidArgument, "INVALID_ARGUMENT", "CAP_NONSENSE");
}

#[tokio::test]
async fn privileges_cannot_be_gained_unless_allowed() {
    let hull = Session::shared().await;
    let rootfs =
        Rootfs::base().file("setuid", 0o4755, std::fs::read(hull_tests::harness::probe()).expect("reading the probe"));
    let image = hull.image("setuid", rootfs).await;
    for allowed in [false, true] {
        let config = ContainerConfig {
            image: image.clone(),
            user: "app".into(),
            security: security(Security { allow_new_privileges: allowed, ..Security::default() }),
            ..hull.command(&["/setuid"])
        };
        let report = hull.report(config).await;
        assert_eq!((report.uids[0], report.uids[1] == 0, report.no_new_privs), (1000, allowed, !allowed));
    }
}

#[tokio::test]
async fn the_default_filter_refuses_what_containers_must_not_call() {
    let hull = Session::shared().await;
    let refused = [
        "mount",
        "umount2",
        "unshare",
        "unshare_user",
        "setns",
        "clone_newuser",
        "keyctl",
        "add_key",
        "request_key",
        "reboot",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "bpf",
        "perf_event_open",
        "io_uring_setup",
        "userfaultfd",
        "open_by_handle_at",
        "swapon",
        "settimeofday",
        "clock_settime",
        "acct",
        "pivot_root",
        "iopl",
        "ioperm",
        "lookup_dcookie",
        "fsopen",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "quotactl",
        "sethostname",
        "syslog",
    ];
    let told = syscalls(&hull, hull.probe(&[]), &refused).await;
    for name in refused {
        assert!([EPERM, "38"].contains(&told[name].as_str()), "{name}: {}", told[name]);
    }
    // clone3 must look unimplemented, so that C libraries fall back to clone, whose flags a filter can read.
    let told = syscalls(&hull, hull.probe(&[]), &["clone3", "getpid", "chroot", "mkdir", "socket_raw"]).await;
    assert_eq!(told["clone3"], "38");
    for name in ["getpid", "chroot", "mkdir", "socket_raw"] {
        assert_eq!(told[name], "0", "{name}");
    }
    assert_eq!(hull.report(hull.probe(&[])).await.seccomp, 2);
}

#[tokio::test]
async fn an_unconfined_container_has_no_filter() {
    let hull = Session::shared().await;
    let config = ContainerConfig { security: unconfined(), ..hull.probe(&[]) };
    assert_eq!(hull.report(config.clone()).await.seccomp, 0);
    let told = syscalls(&hull, config, &["unshare_user", "clone3"]).await;
    assert_ne!(told["clone3"], "38");
}

#[tokio::test]
async fn a_profile_of_the_user_s_is_obeyed() {
    let hull = Session::shared().await;
    let json = r#"{
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 262144, "op": "SCMP_CMP_EQ"}]},
            {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3,
             "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}]}
        ]}"#;
    let config = ContainerConfig { security: profile(seccomp::Profile::Json(json.into())), ..hull.probe(&[]) };
    let told = syscalls(&hull, config, &["mkdir", "personality", "getpid", "chroot"]).await;
    assert_eq!((told["mkdir"].as_str(), told["personality"].as_str()), ("95", EPERM));
    assert_eq!((told["getpid"].as_str(), told["chroot"].as_str()), ("3", "0"));
}

#[tokio::test]
async fn a_killing_profile_ends_the_container_with_sigsys() {
    let hull = Session::shared().await;
    let json =
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let config = ContainerConfig {
        security: profile(seccomp::Profile::Json(json.into())),
        ..hull.probe(&["syscalls", "mkdir"])
    };
    let output = hull.output(config).await;
    assert_eq!((output.exit.code, output.exit.signal), (128 + 31, 31));
}

#[tokio::test]
async fn wrong_profiles_are_refused_with_the_reason() {
    let hull = Session::shared().await;
    let wrong = [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"defaultAction": "SCMP_ACT_NONSENSE"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_ODD"}]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONSENSE"]}"#,
    ];
    for json in wrong {
        let config = ContainerConfig { security: profile(seccomp::Profile::Json(json.into())), ..hull.probe(&[]) };
        let status = hull.try_run(config).await.expect_err(json);
        assert_eq!(status.code(), Code::InvalidArgument, "{json}: {status:?}");
        assert!(status.message().contains("seccomp"), "{status:?}");
    }
    let big = format!("{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"x\": \"{}\"}}", "x".repeat(2 << 20));
    let config = ContainerConfig { security: profile(seccomp::Profile::Json(big)), ..hull.probe(&[]) };
    let status = hull.try_create(config).await.expect_err("too big");
    assert!(matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange), "{status:?}");
}

#[tokio::test]
async fn sysctls_of_the_container_s_namespaces_are_set_and_others_refused() {
    let hull = Session::shared().await;
    let sysctls =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config = ContainerConfig {
        sysctls: sysctls(&[("net.ipv4.ip_forward", "1"), ("net.ipv4.ping_group_range", "0 1000"), ("kernel.shmmax", "123456"), ("fs.mqueue.msg_max", "77")]),
        ..hull.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max")
    };
    assert_eq!(
        hull.output(config).await.text().split_whitespace().collect::<Vec<_>>(),
        ["1", "0", "1000", "123456", "77"]
    );
    let core_pattern = host::text("/proc/sys/kernel/core_pattern");
    for name in [
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel/core_pattern",
        "net.ipv4.../../kernel.panic",
        "kernel",
        "",
        "kernel.hostname\n",
        "fs.file-max",
    ] {
        let config = ContainerConfig { sysctls: sysctls(&[(name, "1")]), ..hull.probe(&[]) };
        let status = hull.try_create(config).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}: {status:?}");
    }
    let host_network = Some(Namespaces {
        network: Some(Namespace { mode: NamespaceMode::Host.into(), container: String::new() }),
        ..Namespaces::default()
    });
    let config = ContainerConfig {
        sysctls: sysctls(&[("net.ipv4.ip_forward", "1")]),
        namespaces: host_network,
        ..hull.probe(&[])
    };
    assert_error(hull.try_create(config).await, Code::InvalidArgument, "INVALID_ARGUMENT", "net.ipv4.ip_forward");
    assert_eq!(host::text("/proc/sys/kernel/core_pattern"), core_pattern);
    let missing = ContainerConfig { sysctls: sysctls(&[("net.ipv4.no_such_thing", "1")]), ..hull.probe(&[]) };
    let status = hull.try_run(missing).await.expect_err("no such parameter");
    assert!(status.message().contains("no_such_thing"), "{status:?}");
}

#[tokio::test]
async fn devices_outside_the_list_cannot_be_opened() {
    let hull = Session::shared().await;
    // Loop control (10:237) is on every host; the node can be made, but not opened.
    let line = "/probe mknod /tmp/loop-control c 10 237; /probe open rw /tmp/loop-control; /probe open r /dev/null; /probe open r /dev/zero; \
                /probe open rw /dev/full; /probe open r /dev/urandom; /probe mknod /tmp/mem c 1 1; /probe open r /tmp/mem";
    assert_eq!(hull.output(hull.shell(line)).await.lines(), ["0", EPERM, "0", "0", "0", "0", "0", EPERM]);
}

#[tokio::test]
async fn a_device_that_was_given_can_be_used_as_it_was_given() {
    let hull = Session::shared().await;
    let device = |permissions: &str| Device {
        host_path: "/dev/loop-control".into(),
        container_path: "/dev/given/ctl".into(),
        permissions: permissions.into(),
    };
    let line = "stat -c '%F %t:%T' /dev/given/ctl; /probe open r /dev/given/ctl; /probe open rw /dev/given/ctl";
    let full = hull.output(ContainerConfig { devices: vec![device("")], ..hull.shell(line) }).await.lines();
    assert_eq!(full, ["character special file a:ed", "0", "0"]);
    let read = hull.output(ContainerConfig { devices: vec![device("r")], ..hull.shell(line) }).await.lines();
    assert_eq!(read, ["character special file a:ed", "0", EPERM]);
    for wrong in [
        Device { host_path: "/no/such".into(), ..device("") },
        Device { host_path: "/etc/passwd".into(), ..device("") },
        Device { permissions: "x".into(), ..device("") },
        Device { container_path: "relative".into(), ..device("") },
    ] {
        let config = ContainerConfig { devices: vec![wrong.clone()], ..hull.probe(&[]) };
        let status = hull.try_run(config).await.expect_err("refused");
        assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{wrong:?}: {status:?}");
    }
}

#[tokio::test]
async fn a_privileged_container_may_do_almost_everything() {
    let hull = Session::shared().await;
    let config = || ContainerConfig {
        security: security(Security { privileged: true, ..Security::default() }),
        ..hull.shell("/probe; /probe open rw /dev/loop-control; mkdir -p /m && mount -t tmpfs none /m && echo mounted")
    };
    let lines = hull.output(config()).await.lines();
    let report: hull_tests::harness::Report = serde_json::from_str(&lines[0]).expect("a report");
    assert_eq!((report.seccomp, report.no_new_privs, report.caps.inheritable), (0, false, 0));
    assert!(report.caps.effective & (1 << 21) != 0, "CAP_SYS_ADMIN");
    assert_eq!(lines[1..], ["0", "mounted"]);
    let sys = report.mounts.iter().rfind(|mount| mount.point == "/sys").expect("/sys");
    assert!(sys.options.iter().any(|option| option == "rw"), "{sys:?}");
    assert!(!report.mounts.iter().any(|mount| mount.point == "/proc/kcore"), "nothing is masked");
}

#[tokio::test]
async fn a_container_inherits_no_descriptor_signal_mask_or_host_environment() {
    let hull = Session::shared().await;
    for terminal in [false, true] {
        let report = hull.report(ContainerConfig { terminal, ..hull.probe(&[]) }).await;
        let numbers: Vec<u32> = report.fds.iter().map(|fd| fd.number).collect();
        assert_eq!(numbers, [0, 1, 2], "{:?}", report.fds);
        if !terminal {
            assert_eq!(report.fds[0].target, "/dev/null");
        }
        assert_eq!((report.blocked, report.ignored), (0, 0));
        assert_eq!(report.session, 1, "init leads a session of its own");
        assert!(!report.env.contains_key("HULL_SHIM") && !report.env.contains_key("CARGO_MANIFEST_DIR"));
    }
    let id = hull.run(ContainerConfig { stdin_open: true, ..hull.probe(&["sleep"]) }).await;
    let text = hull.exec(&id, &["/probe"]).await.text();
    let exec: hull_tests::harness::Report = serde_json::from_str(&text).expect("a report");
    assert_eq!(exec.fds.iter().map(|fd| fd.number).collect::<Vec<_>>(), [0, 1, 2], "{:?}", exec.fds);
    assert_eq!((exec.blocked, exec.ignored, exec.caps.effective, exec.caps.inheritable), (0, 0, DEFAULT_CAPS, 0));
    assert_eq!((exec.seccomp, exec.no_new_privs), (2, true));
}

#[tokio::test]
async fn the_shim_s_program_cannot_be_written_from_inside() {
    // CVE-2019-5736
    let shim = hull_tests::harness::shim();
    let digest = || hex::encode(Sha256::digest(std::fs::read(&shim).expect("reading the shim")));
    let before = digest();
    let hull = Session::shared().await;
    let host_pids = Some(Namespaces {
        pid: Some(Namespace { mode: NamespaceMode::Host.into(), container: String::new() }),
        ..Namespaces::default()
    });
    for namespaces in [None, host_pids] {
        let id = hull.run(ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }).await;
        for _ in 0..3 {
            let told = hull.exec(&id, &["/probe", "own-exe"]).await.text();
            for line in told.lines().filter(|line| line.contains("hull-shim") || line.contains("memfd")) {
                assert!(!line.ends_with(" 0"), "opened for writing: {line}");
            }
        }
        // As the exec'd program: an interpreter line that leads back to whoever executes it.
        let line =
            "printf '#!/proc/self/exe\\n' > /tmp/loop; chmod 755 /tmp/loop; (exec 3>/proc/self/exe) 2>/dev/null; true";
        hull.exec(&id, &["/bin/sh", "-c", line]).await;
        let _fails = hull
            .exec_with(hull_proto::v1::ExecStart {
                container: id.clone(),
                argv: words(&["/tmp/loop"]),
                ..Default::default()
            })
            .await;
        let _fails = hull
            .exec_with(hull_proto::v1::ExecStart {
                container: id,
                argv: words(&["/proc/self/exe"]),
                ..Default::default()
            })
            .await;
    }
    assert_eq!(digest(), before);
}

#[tokio::test]
async fn no_abstract_socket_is_reachable_with_the_host_s_network() {
    // CVE-2020-15257
    let hull = Session::shared().await;
    let namespaces = Some(Namespaces {
        network: Some(Namespace { mode: NamespaceMode::Host.into(), container: String::new() }),
        ..Namespaces::default()
    });
    let output = hull.output(ContainerConfig { namespaces, ..hull.shell("grep -c '@' /proc/net/unix; true") }).await;
    assert_eq!(output.text(), "0");
}

#[tokio::test]
async fn labels_are_data_and_nothing_else() {
    // CVE-2026-53488: a label became a command.
    let hull = Session::shared().await;
    let mut config = hull.probe(&[]);
    for key in ["io.container.runtime.hook", "run", "annotation.poststart", "$(touch /tmp/hull-label)", "a\u{7f}b"] {
        config.labels.insert(key.into(), "; touch /tmp/hull-label; $(touch /tmp/hull-label)".into());
    }
    let labels = config.labels.clone();
    let id = hull.create(config).await;
    hull.start(&id).await;
    hull.wait(&id).await;
    assert_eq!(hull.get(&id).await.config.expect("config").labels, labels);
    assert!(!std::path::Path::new("/tmp/hull-label").exists());
}

#[tokio::test]
async fn an_init_for_orphans_is_refused_by_name() {
    let hull = Session::shared().await;
    let config = ContainerConfig { init: true, ..hull.probe(&[]) };
    let status = hull.try_create(config).await.expect_err("not offered");
    assert!(
        matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented),
        "{status:?}"
    );
    assert!(status.message().contains("init"), "{status:?}");
}

#[tokio::test]
async fn everything_holds_in_a_user_namespace_too() {
    let hull = Session::shared().await;
    let namespaces = || Some(Namespaces { user: UserNamespaceMode::Auto.into(), ..Namespaces::default() });
    let report = hull.report(ContainerConfig { namespaces: namespaces(), user: "app".into(), ..hull.probe(&[]) }).await;
    assert_eq!((report.uids[0], report.gids[0]), (1000, 1000));
    assert_eq!((report.caps.effective, report.caps.inheritable, report.seccomp), (0, 0, 2));
    assert_eq!(report.fds.iter().map(|fd| fd.number).collect::<Vec<_>>(), [0, 1, 2]);
    let beyond = ContainerConfig { namespaces: namespaces(), user: "70000:70000".into(), ..hull.probe(&[]) };
    let status = hull.try_run(beyond).await.expect_err("an id that is not mapped");
    assert!(!status.message().is_empty());
}
