//! What a container is set up to be, seen from inside, and how setup fails.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::driver::{self, Builder, Container, busybox, process};
use hull_wire::*;
use nix::errno::Errno;

/// Runs a command as init, and returns what it printed.
fn output(container: &mut Container, plan: &Plan) -> String {
    container.start(plan);
    assert_eq!(container.wait().code, 0, "{}{}", container.log("stdout"), container.log("stderr"));
    container.log("stdout")
}

fn bind(source: &str, target: &str, flags: u64, idmap: bool) -> MountPlan {
    let kind = MountKind::Bind { source: source.to_owned(), recursive: true, propagation: Propagation::Private, idmap };
    MountPlan { kind, target: target.to_owned(), flags }
}

fn failure(container: &mut Container, plan: &Plan) -> Failure {
    let Outcome::Failed(failure) = container.setup(plan, None, vec![]) else { panic!("it started") };
    container.wait_shim();
    assert!(!Path::new(&container.path("run/shim.sock")).exists());
    failure
}

const USER: u32 = 1_000_000;

fn user_namespace() -> Option<UserNamespace> {
    let map = IdMap { container: 0, host: USER, size: 65_536 };
    Some(UserNamespace { uid_maps: vec![map], gid_maps: vec![map] })
}

#[test]
fn no_descriptor_leaks_in() {
    let mut container = Container::new();
    let plan = container.plan(&["sh", "-c", "ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; sleep 1000"]);
    container.start(&plan);
    // The fourth is that of ls itself, which reads the directory.
    driver::eventually(|| container.log("stdout").lines().count() == 2);
    assert_eq!(container.log("stdout"), "4\n/dev/null\n");
    assert_eq!(container.run(1, &["sh", "-c", "ls /proc/self/fd | wc -l"]), (0, "4\n".to_owned()));
}

#[test]
fn no_mount_of_the_host_is_left() {
    let mut container = Container::new();
    let plan = container.plan(&["sleep", "1000"]);
    container.start(&plan);
    let (code, text) = container.run(1, &["cat", "/proc/self/mountinfo"]);
    assert_eq!(code, 0);
    let types: Vec<&str> = text.lines().filter_map(|line| line.split(" - ").nth(1)?.split(' ').next()).collect();
    let binds = 2 + 2 + 1; // files; masked null and tmpfs are counted by type below
    assert!(types.len() >= plan.mounts.len() + binds, "{text}");
    assert!(
        types.iter().all(|name| ["overlay", "proc", "tmpfs", "devpts", "sysfs", "mqueue"].contains(name)),
        "{text}"
    );
    assert_eq!(types.iter().filter(|name| **name == "overlay").count(), 1, "{text}");
    assert!(text.lines().all(|line| !line.contains("hull-shimtest") || line.contains(" - overlay ")), "{text}");
}

#[test]
fn namespaces_are_new_and_loopback_is_up() {
    let mut container = Container::new();
    let mut plan = container.plan(&["sleep", "1000"]);
    plan.namespaces.time = Some(TimeOffsets { monotonic_nanos: 86_400_000_000_000, boottime_nanos: -1_500_000_000 });
    plan.sysctls = vec![("net/ipv4/ip_unprivileged_port_start".to_owned(), "0".to_owned())];
    let pid = container.start(&plan);
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "time"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(of("self"), of(&pid.to_string()), "{name}");
    }
    let (_, text) = container.run(1, &["ip", "addr", "show", "lo"]);
    assert!(text.contains("127.0.0.1/8"), "{text}");
    let (_, text) =
        container.run(2, &["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/self/timens_offsets"]);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "monotonic", "86400", "0", "boottime", "-2", "500000000"]);
    let (_, text) = container.run(3, &["sh", "-c", "readlink /proc/self/ns/time; readlink /proc/1/ns/time"]);
    let same: Vec<&str> = text.lines().collect();
    assert_eq!(same[0], same[1]);
}

