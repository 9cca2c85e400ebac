//! What a container's process is: arguments, user and groups, limits, descriptors.

use std::collections::BTreeSet;

use hull_proto::v1::{ContainerConfig, Namespaces, Rlimit, UserNamespaceMode};
use hull_tests::harness::{Rootfs, Session, assert_error, metadata};
use tonic::Code;

/// Docker's default set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot,
/// mknod, audit_write, setfcap.
const DEFAULT_CAPS: u64 = 0xa804_25fb;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
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
async fn a_container_inherits_no_descriptor_signal_mask_or_host_environment() {
    let hull = Session::shared().await;
    for terminal in [false, true] {
        let report = hull.report(ContainerConfig { terminal, ..hull.probe(&[]) }).await;
        let numbers: Vec<u32> = report.fds.iter().map(|fd| fd.number).collect();
        assert_eq!(numbers, [0, 1, 2], "{:?}", report.fds);
        if !terminal {
            assert_eq!(report.fds[0].target, "/dev/null");
        }
        // The probe's own runtime ignores SIGPIPE, and nothing else may be ignored.
        assert_eq!((report.blocked, report.ignored), (0, 1 << 12));
        assert_eq!(report.session, 1, "init leads a session of its own");
        assert!(!report.env.contains_key("HULL_SHIM") && !report.env.contains_key("CARGO_MANIFEST_DIR"));
    }
    let id = hull.run(ContainerConfig { stdin_open: true, ..hull.probe(&["sleep"]) }).await;
    let text = hull.exec(&id, &["/probe"]).await.text();
    let exec: hull_tests::harness::Report = serde_json::from_str(&text).expect("a report");
    assert_eq!(exec.fds.iter().map(|fd| fd.number).collect::<Vec<_>>(), [0, 1, 2], "{:?}", exec.fds);
    assert_eq!((exec.blocked, exec.ignored, exec.caps.effective, exec.caps.inheritable), (0, 1 << 12, DEFAULT_CAPS, 0));
    assert_eq!((exec.seccomp, exec.no_new_privs), (2, true));
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
