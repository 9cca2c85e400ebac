//! Plans compared with those in `golden/`. After a wanted change: `HULL_BLESS=1 cargo test --release -p hull-agent plan`, then read the
//! difference.

use std::path::Path;

use oci_spec::runtime::{HooksBuilder, LinuxNamespaceType};

use super::*;
use crate::lifecycle::config::{
    Device, DnsConfig, ExecConfig, LogLimits, Mount, MountKind, NamespaceMode, Namespaces, Resources, Rlimit,
    SeccompProfile, Security, TimeOffsets,
};
use crate::lifecycle::security::capabilities::HostCapabilities;
use crate::lifecycle::spec::host::{HostFile, HostFileKind, HostFiles};
use crate::lifecycle::spec::{JoinedNamespaces, SpecContext, UserNamespaceRange, build, from_json, to_json};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CAPABILITIES: HostCapabilities = HostCapabilities { kernel: 0x1ff_ffff_ffff, agent: 0x1ff_feff_ffff };

/// A host on which specs are built.
struct Host {
    cgroup2: bool,
    joined: JoinedNamespaces,
    files: HostFiles,
    cgroup_v1: Vec<(Vec<&'static str>, PathBuf)>,
    layers: Vec<String>,
    seccomp: SeccompCache,
}

impl Host {
    fn unified() -> Self {
        let fuse = HostFile { kind: HostFileKind::Char { major: 10, minor: 229 }, mode: 0o660, uid: 0, gid: 104 };
        let disk = HostFile { kind: HostFileKind::Block { major: 8, minor: 0 }, mode: 0o640, uid: 0, gid: 6 };
        let nodes = [("/dev/fuse", fuse), ("/dev/sda", disk)];
        let path = |kind: &str| Some(format!("/proc/4242/ns/{kind}"));
        Self {
            cgroup2: true,
            joined: JoinedNamespaces { pid: path("pid"), network: path("net"), ipc: path("ipc"), uts: path("uts") },
            files: HostFiles::with(&nodes, &nodes),
            cgroup_v1: Vec::new(),
            layers: vec!["/run/hull/layers/b".to_owned(), "/run/hull/layers/a".to_owned()],
            seccomp: SeccompCache::default(),
        }
    }

    fn hybrid() -> Self {
        let own = |name: &str| PathBuf::from(format!("/sys/fs/cgroup/{name}/hull/{ID}"));
        Self {
            cgroup2: false,
            cgroup_v1: vec![(vec!["cpu", "cpuacct"], own("cpu,cpuacct")), (vec!["memory"], own("memory"))],
            ..Self::unified()
        }
    }

    fn spec(&self, config: &ContainerConfig) -> Result<Spec> {
        let range = UserNamespaceRange { base: 1_000_000, size: 65_536 };
        let ctx = SpecContext {
            id: ID,
            cgroup_path: &format!("/hull/{ID}"),
            cgroup2: self.cgroup2,
            user_namespace: config.namespaces.user_auto.then_some(range),
            joined: &self.joined,
            uts_hostname: "node1",
            host: &self.files,
            capabilities: CAPABILITIES,
            kernel: (6, 1),
        };
        crate::lifecycle::spec::validate(config)?;
        build(config, &image(), &ctx)
    }

    fn context<'a>(&'a self, config: &'a ContainerConfig, image: &'a ImageDefaults) -> PlanContext<'a> {
        PlanContext {
            config,
            image,
            id: ID,
            run_dir: "/run/hull/containers/0123",
            log: LogLimits::default().plan("/var/lib/hull/containers/0123/log".to_owned(), &config.log),
            layers: &self.layers,
            upper: "/var/lib/hull/containers/0123/upper",
            work: "/var/lib/hull/containers/0123/work",
            cgroup: CgroupPlan {
                unified: Some(format!("/sys/fs/cgroup/hull/{ID}")),
                v1_tasks: Vec::new(),
                device_program: None,
                oom_file: None,
            },
            device_filter: self.cgroup2,
            cgroup_v1: &self.cgroup_v1,
            host_resolv_conf: "nameserver 192.0.2.53\n",
            host_hosts: "127.0.0.1 localhost\n192.0.2.1 node1",
            uts_hostname: "node1",
            terminal_size: (40, 120),
            seccomp: &self.seccomp,
        }
    }

    fn plan(&self, config: &ContainerConfig) -> Result<Plan> {
        let spec = from_json(&to_json(&self.spec(config)?)?)?;
        compile(&spec, &self.context(config, &image()))
    }
}