#[test]
fn namespaces_of_another_are_joined() {
    let mut first = Container::new();
    let plan = first.plan(&["sleep", "1000"]);
    let pid = first.start(&plan);
    let path = |name: &str| Namespace::Path(format!("/proc/{pid}/ns/{name}"));
    let mut second = Container::new();
    let mut plan = second.plan(&["sleep", "1000"]);
    plan.namespaces.pid = path("pid");
    plan.namespaces.network = path("net");
    plan.namespaces.ipc = path("ipc");
    plan.namespaces.uts = path("uts");
    plan.hostname = None;
    let shim = second.shim.id();
    let own = |name: &str| fs::read_link(format!("/proc/{shim}/ns/{name}")).unwrap();
    let before: Vec<_> = ["net", "ipc", "uts", "mnt"].map(own).to_vec();
    let joined = second.start(&plan);
    assert_eq!(before, ["net", "ipc", "uts", "mnt"].map(own).to_vec(), "the shim is back");
    for name in ["pid", "net", "ipc", "uts"] {
        let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(of(pid), of(joined), "{name}");
    }
    assert_eq!(second.run(1, &["hostname"]).1, "inside\n");
    assert!(second.run(2, &["ps"]).1.matches("sleep 1000").count() >= 2);
    second.request(RequestBody::Signal { target: Target::Init, signal: 9 }, &[]);
    second.wait();
}

#[test]
fn a_user_namespace_maps_root_and_files() {
    let mut container = Container::new();
    for name in ["upper", "work"] {
        std::os::unix::fs::chown(container.path(name), Some(USER), Some(USER)).unwrap();
    }
    let mut plan = container.plan(&[
        "sh",
        "-c",
        "cat /proc/self/uid_map; stat -c %u:%g /bin/busybox /etc/hosts /dev/null; touch /new; echo x >/dev/null; echo y > /dev/stdout; sleep 1000",
    ]);
    plan.namespaces.user = user_namespace();
    plan.process.oom_score_adj = Some(500);
    let pid = container.start(&plan);
    driver::eventually(|| container.log("stdout").contains('y') || !container.log("stderr").is_empty());
    let text = container.log("stdout");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..3], ["0", "1000000", "65536"], "{text}{}", container.log("stderr"));
    assert_eq!(words[3..], ["0:0", "0:0", "65534:65534", "y"], "{text}{}", container.log("stderr"));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(container.path("upper/new")).unwrap().uid(), USER);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "500\n");
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), USER);
    let mut exec = process(&["sh", "-c", "id -u; touch /from-exec; cat /proc/self/oom_score_adj; echo z >/dev/stdout"]);
    exec.oom_score_adj = Some(600);
    assert_eq!(container.run_plan(1, &exec), (0, "0\n600\nz\n".to_owned()));
    let mut terminal = process(&["sh", "-c", "id -un; tty"]);
    terminal.terminal = Some((1, 2));
    terminal.user.user = "web".to_owned();
    let (outcome, mut fds) = container.exec(2, &terminal, vec![]);
    assert!(matches!(outcome, Outcome::ExecStarted { .. }), "{outcome:?}");
    assert_eq!(driver::drain(fds.pop().unwrap()), "web\r\n/dev/pts/0\r\n");
}

#[test]
fn bind_mounts_are_id_mapped() {
    let mut container = Container::new();
    for name in ["upper", "work"] {
        std::os::unix::fs::chown(container.path(name), Some(USER), Some(USER)).unwrap();
    }
    let share = container.path("share");
    fs::create_dir(&share).unwrap();
    fs::write(format!("{share}/file"), "").unwrap();
    let mut plan = container.plan(&["sh", "-c", "stat -c %u:%g /share /share/file; touch /share/new"]);
    plan.namespaces.user = user_namespace();
    plan.mounts.push(bind(&share, "/share", 0, true));
    match container.setup(&plan, None, vec![]) {
        // The kernel maps a tmpfs since 6.3 only.
        Outcome::Failed(failure) => {
            assert!(
                nix::sys::statfs::statfs(share.as_str()).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC
            );
            assert!(
                failure.step == Step::Mount && failure.detail.ends_with("takes no id map on this kernel"),
                "{failure:?}"
            );
        }
        _ => {
            assert_eq!(container.wait().code, 0);
            assert_eq!(container.log("stdout"), "0:0\n0:0\n");
            use std::os::unix::fs::MetadataExt;
            assert_eq!(fs::metadata(format!("{share}/new")).unwrap().uid(), 0);
        }
    }
}

