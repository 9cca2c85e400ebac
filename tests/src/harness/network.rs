//! A network namespace of the tests' own, with nothing but loopback: agents, registries and proxies that must reach each other live
//! in it.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

/// First port that is given out: far below those that the kernel gives to callers.
const FIRST_PORT: u16 = 5000;

/// A network namespace. It lives as long as this or a process in it.
#[derive(Debug)]
pub struct Network {
    namespace: File,
    next_port: AtomicU16,
}

impl Network {
    /// A new one, with loopback up.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn new() -> Arc<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            let up = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status().expect("busybox");
            assert!(up.success(), "setting loopback up");
            File::open("/proc/thread-self/ns/net").expect("opening the network namespace")
        };
        let namespace = std::thread::spawn(make).join().expect("making a network namespace");
        Arc::new(Self { namespace, next_port: AtomicU16::new(FIRST_PORT) })
    }

    /// Its path, while this program runs.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// A command that is run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a command in it, which must succeed; its standard output.
    ///
    /// # Panics
    /// If it does not.
    pub fn run(&self, program: &str, words: &[&str]) -> String {
        let output = self.command(program).args(words).output().expect("starting nsenter");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {words:?}: {error}: is it installed? run `make deps`");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A thread in it.
    ///
    /// # Panics
    /// In the thread, if the kernel refuses.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = self.namespace.try_clone().expect("dup");
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the network namespace");
            work()
        })
    }

    /// A port that nobody else was given.
    pub fn port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    /// Listens on a port of loopback.
    ///
    /// # Panics
    /// If it is taken.
    pub fn listen(&self, port: u16) -> TcpListener {
        self.spawn(move || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listening")).join().expect("a thread")
    }

    /// Whether someone listens on a port of an address.
    ///
    /// # Panics
    /// Never in practice: the thread does not.
    pub fn is_open(&self, address: &'static str, port: u16) -> bool {
        self.spawn(move || TcpStream::connect((address, port)).is_ok()).join().expect("a thread")
    }

    /// Gives it a further address, which is its own as those of loopback are.
    pub fn add(&self, address: &str) {
        self.run("busybox", &["ip", "address", "add", &format!("{address}/32"), "dev", "lo"]);
    }
}
