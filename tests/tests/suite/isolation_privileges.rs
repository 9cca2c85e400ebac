//! What a container's process may do: capabilities, system calls, privileges, and the ways out that others had left open.

use std::collections::HashMap;

use hull_proto::v1::{ContainerConfig, Namespace, NamespaceMode, Namespaces, Seccomp, Security, seccomp};
use hull_tests::harness::{Rootfs, Session, assert_error, host};
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
async fn a_privileged_container_may_do_almost_everything() {
    let hull = Session::shared().await;
    let config = || ContainerConfig {
        security: security(Security { privileged: true, ..Security::default() }),
        ..hull.shell("/probe; /probe open rw /dev/loop-control; mkdir -p /m && mount -t tmpfs none /m && echo mounted")
    };
    let lines = hull.output(config()).await.lines();
    let report: hull_tests::harness::Report = serde_json::from_str(&lines[0]).expect("a report");
    assert_eq!((report.seccomp, report.caps.inheritable), (0, 0));
    assert!(report.caps.effective & (1 << 21) != 0, "CAP_SYS_ADMIN");
    assert_eq!(lines[1..], ["0", "mounted"]);
    let sys = report.mounts.iter().rfind(|mount| mount.point == "/sys").expect("/sys");
    assert!(sys.options.iter().any(|option| option == "rw"), "{sys:?}");
    assert!(!report.mounts.iter().any(|mount| mount.point == "/proc/kcore"), "nothing is masked");
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
