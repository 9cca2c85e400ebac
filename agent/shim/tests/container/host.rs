//! What a container is to the host: control groups, memory of the shim, nothing left behind.

use std::fs;
use std::path::{Path, PathBuf};

use hull_wire::*;

use crate::driver::{Container, eventually, process};

/// A control group of its own, removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(hierarchy: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup").join(hierarchy);
        let path = root.join(format!("hull-shimtest-{}-{:?}", std::process::id(), std::thread::current().id()));
        (root.join("cgroup.procs").exists()).then(|| {
            fs::create_dir(&path).unwrap();
            Self(path)
        })
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn has(&self, pid: i32) -> bool {
        fs::read_to_string(self.0.join("cgroup.procs")).unwrap().lines().any(|line| line == pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        eventually(|| fs::remove_dir(&self.0).is_ok());
    }
}

/// The version 2 hierarchy of this host: hybrid or pure.
fn unified() -> Group {
    Group::new("unified").or_else(|| Group::new("")).expect("a cgroup2 mount")
}

fn exec_started(outcome: &Outcome) -> i32 {
    let Outcome::ExecStarted { pid } = outcome else { panic!("{outcome:?}") };
    *pid
}

#[test]
fn init_and_execs_are_born_in_their_groups() {
    let (unified, memory) = (unified(), Group::new("memory"));
    let mut container = Container::new();
    let mut plan = container.plan(&["sh", "-c", "cat /proc/self/cgroup; sleep 1000"]);
    plan.cgroup.unified = Some(unified.0.to_str().unwrap().to_owned());
    plan.cgroup.v1_tasks = memory.iter().map(|group| group.file("tasks")).collect();
    let pid = container.start(&plan);
    let null = || fs::File::open("/dev/null").unwrap().into();
    let exec = exec_started(&container.exec(1, &process(&["sleep", "1000"]), vec![null(), null(), null()]).0);
    for group in [Some(&unified), memory.as_ref()].into_iter().flatten() {
        assert!(group.has(pid) && group.has(exec), "{:?}", group.0);
        assert!(!group.has(container.shim.id().cast_signed()));
    }
    // Inside, the group is the root.
    eventually(|| container.log("stdout").contains("0::"));
    let text = container.log("stdout");
    assert!(text.lines().any(|line| line == "0::/"), "{text}");
    container.request(RequestBody::Signal { target: Target::Init, signal: 9 }, &[]);
    container.wait();
}