#[test]
fn a_hundred_layers_are_one_root() {
    let layer = |index: usize| -> Builder {
        Box::new(move |root: &Path| {
            fs::write(root.join(format!("file{index}")), index.to_string()).unwrap();
            fs::write(root.join("top"), index.to_string()).unwrap();
        })
    };
    let mut layers: Vec<Builder> = (0..100).map(layer).collect();
    layers.push(Box::new(busybox));
    let mut container = Container::with_layers(layers);
    let plan = container.plan(&["sh", "-c", "cat /top; ls / | grep -c file"]);
    assert_eq!(output(&mut container, &plan), "0100\n");
}

#[test]
fn masked_and_read_only_paths_and_root() {
    let mut container = Container::new();
    let script = "for f in /x /proc/sys/kernel/hostname /sys/x /etc/passwd; do (echo 1 > $f) 2>/dev/null && echo wrote $f; done; \
        wc -c < /proc/keys; ls /sys/firmware /proc/scsi; (echo 1 > /dev/shm/x) && (echo 1 > /ro/x) 2>/dev/null || echo ro";
    let mut plan = container.plan(&["sh", "-c", script]);
    plan.rootfs.read_only = true;
    let share = container.path("share");
    fs::create_dir(&share).unwrap();
    plan.mounts.push(bind(&share, "/ro", mount_flags::RDONLY, false));
    let text = output(&mut container, &plan);
    let lines: Vec<&str> = text.lines().filter(|line| !line.ends_with(':') && !line.is_empty()).collect();
    assert_eq!(lines, ["0", "ro"], "{text}");
}

#[test]
fn capabilities_limits_and_privileges_are_the_plans() {
    let mut container = Container::new();
    let mut plan = container.plan(&[
        "sh",
        "-c",
        "grep -E 'Cap|NoNew|Groups' /proc/self/status; ulimit -n; umask; cat /proc/self/oom_score_adj",
    ]);
    plan.process.rlimits = vec![Rlimit { resource: 7, soft: 100, hard: 200 }];
    plan.process.umask = 0o077;
    plan.process.oom_score_adj = Some(321);
    plan.process.user = UserPlan { user: "web".to_owned(), group: None, additional_groups: vec!["99".to_owned()] };
    plan.process.capabilities =
        Capabilities { bounding: 0xff, effective: 0x401 & 0xff, permitted: 0x1, inheritable: 0x1, ambient: 0x1 };
    let text = output(&mut container, &plan);
    let words: Vec<&str> = text.split_whitespace().collect();
    let one = "0000000000000001";
    let expected = [
        "Groups:",
        "7",
        "44",
        "99",
        "CapInh:",
        one,
        "CapPrm:",
        one,
        "CapEff:",
        one,
        "CapBnd:",
        "00000000000000ff",
        "CapAmb:",
        one,
        "NoNewPrivs:",
        "1",
        "100",
        "0077",
        "321",
    ];
    assert_eq!(words, expected);
}

