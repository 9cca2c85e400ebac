//! Validation field by field, and what specs say.

use oci_spec::runtime::LinuxNamespaceType;
use proptest::prelude::*;

use super::*;
use crate::lifecycle::config::{
    Device, DnsConfig, IoMax, Mount, MountKind, Resources, Rlimit, SeccompProfile, TimeOffsets,
};

const ALL: HostCapabilities = HostCapabilities { kernel: 0x1ff_ffff_ffff, agent: 0x1ff_ffff_ffff };

fn config() -> ContainerConfig {
    ContainerConfig { image: "demo/busybox:1".to_owned(), ..ContainerConfig::default() }
}

fn image() -> ImageDefaults {
    let words = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    ImageDefaults { entrypoint: words(&["/e"]), cmd: words(&["c"]), ..ImageDefaults::default() }
}

fn spec(config: &ContainerConfig, image: &ImageDefaults) -> Result<Spec> {
    let ctx = SpecContext {
        id: "0123456789abcdef",
        cgroup_path: "/hull/0123456789abcdef",
        cgroup2: true,
        user_namespace: None,
        joined: &JoinedNamespaces::default(),
        uts_hostname: "node1",
        host: &host::HostFiles::default(),
        capabilities: ALL,
        kernel: (6, 1),
    };
    build(config, image, &ctx)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn mount(kind: MountKind, target: &str, options: &[&str]) -> Mount {
    Mount { kind, target: target.to_owned(), read_only: false, options: strings(options) }
}

fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
    mount(MountKind::Bind { source: source.to_owned() }, target, options)
}

fn device(host: &str, container: &str, permissions: &str) -> Device {
    Device { host_path: host.to_owned(), container_path: container.to_owned(), permissions: permissions.to_owned() }
}

/// Asserts that a change of a good configuration is refused with a message that starts so.
fn refused(start: &str, change: impl FnOnce(&mut ContainerConfig)) {
    let mut config = config();
    validate(&config).unwrap();
    change(&mut config);
    let error = validate(&config).expect_err(start);
    assert!(error.message.starts_with(start), "wanted {start:?}, got: {error}");
    assert_eq!(error.reason, Reason::InvalidArgument);
}

#[test]
fn names_and_labels() {
    refused("config.image: ", |config| config.image.clear());
    for name in ["-a", ".a", "_a", "a b", "a/b", "é", &"a".repeat(129)] {
        refused("config.name: ", |config| config.name = name.to_owned());
    }
    refused("config.labels: ", |config| drop(config.labels.insert("k".repeat(257), String::new())));
    refused("config.labels: ", |config| drop(config.labels.insert(String::new(), String::new())));
    refused("config.labels: ", |config| drop(config.labels.insert("k".to_owned(), "v".repeat(10 << 20))));
}

#[test]
fn processes() {
    refused("config.clear_entrypoint: ", |config| {
        config.clear_entrypoint = true;
        config.entrypoint = strings(&["/x"]);
    });
    refused("config.entrypoint[0]: ", |config| config.entrypoint = strings(&[""]));
    refused("config.args[1]: ", |config| config.args = strings(&["a", "b\0"]));
    refused("config.args[0]: ", |config| config.args = vec!["a".repeat(131_072)]);
    refused("config.args: ", |config| config.args = vec!["a".repeat(131_000); 9]);
    for entry in ["A", "=b", ""] {
        refused("config.env[0]: ", |config| config.env = strings(&[entry]));
    }
    for cwd in ["", "x", "/a/../b"] {
        refused("config.cwd: ", |config| config.cwd = Some(cwd.to_owned()));
    }
    refused("config.user: ", |config| config.user = Some("4294967295".to_owned()));
    refused("config.additional_groups[0]: ", |config| config.additional_groups = strings(&["-1"]));
    refused("config.umask: ", |config| config.umask = Some(0o1000));
    refused("config.stdin_once: ", |config| config.stdin_once = true);
    refused("config.stop_signal: ", |config| config.stop_signal = Some(65));
    refused("config.oom_score_adj: ", |config| config.oom_score_adj = Some(-1001));
    let limit = |name: &str, soft, hard| Rlimit { name: name.to_owned(), soft, hard };
    refused("config.rlimits[0].type: ", |config| config.rlimits = vec![limit("files", 1, 1)]);
    refused("config.rlimits[0].soft: ", |config| config.rlimits = vec![limit("nofile", 2, 1)]);
    refused("config.rlimits[1].type: ", |config| {
        config.rlimits = vec![limit("nofile", 1, 1), limit("RLIMIT_NOFILE", 1, 1)];
    });
}