#[test]
fn the_out_of_memory_killer_is_recorded() {
    let (group, limit, events) = match Group::new("memory") {
        Some(group) => (group, "memory.limit_in_bytes", "memory.oom_control"),
        None => (unified(), "memory.max", "memory.events"),
    };
    fs::write(group.file(limit), "16777216").unwrap();
    let mut container = Container::new();
    // All at once, inside one read(2): otherwise the kernel takes the program's own pages away to find room, for long.
    let mut plan = container.plan(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=48M count=1"]);
    match group.0.join("tasks").exists() {
        true => plan.cgroup.v1_tasks = vec![group.file("tasks")],
        false => plan.cgroup.unified = Some(group.0.to_str().unwrap().to_owned()),
    }
    plan.cgroup.oom_file = Some(group.file(events));
    container.start(&plan);
    let exit = container.wait();
    assert!(exit.oom_killed, "{exit:?}");
}

#[test]
fn a_device_filter_is_attached() {
    // r0 = 1; if (access_type >> 16 & BPF_DEVCG_ACC_READ && major == 1 && minor == 5) r0 = 0; return r0: /dev/zero is not read.
    let program: [[u8; 8]; 10] = [
        [0x61, 0x12, 0, 0, 0, 0, 0, 0],
        [0x77, 0x02, 0, 0, 16, 0, 0, 0],
        [0x57, 0x02, 0, 0, 2, 0, 0, 0],
        [0xb7, 0x00, 0, 0, 1, 0, 0, 0],
        [0x15, 0x02, 4, 0, 0, 0, 0, 0],
        [0x61, 0x12, 4, 0, 0, 0, 0, 0],
        [0x55, 0x02, 2, 0, 1, 0, 0, 0],
        [0x61, 0x12, 8, 0, 0, 0, 0, 0],
        [0x15, 0x02, 1, 0, 5, 0, 0, 0],
        [0x95, 0x00, 0, 0, 0, 0, 0, 0],
    ];
    let deny: [[u8; 8]; 2] = [[0xb7, 0x00, 0, 0, 0, 0, 0, 0], [0x95, 0x00, 0, 0, 0, 0, 0, 0]];
    let group = unified();
    let mut container = Container::new();
    let script = "head -c 1 /dev/zero 2>/dev/null || echo denied; echo x >/dev/zero && head -c 1 /dev/urandom | wc -c";
    let mut plan = container.plan(&["sh", "-c", script]);
    plan.cgroup.unified = Some(group.0.to_str().unwrap().to_owned());
    plan.cgroup.device_program = Some([&program[..], &deny[..]].concat().concat());
    container.start(&plan);
    assert_eq!(container.wait().code, 0);
    assert_eq!(container.log("stdout"), "denied\n1\n");
}

#[test]
fn layers_on_a_file_system_without_files_to_mount_go_through_a_loop_device() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = |name: &str| directory.path().join(name);
    ["root", "target"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    fs::write(path("root/file"), "inside").unwrap();
    let made = std::process::Command::new("mkfs.erofs").arg(path("image")).arg(path("root")).output().unwrap();
    assert!(made.status.success());
    let mount = |file: &str| {
        std::process::Command::new(crate::driver::shim())
            .arg("mount-layer")
            .arg(path(file))
            .arg(path("target"))
            .output()
            .unwrap()
    };
    let mounted = mount("image");
    assert!(mounted.status.success(), "{mounted:?}");
    assert_eq!(fs::read_to_string(path("target/file")).unwrap(), "inside");
    assert_eq!(fs::write(path("target/file"), "").unwrap_err().raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
    nix::mount::umount(&path("target")).unwrap();
    let text = String::from_utf8(mount("nowhere").stderr).unwrap();
    assert!(text.contains("ENOENT") && text.lines().count() == 1, "{text}");
    fs::write(path("damaged"), "no image".repeat(4096)).unwrap();
    let text = String::from_utf8(mount("damaged").stderr).unwrap();
    assert!(text.contains("EINVAL") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_cgroup_v1_view_shows_the_own_groups() {
    let Some(memory) = Group::new("memory") else { return };
    let mut container = Container::new();
    let script = "ls /sys/fs/cgroup; test -f /sys/fs/cgroup/memory/tasks && echo tasks; readlink /sys/fs/cgroup/mem; \
        (echo 0 > /sys/fs/cgroup/memory/tasks) 2>/dev/null || echo ro; mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro";
    let mut plan = container.plan(&["sh", "-c", script]);
    plan.cgroup.v1_tasks = vec![memory.file("tasks")];
    plan.mounts.push(MountPlan {
        kind: MountKind::CgroupV1 {
            hierarchies: vec![("memory".to_owned(), memory.0.to_str().unwrap().to_owned())],
            links: vec![("mem".to_owned(), "memory".to_owned())],
        },
        target: "/sys/fs/cgroup".to_owned(),
        flags: mount_flags::NOSUID | mount_flags::NODEV | mount_flags::NOEXEC | mount_flags::RDONLY,
    });
    container.start(&plan);
    assert_eq!(container.wait().code, 0);
    assert_eq!(container.log("stdout"), "mem\nmemory\ntasks\nmemory\nro\nro\n");
}

/// Kilobytes of a line of smaps_rollup.
fn memory(pid: u32, line: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let value = text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn memory_is_small_and_execs_leave_nothing() {
    let mut container = Container::new();
    let plan = container.plan(&["sleep", "1000"]);
    container.start(&plan);
    let shim = container.shim.id();
    let idle = memory(shim, "Anonymous");
    assert!(idle <= 120, "{idle} kB");
    let null = || fs::File::open("/dev/null").unwrap().into();
    let mut failing = process(&["nope", &"x".repeat(10_000)]);
    failing.env.push(format!("LONG={}", "y".repeat(10_000)));
    let mut working = process(&["true", &"x".repeat(10_000)]);
    working.env.push(format!("LONG={}", "y".repeat(10_000)));
    let mut round = |id| {
        assert!(matches!(container.exec(id, &failing, vec![null(), null(), null()]).0, Outcome::Failed(_)));
        exec_started(&container.exec(id, &working, vec![null(), null(), null()]).0);
        assert!(matches!(container.event(), Event::ExecExited { exec_id, exit } if exec_id == id && exit.code == 0));
    };
    (0..100).for_each(&mut round);
    let (before, fds) = (memory(shim, "Anonymous"), descriptors(shim));
    (100..600).for_each(&mut round);
    let after = memory(shim, "Anonymous");
    assert!(after <= before + 8, "{before} kB grew to {after}");
    assert_eq!(descriptors(shim), fds);
}

#[test]
fn attachments_leave_nothing() {
    let mut container = Container::new();
    let mut plan = container.plan(&["sh", "-c", "while read line; do echo $line; done"]);
    plan.stdin = Stdin::Open { once: false };
    container.start(&plan);
    let shim = container.shim.id();
    let fds = descriptors(shim);
    let attach = |container: &mut Container| {
        let (input, output, error) = (crate::driver::pipe(), crate::driver::pipe(), crate::driver::pipe());
        let pipes = AttachPipes { stdin: true, stdout: true, stderr: true };
        let body = RequestBody::Attach { pipes };
        assert_eq!(container.request(body, &[input.0, output.1, error.1]).0, Outcome::Done);
    };
    (0..200).for_each(|_| attach(&mut container));
    eventually(|| descriptors(shim) == fds);
}