fn image() -> ImageDefaults {
    ImageDefaults {
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        env: vec!["LANG=C.UTF-8".to_owned()],
        working_dir: "/srv".to_owned(),
        user: "www:www".to_owned(),
    }
}

fn config() -> ContainerConfig {
    ContainerConfig { image: "demo/busybox:1".to_owned(), ..ContainerConfig::default() }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Compares with `golden/NAME.json`. Programs are shown by their length alone: they have tests of their own.
fn golden(name: &str, mut plan: Plan) {
    assert_eq!(hull_wire::decode::<Plan>(&hull_wire::encode(&plan).unwrap()).unwrap(), plan);
    plan.process.seccomp = plan.process.seccomp.map(|_| Vec::new());
    plan.cgroup.device_program = plan.cgroup.device_program.map(|_| Vec::new());
    let text = serde_json::to_string_pretty(&plan).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/lifecycle/plan/golden/{name}.json"));
    if std::env::var_os("HULL_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs from the plan; HULL_BLESS=1 writes it anew:\n{text}", path.display());
}

#[test]
fn default() {
    golden("default", Host::unified().plan(&config()).unwrap());
}

#[test]
fn user_namespace() {
    let mut config = config();
    config.namespaces.user_auto = true;
    config.mounts = vec![bind("/srv/site", "/www", &[])];
    config.devices = vec![Device {
        host_path: "/dev/fuse".to_owned(),
        container_path: "/dev/fuse0".to_owned(),
        permissions: "rw".to_owned(),
    }];
    golden("user_namespace", Host::unified().plan(&config).unwrap());
}

#[test]
fn user_namespace_in_namespaces_of_the_host() {
    let mut config = config();
    config.namespaces.user_auto = true;
    config.namespaces.network = NamespaceMode::Host;
    config.namespaces.cgroup = NamespaceMode::Host;
    let plan = Host::unified().plan(&config).unwrap();
    for place in ["/sys", "/sys/fs/cgroup"] {
        let mount = plan.mounts.iter().find(|mount| mount.target == place).unwrap();
        assert!(
            matches!(&mount.kind, hull_wire::MountKind::Bind { source, idmap: false, .. } if source == place),
            "{mount:?}"
        );
        assert_eq!(mount.flags & hull_wire::mount_flags::RDONLY, hull_wire::mount_flags::RDONLY);
    }
}

#[test]
fn privileged() {
    let security = Security { privileged: true, ..Security::default() };
    golden("privileged", Host::unified().plan(&ContainerConfig { security, ..config() }).unwrap());
}

#[test]
fn hybrid() {
    golden("hybrid", Host::hybrid().plan(&config()).unwrap());
}

#[test]
fn host_namespaces() {
    let host = || NamespaceMode::Host;
    let namespaces =
        Namespaces { pid: host(), network: host(), ipc: host(), uts: host(), cgroup: host(), ..Namespaces::default() };
    golden("host_namespaces", Host::unified().plan(&ContainerConfig { namespaces, ..config() }).unwrap());
}

#[test]
fn joined_namespaces() {
    let other = || NamespaceMode::Container("abc".to_owned());
    let namespaces = Namespaces { pid: other(), network: other(), ipc: other(), uts: other(), ..Namespaces::default() };
    let plan = Host::unified().plan(&ContainerConfig { namespaces, ..config() }).unwrap();
    assert_eq!(plan.namespaces.network, hull_wire::Namespace::Path("/proc/4242/ns/net".to_owned()));
    assert_eq!(plan.namespaces.uts, hull_wire::Namespace::Path("/proc/4242/ns/uts".to_owned()));
    assert_eq!(plan.hostname, None);
    assert_eq!(plan.files[0].contents, "node1\n");
    assert_eq!(plan.files[2].contents, "nameserver 192.0.2.53\n");
}

fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
    let kind = MountKind::Bind { source: source.to_owned() };
    Mount { kind, target: target.to_owned(), read_only: false, options: strings(options) }
}

fn tmpfs(target: &str, options: &[&str]) -> Mount {
    Mount { kind: MountKind::Tmpfs, target: target.to_owned(), read_only: false, options: strings(options) }
}

