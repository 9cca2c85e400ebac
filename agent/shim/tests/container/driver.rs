//! Plays the agent: a plan with a busybox root file system, a shim beside the test, and both ends of the wire.
//!
//! Needs root, `mkfs.erofs` (erofs-utils) and a static `/bin/busybox` (busybox-static), and the shim: from `HULL_SHIM`, or
//! where the Makefile builds it.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hull_wire::*;
use nix::sys::socket::*;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn shim() -> PathBuf {
    std::env::var_os("HULL_SHIM").map_or_else(
        || {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            root.join("target/x86_64-unknown-linux-gnu/shim/hull-shim")
        },
        PathBuf::from,
    )
}

/// The socket that the agent makes for the shim to listen on.
fn listening_socket(path: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(4).unwrap()).unwrap();
    listener
}

/// Fills the directory that a layer is made of.
pub(crate) type Builder = Box<dyn FnOnce(&Path)>;

/// A container's directories, its layer mounted, and the shim.
pub(crate) struct Container {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) shim: Child,
    pub(crate) agent: OwnedFd,
    seq: u64,
    layers: Vec<PathBuf>,
    events: Vec<Event>,
}

/// Builds the root file system that a layer is made of.
pub(crate) fn busybox(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "srv"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "ls", "id", "sleep", "echo", "true", "stat", "mount", "head", "dd", "tty", "stty", "kill", "wc",
        "test", "touch", "readlink", "hostname", "ip", "env", "pwd", "printf", "grep", "sort", "tr", "mkdir", "ps",
        "ln", "yes", "nsenter",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:44:\nlog:x:7:web\n").unwrap();
    fs::write(root.join("bin/noexec"), "no").unwrap();
}

fn make_layer(directory: &Path, name: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let root = directory.join(format!("{name}.root"));
    fs::create_dir_all(&root).unwrap();
    build(&root);
    let image = directory.join(format!("{name}.erofs"));
    let made = Command::new("mkfs.erofs").arg("-T0").arg(&image).arg(&root).output().expect("mkfs.erofs (erofs-utils)");
    assert!(made.status.success(), "{made:?}");
    let target = directory.join("layers").join(name);
    fs::create_dir_all(&target).unwrap();
    let mounted = Command::new(shim()).arg("mount-layer").arg(&image).arg(&target).output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
    target
}

impl Container {
    /// Directories and one busybox layer; the shim waits for its plan.
    pub(crate) fn new() -> Self {
        Self::with_layers(vec![Box::new(busybox)])
    }