#[test]
fn a_filter_is_loaded_with_and_without_no_new_privs() {
    // if (nr == SYS_mkdir || nr == SYS_mkdirat) return EPERM; else allow
    let filter: Vec<u8> = [
        (0x20_u16, 0_u8, 0_u8, 0_u32),
        (0x15, 2, 0, 83),
        (0x15, 1, 0, 258),
        (0x06, 0, 0, 0x7fff_0000),
        (0x06, 0, 0, 0x0005_0001),
    ]
    .iter()
    .flat_map(|(code, jt, jf, k)| [&code.to_ne_bytes()[..], &[*jt, *jf], &k.to_ne_bytes()].concat())
    .collect();
    for no_new_privs in [true, false] {
        let mut container = Container::new();
        let script = "mkdir /x 2>/dev/null || echo no; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status";
        let mut plan = container.plan(&["sh", "-c", script]);
        plan.process.seccomp = Some(filter.clone());
        plan.process.no_new_privs = no_new_privs;
        let text = output(&mut container, &plan);
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["no", "NoNewPrivs:", if no_new_privs { "1" } else { "0" }, "Seccomp:", "2"]);
    }
}

#[test]
fn what_cannot_be_executed_says_why() {
    let cases: [(&[&str], Errno); 5] = [
        (&["/bin/nope"], Errno::ENOENT),
        (&["nope"], Errno::ENOENT),
        (&["/bin/noexec"], Errno::EACCES),
        (&["noexec"], Errno::EACCES),
        (&["/bin"], Errno::EACCES),
    ];
    for (argv, errno) in cases {
        let mut container = Container::new();
        let plan = container.plan(argv);
        let expected = Failure { step: Step::Exec, errno: errno as i32, detail: argv[0].to_owned() };
        assert_eq!(failure(&mut container, &plan), expected);
    }
    let mut container = Container::new();
    let plan = container.plan(&["sleep", "1000"]);
    container.start(&plan);
    for (argv, errno) in cases {
        let (outcome, _) = container.exec(1, &process(argv), vec![null(), null(), null()]);
        assert!(matches!(&outcome, Outcome::Failed(failure) if failure.errno == errno as i32), "{outcome:?}");
    }
    assert_eq!(container.run(2, &["true"]).0, 0);
}

fn null() -> std::os::fd::OwnedFd {
    fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap().into()
}

#[test]
fn failures_name_their_step() {
    type Change = fn(&mut Plan);
    let cases: [(Change, Step, &str); 12] = [
        (|plan| plan.process.user.user = "nobody".to_owned(), Step::User, "no user \"nobody\" in /etc/passwd"),
        (|plan| plan.process.user.user = "4294967295".to_owned(), Step::User, "is no valid user id"),
        (|plan| plan.process.user.group = Some("nogroup".to_owned()), Step::User, "no group \"nogroup\" in /etc/group"),
        (|plan| plan.rootfs.upper = "/nowhere".to_owned(), Step::Rootfs, "/nowhere"),
        (|plan| plan.rootfs.layers.push("/nowhere".to_owned()), Step::Rootfs, "/nowhere"),
        (|plan| plan.mounts.push(bind("/nowhere", "/x", 0, false)), Step::Mount, "/nowhere at /x"),
        (
            |plan| plan.mounts.push(bind("/etc", "/etc/passwd", 0, false)),
            Step::Mount,
            "a directory cannot be mounted over a file",
        ),
        (|plan| plan.mounts.push(bind("/etc", "/../.", 0, false)), Step::Mount, "over the root"),
        (|plan| plan.namespaces.network = Namespace::Path("/nowhere".to_owned()), Step::Namespaces, "/nowhere"),
        (|plan| plan.sysctls.push(("net/nope".to_owned(), "1".to_owned())), Step::Sysctl, "net/nope"),
        (|plan| plan.process.cwd = "/etc/passwd".to_owned(), Step::Cwd, "/etc/passwd"),
        (|plan| plan.version = 99, Step::Plan, "version 99"),
    ];
    for (change, step, detail) in cases {
        let mut container = Container::new();
        let mut plan = container.plan(&["true"]);
        change(&mut plan);
        let failure = failure(&mut container, &plan);
        assert!(failure.step == step && failure.detail.contains(detail), "{failure:?} instead of {step:?} {detail}");
    }
}

