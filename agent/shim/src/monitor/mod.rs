//! Watching over a container until its init has ended: one loop around poll(2).

mod agent;
mod exit;
mod input;
mod output;
mod requests;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hull_wire::{AttachPipes, Event, ExitRecord, Failure, Outcome, Step};
use nix::libc;
use nix::libc::{POLLERR, POLLHUP, POLLIN, POLLOUT, c_short};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use self::agent::Agent;
use self::input::Input;
use self::output::{Buffer, Output};
use crate::log::{Log, Stream};
use crate::setup::{Container, OomCounter, exec::Entrance, run_dir};
use crate::sys;
use crate::sys::fd::Poll;

/// How long memory to read into is kept when no output comes, in milliseconds.
const KEEP_BUFFER: libc::c_int = 100;
/// How long attachments may stand still after the end, before what they have not read is dropped.
const MAX_STANDSTILL: Duration = Duration::from_secs(10);

/// A process that an exec started.
#[derive(Debug)]
struct Exec {
    id: u64,
    pid: Pid,
    pidfd: OwnedFd,
}

/// Everything the shim knows of its container.
#[derive(Debug)]
struct Monitor {
    pid: Pid,
    entrance: Entrance,
    execs: Vec<Exec>,
    agent: Agent,
    listener: OwnedFd,
    signals: SignalFd,
    /// Output and error; with a terminal, what it shows is the output.
    outputs: [Output; 2],
    input: Input,
    terminal: Option<(OwnedFd, OwnedFd)>,
    log: Log,
    run_dir: OwnedFd,
    /// Held to the end, see [`Container::rootfs`].
    rootfs: OwnedFd,
    oom: OomCounter,
    buffer: Buffer,
    /// Code and signal of init once it has ended.
    ended: Option<(i32, i32)>,
}

/// Where something happened.
#[derive(Debug, Clone, Copy)]
enum Place {
    Signals,
    Listener,
    Agent,
    Output(usize),
    Sinks(usize),
    InputSource,
    InputTarget,
}

/// Tells the agent that there is no container.
pub(crate) fn report_failed_setup(socket: OwnedFd, seq: u64, failure: Failure) {
    Agent::new(socket).reply(seq, Outcome::Failed(failure), None);
}

/// Monitors a container until its end.
///
/// # Errors
/// One line, if the shim cannot go on; the container then runs on alone.
pub(crate) fn run(
    container: Container,
    agent: OwnedFd,
    seq: u64,
    attach: Option<(AttachPipes, Vec<OwnedFd>)>,
) -> Result<(), String> {
    let (pid, times) = (container.pid, container.times.clone());
    let mut monitor = Monitor::new(container, agent).map_err(|errno| format!("signalfd: {errno}"))?;
    let attached = attach.map_or(Ok(()), |(which, pipes)| monitor.attach(which, pipes));
    if let Err(errno) = attached {
        let failure = crate::failure::failed(Step::Stdio, errno, "the attachment");
        monitor.agent.reply(seq, Outcome::Failed(failure), None);
        let _gone_already = sys::process::send_signal(monitor.entrance.init.as_fd(), libc::SIGKILL);
    } else {
        monitor.agent.reply(seq, Outcome::Started { pid: pid.as_raw(), times }, None);
    }
    sys::process::trim_memory();
    while monitor.ended.is_none() {
        monitor.turn()?;
    }
    monitor.finish()
}