    /// One layer for each builder, the topmost first.
    pub(crate) fn with_layers(builders: Vec<Builder>) -> Self {
        let directory = tempfile::Builder::new().prefix("hull-shimtest-").tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
        for name in ["run", "upper", "work"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let layers = builders
            .into_iter()
            .enumerate()
            .map(|(index, build)| make_layer(path, &format!("layer{index}"), build))
            .collect();
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let shim = Command::new(shim())
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("the shim is not built: see the module's documentation");
        Self { directory, shim, agent: ours, seq: 0, layers, events: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// What Docker's defaults come to, with all namespaces new.
    pub(crate) fn plan(&self, argv: &[&str]) -> Plan {
        let filesystem = |fstype: &str, target: &str, flags: u64, options: &[(&str, &str)]| MountPlan {
            kind: MountKind::Filesystem {
                fstype: fstype.to_owned(),
                options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            },
            target: target.to_owned(),
            flags,
        };
        use mount_flags::*;
        let all = NOSUID | NODEV | NOEXEC;
        let device = |name: &str, major, minor| DeviceNode {
            path: format!("/dev/{name}"),
            host_path: format!("/dev/{name}"),
            block: false,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Plan {
            version: PROTOCOL_VERSION,
            id: "test".to_owned(),
            run_dir: self.path("run"),
            log: Some(LogPlan { path: self.path("log"), max_size: 1 << 24, max_files: 5, rate: None }),
            stdin: Stdin::Null,
            namespaces: Namespaces {
                pid: Namespace::New,
                network: Namespace::New,
                ipc: Namespace::New,
                uts: Namespace::New,
                cgroup: Namespace::New,
                user: None,
                time: None,
            },
            cgroup: CgroupPlan { unified: None, v1_tasks: vec![], device_program: None, oom_file: None },
            rootfs: RootfsPlan {
                layers: self.layers.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
                upper: self.path("upper"),
                work: self.path("work"),
                volatile: false,
                read_only: false,
            },
            mounts: vec![
                filesystem("proc", "/proc", all, &[]),
                filesystem("tmpfs", "/dev", NOSUID, &[("mode", "755"), ("size", "65536k")]),
                filesystem(
                    "devpts",
                    "/dev/pts",
                    NOSUID | NOEXEC,
                    &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
                ),
                filesystem("sysfs", "/sys", all | RDONLY, &[]),
                filesystem("mqueue", "/dev/mqueue", all, &[]),
                filesystem("tmpfs", "/dev/shm", all, &[("mode", "1777"), ("size", "65536k")]),
            ],
            devices: vec![
                device("null", 1, 3),
                device("zero", 1, 5),
                device("full", 1, 7),
                device("random", 1, 8),
                device("urandom", 1, 9),
                device("tty", 5, 0),
            ],
            symlinks: [
                ("/dev/fd", "/proc/self/fd"),
                ("/dev/stdin", "/proc/self/fd/0"),
                ("/dev/stdout", "/proc/self/fd/1"),
                ("/dev/ptmx", "pts/ptmx"),
            ]
            .map(|(path, target)| Symlink { path: path.to_owned(), target: target.to_owned() })
            .to_vec(),
            files: vec![
                FilePlan { target: "/etc/hostname".to_owned(), contents: "inside\n".to_owned(), mode: 0o644 },
                FilePlan { target: "/etc/hosts".to_owned(), contents: "127.0.0.1 localhost\n".to_owned(), mode: 0o644 },
            ],
            masked_paths: strings(&[
                "/proc/acpi",
                "/proc/kcore",
                "/proc/keys",
                "/proc/timer_list",
                "/proc/scsi",
                "/sys/firmware",
                "/nowhere",
            ]),
            readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            hostname: Some("inside".to_owned()),
            domainname: None,
            sysctls: vec![],
            process: process(argv),
        }
    }

    pub(crate) fn request(&mut self, body: RequestBody, fds: &[OwnedFd]) -> (Outcome, Vec<OwnedFd>) {
        self.seq += 1;
        let packet = encode(&Request { seq: self.seq, body }).unwrap();
        send(&self.agent, &packet, fds);
        loop {
            match receive(&self.agent) {
                Some((Report::Reply { seq, outcome }, fds)) => {
                    assert_eq!(seq, self.seq);
                    return (outcome, fds);
                }
                Some((Report::Event(event), _)) => self.events.push(event),
                None => panic!("the shim hung up"),
            }
        }
    }

    pub(crate) fn setup(&mut self, plan: &Plan, attach: Option<AttachPipes>, pipes: Vec<OwnedFd>) -> Outcome {
        let mut fds =
            vec![memfd(&encode(plan).unwrap()), listening_socket(&Path::new(&plan.run_dir).join(SHIM_SOCKET))];
        fds.extend(pipes);
        self.request(RequestBody::Setup { attach }, &fds).0
    }

    pub(crate) fn start(&mut self, plan: &Plan) -> i32 {
        match self.setup(plan, None, vec![]) {
            Outcome::Started { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn exec(&mut self, id: u64, plan: &ProcessPlan, streams: Vec<OwnedFd>) -> (Outcome, Vec<OwnedFd>) {
        let mut fds = vec![memfd(&encode(plan).unwrap())];
        fds.extend(streams);
        self.request(RequestBody::Exec { exec_id: id }, &fds)
    }

    /// Runs a command in the container: code, and output and error together.
    pub(crate) fn run(&mut self, id: u64, argv: &[&str]) -> (i32, String) {
        self.run_plan(id, &process(argv))
    }

    pub(crate) fn run_plan(&mut self, id: u64, plan: &ProcessPlan) -> (i32, String) {
        let (read, write) = pipe();
        let null = OwnedFd::from(fs::File::open("/dev/null").unwrap());
        let outcome = self.exec(id, plan, vec![null, write.try_clone().unwrap(), write]);
        assert!(matches!(outcome.0, Outcome::ExecStarted { .. }), "{outcome:?}");
        let text = drain(read);
        let Event::ExecExited { exec_id, exit } = self.event() else { panic!("no exit") };
        assert_eq!(exec_id, id);
        (exit.code, text)
    }

    pub(crate) fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match receive(&self.agent) {
            Some((Report::Event(event), _)) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the end: the record in the event, which is that in the file, and the shim gone.
    pub(crate) fn wait(&mut self) -> ExitRecord {
        let record = loop {
            match self.event() {
                Event::Exited(record) => break record,
                Event::ExecExited { .. } => {}
            }
        };
        self.wait_shim();
        assert_eq!(decode::<ExitRecord>(&fs::read(self.path("run/exit")).unwrap()).unwrap(), record);
        assert!(!Path::new(&self.path("run/shim.sock")).exists());
        record
    }

    pub(crate) fn wait_shim(&mut self) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.shim.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "the shim lives on");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Contents of the log's lines of one stream.
    pub(crate) fn log(&self, stream: &str) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap();
        let mut content = String::new();
        for line in text.split_terminator('\n') {
            let mut fields = line.splitn(4, ' ');
            let (time, name, tag) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
            assert!(time.ends_with('Z') && time.len() == 30, "{line:?}");
            if name == stream {
                content.push_str(fields.next().unwrap());
                if tag == "F" {
                    content.push('\n');
                }
            }
        }
        content
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(None) = self.shim.try_wait() {
            // Init first: it would outlive its monitor.
            if let Ok(pids) = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.shim.id())) {
                for pid in pids.split_whitespace() {
                    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
            let _ = self.shim.kill();
            let _ = self.shim.wait();
        }
        for layer in &self.layers {
            let _ = nix::mount::umount(layer);
        }
    }
}

/// A process as root with Docker's capabilities.
pub(crate) fn process(argv: &[&str]) -> ProcessPlan {
    let docker = 0x0000_0000_a804_25fb;
    ProcessPlan {
        argv: argv.iter().map(|&text| text.to_owned()).collect(),
        env: vec!["PATH=/bin:/usr/bin".to_owned()],
        cwd: "/".to_owned(),
        user: UserPlan { user: "0".to_owned(), group: None, additional_groups: vec![] },
        umask: 0o022,
        capabilities: Capabilities {
            bounding: docker,
            effective: docker,
            permitted: docker,
            inheritable: 0,
            ambient: 0,
        },
        no_new_privs: true,
        seccomp: None,
        seccomp_flags: 0,
        rlimits: vec![],
        oom_score_adj: None,
        terminal: None,
    }
}

pub(crate) fn memfd(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.into()
}

pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

/// Reads to the end.
pub(crate) fn drain(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(length @ 1..) = nix::unistd::read(&fd, &mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until a text has come.
pub(crate) fn read_until(fd: &OwnedFd, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let start = Instant::now();
    while !text.contains(wanted) {
        assert!(start.elapsed() < PATIENCE, "{wanted:?} has not come: {text:?}");
        match nix::unistd::read(fd, &mut buffer) {
            Ok(length @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
            other => panic!("{other:?} before {wanted:?}: {text:?}"),
        }
    }
    text
}

/// Waits until a condition holds.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not come to be");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn send(socket: &OwnedFd, packet: &[u8], fds: &[OwnedFd]) {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let ancillary: &[_] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], ancillary, MsgFlags::empty(), None).unwrap();
}

#[expect(unsafe_code, reason = "nix returns received descriptors as numbers")]
pub(crate) fn receive(socket: &OwnedFd) -> Option<(Report, Vec<OwnedFd>)> {
    let mut buffer = vec![0; MAX_PACKET];
    let mut space = nix::cmsg_space!([i32; MAX_FDS]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    // With a timeout, recvmsg(2) is not restarted after a signal.
    let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(socket), nix::poll::PollFlags::POLLIN)];
    let ready = loop {
        match nix::poll::poll(&mut poll, u16::try_from(PATIENCE.as_millis()).unwrap()) {
            Err(nix::errno::Errno::EINTR) => {}
            ready => break ready.unwrap(),
        }
    };
    assert!(ready == 1, "the shim is silent");
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for ancillary in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(raw) = ancillary {
            // SAFETY: the kernel just installed them for us.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    (length > 0).then(|| (decode(&buffer[..length]).unwrap(), fds))
}