fn everything() -> ContainerConfig {
    ContainerConfig {
        name: "web".to_owned(),
        entrypoint: strings(&["/bin/httpd"]),
        args: strings(&["-f", "-p", "80"]),
        env: strings(&["A=b", "PATH=/bin", "LANG=C"]),
        cwd: Some("/www/".to_owned()),
        user: Some("1000:1000".to_owned()),
        additional_groups: strings(&["video", "5000"]),
        umask: Some(0o077),
        terminal: true,
        stdin_open: true,
        stdin_once: true,
        hostname: Some("web".to_owned()),
        domainname: Some("example.org".to_owned()),
        extra_hosts: vec![("192.0.2.7".to_owned(), "db".to_owned()), ("2001:db8::7".to_owned(), "db".to_owned())],
        dns: Some(DnsConfig {
            servers: strings(&["192.0.2.53", "2001:db8::53"]),
            searches: strings(&["example.org", "."]),
            options: strings(&["ndots:2"]),
        }),
        namespaces: Namespaces {
            time: Some(TimeOffsets { monotonic_nanos: -1_500_000_000, boottime_nanos: 86_400_000_000_000 }),
            ..Namespaces::default()
        },
        resources: Resources { memory_max: Some(64 << 20), cpu_weight: Some(100), ..Resources::default() },
        mounts: vec![
            Mount { read_only: true, ..bind("/srv/site", "/www", &["rslave", "nosuid"]) },
            bind("/srv/hosts", "/etc/hosts", &["bind"]),
            tmpfs("/tmp", &["size=16m", "mode=1777", "exec"]),
            tmpfs("/dev/shm", &["size=1m"]),
        ],
        read_only_rootfs: true,
        masked_paths: strings(&["/proc/version", "/proc/kcore"]),
        readonly_paths: strings(&["/srv"]),
        devices: vec![Device {
            host_path: "/dev/fuse".to_owned(),
            container_path: String::new(),
            permissions: "rwm".to_owned(),
        }],
        security: Security {
            cap_add: strings(&["NET_ADMIN"]),
            cap_drop: strings(&["ALL"]),
            allow_new_privileges: true,
            seccomp: SeccompProfile::Unconfined,
            ..Security::default()
        },
        sysctls: [("net.ipv4.ip_forward", "1"), ("kernel.shmmax", "1024")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        rlimits: vec![Rlimit { name: "nofile".to_owned(), soft: 1024, hard: u64::MAX }],
        oom_score_adj: Some(500),
        ..config()
    }
}

#[test]
fn with_everything() {
    golden("everything", Host::unified().plan(&everything()).unwrap());
}

#[test]
fn etc_of_the_user_is_left_alone() {
    let config = ContainerConfig { mounts: vec![bind("/srv/etc", "/etc", &[])], ..config() };
    assert!(Host::unified().plan(&config).unwrap().files.is_empty());
}

#[test]
fn filters_are_compiled_once() {
    let host = Host::unified();
    let first = host.plan(&config()).unwrap().process;
    assert_eq!(first.seccomp, host.plan(&config()).unwrap().process.seccomp);
    assert!(first.seccomp.unwrap().len() > 8 * 100);
}

#[test]
fn what_plugins_may_not_ask_is_refused_by_its_place() {
    let host = Host::unified();
    let (config, image) = (config(), image());
    let ctx = host.context(&config, &image);
    let refused = |change: &dyn Fn(&mut Spec), place: &str| {
        let mut spec = host.spec(&config).unwrap();
        change(&mut spec);
        let error = compile(&spec, &ctx).unwrap_err();
        assert!(error.message.starts_with(place), "{place}: {error}");
    };
    fn linux(spec: &mut Spec) -> &mut Linux {
        spec.linux_mut().as_mut().unwrap()
    }
    fn mount(spec: &mut Spec) -> &mut oci_spec::runtime::Mount {
        &mut spec.mounts_mut().as_mut().unwrap()[0]
    }
    refused(
        &|spec| {
            spec.set_hooks(HooksBuilder::default().build().ok());
        },
        "hooks",
    );
    refused(
        &|spec| {
            linux(spec).set_rootfs_propagation(Some("shared".to_owned()));
        },
        "linux.rootfsPropagation",
    );
    refused(
        &|spec| linux(spec).namespaces_mut().as_mut().unwrap().retain(|n| n.typ() != LinuxNamespaceType::Mount),
        "linux.namespaces",
    );
    refused(
        &|spec| linux(spec).namespaces_mut().as_mut().unwrap().retain(|n| n.typ() != LinuxNamespaceType::Uts),
        "hostname",
    );
    refused(
        &|spec| {
            let namespaces = linux(spec).namespaces_mut().as_mut().unwrap();
            namespaces.push(namespaces[1].clone());
        },
        "linux.namespaces",
    );
    refused(
        &|spec| {
            mount(spec).set_typ(Some("nfs".to_owned()));
        },
        "mounts[0].type",
    );
    refused(
        &|spec| {
            mount(spec).set_options(Some(strings(&["colour"])));
        },
        "mounts[0].options",
    );
    refused(
        &|spec| {
            mount(spec).set_options(Some(strings(&["rshared"])));
        },
        "mounts[0].options",
    );
    refused(
        &|spec| {
            mount(spec).set_typ(Some("bind".to_owned())).set_options(Some(strings(&["size=1"])));
        },
        "mounts[0].options",
    );
    refused(
        &|spec| {
            mount(spec).set_destination("proc".into());
        },
        "mounts[0]",
    );
}

fn exec(exec: &ExecConfig, config: &ContainerConfig) -> Result<hull_wire::ProcessPlan> {
    let host = Host::unified();
    let spec = host.spec(config)?;
    let ctx = ExecContext { config, image: &image(), seccomp: &host.seccomp, capabilities: CAPABILITIES };
    exec_process(&spec, exec, &ctx)
}

#[test]
fn exec_has_what_the_container_has() {
    let config = config();
    let init = Host::unified().plan(&config).unwrap().process;
    let request = ExecConfig { argv: strings(&["id"]), ..ExecConfig::default() };
    let process = exec(&request, &config).unwrap();
    assert_eq!(process, hull_wire::ProcessPlan { argv: strings(&["id"]), ..init });
}

#[test]
fn exec_changes_what_is_asked() {
    let request = ExecConfig {
        argv: strings(&["sh"]),
        env: strings(&["A=c", "B=d"]),
        cwd: Some("/tmp//x".to_owned()),
        user: Some("0".to_owned()),
        terminal: Some((24, 80)),
        ..ExecConfig::default()
    };
    let process = exec(&request, &ContainerConfig { env: strings(&["A=b"]), ..config() }).unwrap();
    assert_eq!(&process.env[2..], strings(&["LANG=C.UTF-8", "A=c", "B=d", "TERM=xterm"]));
    assert_eq!((process.cwd.as_str(), process.user.user.as_str(), process.terminal), ("/tmp/x", "0", Some((24, 80))));
    assert_eq!(process.user.group, None);
}

#[test]
fn privileged_exec() {
    let request = ExecConfig { argv: strings(&["sh"]), privileged: true, ..ExecConfig::default() };
    let process = exec(&request, &config()).unwrap();
    assert_eq!((process.capabilities.effective, process.seccomp), (CAPABILITIES.agent, None));
    let mut own = config();
    own.namespaces.user_auto = true;
    assert_eq!(exec(&request, &own).unwrap().capabilities.effective, CAPABILITIES.kernel);
}

#[test]
fn exec_refusals_name_the_field() {
    let base = ExecConfig { argv: strings(&["sh"]), ..ExecConfig::default() };
    for (request, field) in [
        (ExecConfig { argv: Vec::new(), ..base.clone() }, "argv: "),
        (ExecConfig { argv: strings(&["a\0b"]), ..base.clone() }, "argv[0]: "),
        (ExecConfig { env: strings(&["A"]), ..base.clone() }, "env[0]: "),
        (ExecConfig { env: strings(&["=x"]), ..base.clone() }, "env[0]: "),
        (ExecConfig { cwd: Some("x".to_owned()), ..base.clone() }, "cwd: "),
        (ExecConfig { cwd: Some("/../x".to_owned()), ..base.clone() }, "cwd: "),
        (ExecConfig { user: Some("01".to_owned()), ..base.clone() }, "user: "),
    ] {
        let error = exec(&request, &config()).unwrap_err();
        assert!(error.message.starts_with(field), "{field}: {error}");
    }
}