impl Monitor {
    fn new(container: Container, agent: OwnedFd) -> nix::Result<Self> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let Container { pid, mut streams, terminal, stdin, log, run_dir, rootfs, listener, oom, entrance, .. } =
            container;
        if let Some((master, _)) = &terminal {
            let copy = |fd: &OwnedFd| fd.try_clone().map_err(|_| nix::errno::Errno::EMFILE);
            streams.stdin = Some(copy(master)?);
            streams.stdout = Some(copy(master)?);
        }
        Ok(Self {
            pid,
            entrance,
            execs: Vec::new(),
            agent: Agent::new(agent),
            listener,
            signals,
            outputs: [Output::new(Stream::Stdout, streams.stdout), Output::new(Stream::Stderr, streams.stderr)],
            input: Input::new(streams.stdin, stdin, terminal.is_some()),
            terminal,
            log,
            run_dir,
            rootfs,
            oom,
            buffer: None,
            ended: None,
        })
    }

    fn attach(&mut self, which: AttachPipes, pipes: Vec<OwnedFd>) -> nix::Result<()> {
        if pipes.len() != which.count() {
            return Err(nix::errno::Errno::EINVAL);
        }
        let mut pipes = pipes.into_iter();
        let mut next = |wanted: bool| if wanted { pipes.next() } else { None };
        let (input, output, error) = (next(which.stdin), next(which.stdout), next(which.stderr));
        input.map_or(Ok(()), |pipe| self.input.attach(pipe))?;
        output.map_or(Ok(()), |pipe| self.outputs[0].attach(pipe))?;
        error.map_or(Ok(()), |pipe| self.outputs[1].attach(pipe))
    }

    /// Waits for something to happen, and attends to it.
    fn turn(&mut self) -> Result<(), String> {
        let (places, mut polls): (Vec<Place>, Vec<Poll>) = self.watched().into_iter().unzip();
        match sys::fd::poll(&mut polls, self.timeout()) {
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            Ok(0) if self.log.pause().is_none() => {
                self.buffer = None;
                self.log.rest();
            }
            ready => drop(ready.map_err(|errno| format!("poll: {errno}"))?),
        }
        for (place, poll) in places.into_iter().zip(polls) {
            if poll.ready() != 0 {
                self.attend(place, poll);
            }
        }
        Ok(())
    }

    /// How long to wait, in milliseconds; -1: until something happens.
    fn timeout(&self) -> libc::c_int {
        let keep = self.buffer.as_ref().map(|_| KEEP_BUFFER);
        let log = self.log.wait().map(|wait| libc::c_int::try_from(wait.as_millis() + 1).unwrap_or(libc::c_int::MAX));
        keep.into_iter().chain(log).min().unwrap_or(-1)
    }

    fn watched(&self) -> Vec<(Place, Poll)> {
        let out = |waits: bool| if waits { POLLOUT } else { 0 };
        let paused = self.log.pause().is_some();
        let mut watched = Vec::with_capacity(12);
        let mut watch = |place, fd: &OwnedFd, events: c_short| watched.push((place, Poll::new(fd.as_fd(), events)));
        watch(Place::Listener, &self.listener, POLLIN);
        if let Some((socket, waits)) = self.agent.socket() {
            watch(Place::Agent, socket, POLLIN | out(waits));
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(source) = output.source().filter(|_| !paused) {
                watch(Place::Output(index), source, POLLIN);
            }
            output.sinks().for_each(|(sink, waits)| watch(Place::Sinks(index), sink, out(waits)));
        }
        self.input.sources().for_each(|source| watch(Place::InputSource, source, POLLIN));
        if let Some((target, waits)) = self.input.target() {
            watch(Place::InputTarget, target, out(waits));
        }
        watched.push((Place::Signals, Poll::new(self.signals.as_fd(), POLLIN)));
        watched
    }

    fn attend(&mut self, place: Place, poll: Poll) {
        let ready = poll.ready();
        match place {
            Place::Signals => self.reap(),
            Place::Listener => self.agent.accept(&self.listener),
            Place::Agent => {
                if ready & POLLOUT != 0 {
                    self.agent.flush();
                }
                if ready & (POLLIN | POLLHUP | POLLERR) != 0 {
                    self.obey();
                }
            }
            Place::Output(index) => self.outputs[index].pump(&mut self.buffer, &mut self.log),
            Place::Sinks(index) if ready & (POLLERR | POLLHUP) != 0 => {
                self.outputs[index].drop_sink(|sink| poll.is_of(sink.as_fd()))
            }
            Place::Sinks(index) => self.outputs[index].flush(),
            Place::InputSource => self.input.pump(),
            Place::InputTarget => self.input.flush(ready & (POLLERR | POLLHUP) != 0),
        }
    }

    fn obey(&mut self) {
        if let Some((request, fds)) = self.agent.receive() {
            let (outcome, fd) = self.answer(request.body, fds);
            self.agent.reply(request.seq, outcome, fd);
        }
    }

    /// Reaps all children that have ended: init, execs, and orphans that came to the shim.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some((pid, code, signal)) = exit::reap() {
            if pid == self.pid {
                self.ended = Some((code, signal));
            } else if let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) {
                let exec_id = self.execs.swap_remove(index).id;
                let exit = exit::record(code, signal, signal == libc::SIGKILL && self.oom.has_come());
                self.agent.tell(Event::ExecExited { exec_id, exit });
            }
        }
    }

    /// After the end of init: the last output, the exit file, the news to the agent.
    fn finish(mut self) -> Result<(), String> {
        let (code, signal) = self.ended.unwrap_or_default();
        let exit: ExitRecord = exit::record(code, signal, self.oom.has_come());
        self.input.close();
        for output in &mut self.outputs {
            output.drain(&mut self.buffer, &mut self.log);
        }
        let written = exit::write_file(&self.run_dir, &exit);
        self.agent.tell(Event::Exited(exit));
        run_dir::remove_socket(&self.run_dir);
        self.linger();
        written.map_err(|errno| format!("writing the exit file: {errno}"))
    }

    /// Lets attachments and the agent take what is theirs.
    fn linger(&mut self) {
        let mut moved = Instant::now();
        while moved.elapsed() < MAX_STANDSTILL {
            let waits = |poll: &(Place, Poll)| matches!(poll.0, Place::Agent | Place::Sinks(_));
            let behind =
                self.outputs.iter().any(Output::is_behind) || self.agent.socket().is_some_and(|(_, waits)| waits);
            if !behind {
                return;
            }
            let (places, mut polls): (Vec<Place>, Vec<Poll>) = self.watched().into_iter().filter(waits).unzip();
            let timeout = libc::c_int::try_from(MAX_STANDSTILL.as_millis()).unwrap_or(libc::c_int::MAX);
            if !matches!(sys::fd::poll(&mut polls, timeout), Ok(1..)) {
                continue;
            }
            moved = Instant::now();
            for (place, poll) in places.into_iter().zip(polls) {
                if poll.ready() != 0 {
                    self.attend(place, poll);
                }
            }
        }
    }
}