#[test]
fn links_in_the_image_lead_nowhere_outside() {
    // https://nvd.nist.gov/vuln/detail/CVE-2026-41579: /dev, /proc or /sys is not a directory.
    for name in ["proc", "dev", "sys"] {
        for kind in ["link", "file", "fifo"] {
            let build = move |root: &Path| {
                busybox(root);
                let path = root.join(name);
                fs::remove_dir(&path).unwrap();
                match kind {
                    "link" => symlink("/tmp", path).unwrap(),
                    "file" => fs::write(path, "").unwrap(),
                    _ => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                }
            };
            let mut container = Container::with_layers(vec![Box::new(build)]);
            let plan = container.plan(&["true"]);
            let failure = failure(&mut container, &plan);
            assert!(
                failure.step == Step::Mount && failure.detail.contains(&format!("at /{name}")),
                "{kind}: {failure:?}"
            );
        }
    }
    // Elsewhere links are followed, inside the root.
    let build = |root: &Path| {
        busybox(root);
        symlink("../../../../../../srv", root.join("up")).unwrap();
        symlink("/srv/deep/er", root.join("dangling")).unwrap();
        fs::remove_file(root.join("etc/hosts")).ok();
        symlink("../run/hosts", root.join("etc/hosts")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
    };
    let mut container = Container::with_layers(vec![Box::new(build)]);
    let share = container.path("share");
    fs::create_dir(&share).unwrap();
    fs::write(format!("{share}/here"), "yes\n").unwrap();
    let mut plan = container.plan(&["sh", "-c", "cat /srv/a/here /srv/deep/er/here /run/hosts; pwd"]);
    plan.mounts.push(bind(&share, "/up/a", 0, false));
    plan.mounts.push(bind(&share, "/dangling", 0, false));
    plan.process.cwd = "/up/new/cwd".to_owned();
    assert_eq!(output(&mut container, &plan), "yes\nyes\n127.0.0.1 localhost\n/srv/new/cwd\n");
    assert!(!Path::new("/srv/a").exists() && !Path::new("/srv/deep").exists());

    let mut container = Container::with_layers(vec![Box::new(build)]);
    let mut plan = container.plan(&["true"]);
    plan.mounts.push(bind("/etc", "/loop/x", 0, false));
    assert_eq!(failure(&mut container, &plan).errno, Errno::ELOOP as i32);
}

#[test]
fn account_files_of_the_image_are_not_trusted() {
    type Build = fn(&Path);
    let cases: [(Build, &str); 3] = [
        (
            |root| nix::unistd::mkfifo(&root.join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "not a regular file",
        ),
        (|root| fs::write(root.join("etc/passwd"), vec![b'x'; (1 << 20) + 1]).unwrap(), "larger than 1 MiB"),
        (|root| symlink("/proc/self/environ", root.join("etc/passwd")).unwrap(), "no user"),
    ];
    for (build, detail) in cases {
        let all = move |root: &Path| {
            busybox(root);
            fs::remove_file(root.join("etc/passwd")).unwrap();
            build(root);
        };
        let mut container = Container::with_layers(vec![Box::new(all)]);
        let mut plan = container.plan(&["true"]);
        plan.process.user.user = "web".to_owned();
        let failure = failure(&mut container, &plan);
        assert!(failure.step == Step::User && failure.detail.contains(detail), "{failure:?}");
    }
}

#[test]
fn what_a_symlinked_cwd_says_stays_inside() {
    let mut container = Container::new();
    let mut plan = container.plan(&["true"]);
    for cwd in ["/proc/self/fd/7", "/proc/self/fd/3/.."] {
        plan.process.cwd = cwd.to_owned();
        assert_eq!(failure(&mut container, &plan).step, Step::Cwd);
        container = Container::new();
        plan = container.plan(&["true"]);
    }
}