#[test]
fn network_names() {
    for name in ["", "-a", "a b", "a..b", "a\nb", &"a".repeat(65)] {
        refused("config.hostname: ", |config| config.hostname = Some(name.to_owned()));
    }
    refused("config.hostname: ", |config| {
        config.hostname = Some("a".to_owned());
        config.namespaces.uts = NamespaceMode::Host;
    });
    refused("config.extra_hosts[0].ip: ", |config| config.extra_hosts = vec![("1.2.3".to_owned(), "a".to_owned())]);
    refused("config.extra_hosts[0].hostname: ", |config| {
        config.extra_hosts = vec![("192.0.2.1".to_owned(), "a\n192.0.2.2 b".to_owned())];
    });
    let dns = |servers: &[&str], searches: &[&str], options: &[&str]| {
        Some(DnsConfig { servers: strings(servers), searches: strings(searches), options: strings(options) })
    };
    refused("config.dns.servers[0]: ", |config| config.dns = dns(&["a"], &[], &[]));
    refused("config.dns.servers: ", |config| config.dns = dns(&["192.0.2.1"; 9], &[], &[]));
    refused("config.dns.searches[0]: ", |config| config.dns = dns(&[], &["a b"], &[]));
    refused("config.dns.options[0]: ", |config| config.dns = dns(&[], &[], &["ndots:1\nnameserver 192.0.2.1"]));
}

#[test]
fn namespaces() {
    let other = || NamespaceMode::Container("x".to_owned());
    refused("config.namespaces.cgroup: ", |config| config.namespaces.cgroup = other());
    refused("config.namespaces.pid.container: ", |config| {
        config.namespaces.pid = NamespaceMode::Container(String::new());
    });
    refused("config.namespaces.ipc: ", |config| {
        config.namespaces.user_auto = true;
        config.namespaces.ipc = other();
    });
    refused("config.security.privileged: ", |config| {
        config.namespaces.user_auto = true;
        config.security.privileged = true;
    });
    refused("config.namespaces.time.boottime: ", |config| {
        config.namespaces.time = Some(TimeOffsets { monotonic_nanos: 0, boottime_nanos: i64::MIN });
    });
}

#[test]
fn limits() {
    fn with(change: impl FnOnce(&mut Resources)) -> impl FnOnce(&mut ContainerConfig) {
        |config| change(&mut config.resources)
    }
    refused("config.resources.memory_max: 1 ", with(|limits| limits.memory_max = Some(1)));
    refused("config.resources.memory_high: ", with(|limits| limits.memory_high = Some(-2)));
    refused("config.resources.memory_low: ", with(|limits| limits.memory_low = Some(-1)));
    refused("config.resources.memory_swap_max: ", with(|limits| limits.memory_swap_max = Some(-2)));
    refused("config.resources.cpu_weight: ", with(|limits| limits.cpu_weight = Some(0)));
    refused("config.resources.cpu_quota: ", with(|limits| limits.cpu_quota = Some(999)));
    refused("config.resources.cpu_period: ", with(|limits| limits.cpu_period = Some(999)));
    refused("config.resources.pids_max: ", with(|limits| limits.pids_max = Some(0)));
    refused("config.resources.io_weight: ", with(|limits| limits.io_weight = Some(10_001)));
    for list in ["", "a", "1-", "-1", "2-1", "0,,1", "+1", "0-9999", " 0", "99999999999"] {
        refused("config.resources.cpuset_cpus: ", with(|limits| limits.cpuset_cpus = Some(list.to_owned())));
    }
    for size in ["", "2M", "MB", "0MB", "../../x", "99999MB"] {
        refused(
            "config.resources.hugetlb: ",
            with(|limits| {
                limits.hugetlb.insert(size.to_owned(), 1);
            }),
        );
    }
    let io = |device: &str, rate| IoMax { device: device.to_owned(), read_bps: rate, ..IoMax::default() };
    refused("config.resources.io_max[0].device: ", with(|limits| limits.io_max = vec![io("sda", Some(1))]));
    refused("config.resources.io_max[0]: ", with(|limits| limits.io_max = vec![io("/dev/sda", None)]));
    refused("config.resources.io_max[0]: ", with(|limits| limits.io_max = vec![io("/dev/sda", Some(0))]));
    refused("config.resources.io_max[1].device: ", with(|limits| limits.io_max = vec![io("/dev/sda", Some(1)); 2]));
    let mut good = config();
    good.resources.cpuset_cpus = Some("0-2,4".to_owned());
    good.resources.memory_max = Some(-1);
    good.resources.hugetlb.insert("2MB".to_owned(), 0);
    validate(&good).unwrap();
}

