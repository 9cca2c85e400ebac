//! The connection to the agent: at most one, which may go and come.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{Event, Outcome, Report, Request};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::startup::MAX_REQUEST;
use crate::sys::packet;

/// Most reports that wait for an agent that does not read; with more it is taken for dead.
const MAX_QUEUE: usize = 4096;

/// The connection.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: Option<OwnedFd>,
    queue: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

impl Agent {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket), queue: VecDeque::new() }
    }

    /// The socket, and whether reports wait for room in it.
    pub(crate) fn socket(&self) -> Option<(&OwnedFd, bool)> {
        self.socket.as_ref().map(|socket| (socket, !self.queue.is_empty()))
    }

    /// Takes a new connection, if it is root's, in the place of the old.
    pub(crate) fn accept(&mut self, listener: &OwnedFd) {
        let Ok(socket) = packet::accept(listener.as_fd()) else { return };
        if getsockopt(&socket, PeerCredentials).is_ok_and(|peer| peer.uid() == 0) {
            *self = Self::new(socket);
        }
    }

    /// Receives a request with its descriptors. `None`: there is none to obey; a connection that is broken is dropped.
    pub(crate) fn receive(&mut self) -> Option<(Request, Vec<OwnedFd>)> {
        let socket = self.socket.as_ref()?;
        let mut packet = [0; MAX_REQUEST];
        match packet::receive(socket.as_fd(), &mut packet) {
            Err(Errno::EINTR | Errno::EAGAIN) => None,
            Ok((length, fds)) if length > 0 => match hull_wire::decode(&packet[..length]) {
                Ok(request) => Some((request, fds)),
                Err(_) => self.lose(),
            },
            Ok(_) | Err(_) => self.lose(),
        }
    }

    fn lose(&mut self) -> Option<(Request, Vec<OwnedFd>)> {
        self.socket = None;
        self.queue.clear();
        None
    }

    /// Answers a request, with a descriptor if one belongs to the answer.
    pub(crate) fn reply(&mut self, seq: u64, outcome: Outcome, fd: Option<OwnedFd>) {
        self.report(&Report::Reply { seq, outcome }, fd);
    }

    /// Tells of an event; nobody hears it while no agent is connected.
    pub(crate) fn tell(&mut self, event: Event) {
        self.report(&Report::Event(event), None);
    }

    fn report(&mut self, report: &Report, fd: Option<OwnedFd>) {
        if self.socket.is_none() {
            return;
        }
        if let Ok(packet) = hull_wire::encode(report) {
            self.queue.push_back((packet, fd));
        }
        self.flush();
        if self.queue.len() > MAX_QUEUE {
            self.lose();
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        while let (Some(socket), Some((packet, fd))) = (&self.socket, self.queue.front()) {
            match packet::send(socket.as_fd(), packet, fd.as_ref().map(AsFd::as_fd), false) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.lose();
                }
            }
        }
    }
}