#[test]
fn mounts_and_devices() {
    for target in ["", "www", "/", "//", "/.", "/a/../b", "/..", "/proc", "/proc/self", "/dev", "/dev/pts/0", "/a\0"] {
        refused("config.mounts[0].target: ", |config| config.mounts = vec![bind("/srv", target, &[])]);
    }
    refused("config.mounts[0].source: ", |config| config.mounts = vec![bind("srv", "/www", &[])]);
    refused("config.mounts[0].source: ", |config| config.mounts = vec![bind("/srv/../etc", "/www", &[])]);
    refused("config.mounts[1].target: ", |config| {
        config.mounts = vec![bind("/srv", "/www", &[]), bind("/srv", "//www/", &[])];
    });
    for options in [&["remount"][..], &["ro"], &["nosuid", "suid"], &["bind", "rbind"], &["size=1"], &[""]] {
        refused("config.mounts[0].options[", |config| config.mounts = vec![bind("/srv", "/www", options)]);
    }
    for options in [&["rbind"][..], &["size=x"], &["mode=9"], &["size=1", "size=2"]] {
        refused("config.mounts[0].options[", |config| config.mounts = vec![mount(MountKind::Tmpfs, "/t", options)]);
    }
    refused("config.shm_size: ", |config| config.shm_size = Some(0));
    refused("config.shm_size: ", |config| {
        config.shm_size = Some(1);
        config.namespaces.ipc = NamespaceMode::Host;
    });
    refused("config.shm_size: ", |config| {
        config.shm_size = Some(1);
        config.mounts = vec![mount(MountKind::Tmpfs, "/dev/shm", &[])];
    });
    refused("config.devices[0].host_path: ", |config| config.devices = vec![device("fuse", "/dev/fuse", "r")]);
    for place in ["x", "/dev", "/dev/null", "/dev/pts/3", "/dev/../x"] {
        refused("config.devices[0].container_path: ", |config| config.devices = vec![device("/dev/fuse", place, "r")]);
    }
    refused("config.devices[1].container_path: ", |config| config.devices = vec![device("/dev/fuse", "", "r"); 2]);
    refused("config.devices[0].container_path: ", |config| {
        config.mounts = vec![bind("/srv", "/www", &[])];
        config.devices = vec![device("/dev/fuse", "/www/fuse", "r")];
    });
    for permissions in ["x", "rr", "rwmr", "RW"] {
        refused("config.devices[0].permissions: ", |config| {
            config.devices = vec![device("/dev/fuse", "", permissions)];
        });
    }
    refused("config.masked_paths[0]: ", |config| config.masked_paths = strings(&["proc"]));
    refused("config.readonly_paths[0]: ", |config| config.readonly_paths = strings(&["/"]));
    refused("config.mounts: ", |config| config.mounts = vec![bind("/srv", "/www", &[]); 513]);
}

#[test]
fn security() {
    refused("config.security.cap_add[0]: ", |config| config.security.cap_add = strings(&["CAP_FLY"]));
    refused("config.security.seccomp.json: ", |config| {
        config.security.seccomp = SeccompProfile::Json("{}".to_owned());
    });
    refused("config.sysctls[\"kernel.core_pattern\"]: ", |config| {
        config.sysctls.insert("kernel.core_pattern".to_owned(), "|/x".to_owned());
    });
}

#[test]
fn program_is_merged_as_docker_does() {
    let argv = |change: &dyn Fn(&mut ContainerConfig)| {
        let mut config = config();
        change(&mut config);
        spec(&config, &image()).map(|spec| spec.process().as_ref().unwrap().args().clone().unwrap())
    };
    assert_eq!(argv(&|_| {}).unwrap(), ["/e", "c"]);
    assert_eq!(argv(&|config| config.args = strings(&["x"])).unwrap(), ["/e", "x"]);
    assert_eq!(argv(&|config| config.entrypoint = strings(&["/n"])).unwrap(), ["/n"]);
    let clear = |config: &mut ContainerConfig| {
        config.clear_entrypoint = true;
        config.args = strings(&["sh"]);
    };
    assert_eq!(argv(&clear).unwrap(), ["sh"]);
    let error = argv(&|config| config.clear_entrypoint = true).unwrap_err();
    assert_eq!(error.message, "config.args: no program: neither the image nor the request names one");
}

#[test]
fn hostile_image_defaults_are_refused() {
    let base = image();
    for (image, field) in [
        (ImageDefaults { user: "18446744073709551616".to_owned(), ..base.clone() }, "image.config.user: "),
        (ImageDefaults { working_dir: "/a/../../b".to_owned(), ..base.clone() }, "image.config.working_dir: "),
        (ImageDefaults { env: strings(&["A"]), ..base.clone() }, "image.config.env[0]: "),
        (ImageDefaults { env: strings(&["A=\0"]), ..base.clone() }, "image.config.env: "),
        (ImageDefaults { cmd: strings(&["\0"]), ..base.clone() }, "image.config: "),
    ] {
        let error = spec(&config(), &image).unwrap_err();
        assert!(error.message.starts_with(field), "{field}: {error}");
    }
}

#[test]
fn environment_is_merged_in_order() {
    let mut config = ContainerConfig { env: strings(&["B=user", "C=user", "B=last"]), terminal: true, ..config() };
    config.hostname = Some("web".to_owned());
    let image = ImageDefaults { env: strings(&["PATH=/image", "A=image", "B=image"]), ..image() };
    let spec = spec(&config, &image).unwrap();
    let env = spec.process().as_ref().unwrap().env().clone().unwrap();
    assert_eq!(env, ["PATH=/image", "HOSTNAME=web", "TERM=xterm", "A=image", "B=last", "C=user"]);
}

#[test]
fn spec_survives_json() {
    let spec = spec(&config(), &image()).unwrap();
    let json = to_json(&spec).unwrap();
    assert_eq!(from_json(&json).unwrap(), spec);
    let shown = for_display(&json).unwrap();
    assert_eq!(for_display(&to_json(&from_json(&json).unwrap()).unwrap()).unwrap(), shown);
    assert_eq!(from_json(&shown).unwrap(), spec);
    assert!(json.contains(r#""ociVersion":"1.2.0""#) && json.contains(r#""cgroupsPath":"/hull/0123456789abcdef""#));
}

#[test]
fn weights_convert_back_to_themselves() {
    for weight in 1..=10_000 {
        let mut config = config();
        config.resources.cpu_weight = Some(weight);
        config.resources.io_weight = Some(weight);
        let spec = spec(&config, &image()).unwrap();
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        let shares = resources.cpu().as_ref().unwrap().shares().unwrap();
        assert_eq!(1 + (shares - 2) * 9999 / 262_142, u64::from(weight), "{shares}");
        let io = u64::from(resources.block_io().as_ref().unwrap().weight().unwrap());
        assert!((10..=1000).contains(&io) && (1 + (io - 10) * 9999 / 990).abs_diff(u64::from(weight)) <= 10);
    }
}

#[test]
fn user_namespace_and_configuration_must_agree() {
    let mut config = config();
    config.namespaces.user_auto = true;
    assert_eq!(spec(&config, &image()).unwrap_err().reason, Reason::Internal);
}

#[test]
fn shared_namespaces_are_not_listed() {
    let mut config = config();
    config.namespaces.network = NamespaceMode::Host;
    let spec = spec(&config, &image()).unwrap();
    let listed: Vec<LinuxNamespaceType> =
        spec.linux().as_ref().unwrap().namespaces().iter().flatten().map(|namespace| namespace.typ()).collect();
    use LinuxNamespaceType as Type;
    assert_eq!(listed, [Type::Mount, Type::Pid, Type::Ipc, Type::Uts, Type::Cgroup]);
}

proptest! {
    /// No text panics, whatever field it comes in; what passes builds.
    #[test]
    fn any_text(text in "\\PC{0,12}|[-/.:=,\\x00a0-9]{0,12}") {
        let mut config = config();
        config.name = text.clone();
        drop(validate(&config));
        let mut config = ContainerConfig {
            env: vec![format!("A={text}")], cwd: Some(text.clone()), user: Some(text.clone()), args: vec![text.clone()],
            ..ContainerConfig { image: "x".to_owned(), ..ContainerConfig::default() }
        };
        config.mounts = vec![mount(MountKind::Tmpfs, &text, &[&text])];
        drop(validate(&config));
        config.mounts = vec![mount(MountKind::Tmpfs, &text, &[])];
        config.user = None;
        if validate(&config).is_ok() && !text.is_empty() {
            prop_assert!(spec(&config, &image()).is_ok());
        }
    }
}
