//! Init's input: from attachments to its pipe or terminal.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::Stdin;
use nix::errno::Errno;
use nix::unistd::read;

use super::output::write_some;
use crate::sys::fd::set_nonblocking;

/// Bytes read at once, and so the most that wait here for a container that does not read.
const CHUNK: usize = 16 * 1024;

/// Standard input of init.
#[derive(Debug)]
pub(crate) struct Input {
    /// `None`: closed, or there never was one.
    target: Option<OwnedFd>,
    /// Close it when the first attachment's input ends.
    once: bool,
    /// What did not fit yet.
    unsent: Vec<u8>,
    sources: Vec<Source>,
    /// Whether an attachment with an input has come.
    attached: bool,
    /// The first one has ended: close when everything is sent.
    closing: bool,
}

#[derive(Debug)]
struct Source {
    pipe: OwnedFd,
    first: bool,
}

impl Input {
    /// `terminal`: its input never closes.
    pub(crate) fn new(target: Option<OwnedFd>, stdin: Stdin, terminal: bool) -> Self {
        let once = stdin == Stdin::Open { once: true } && !terminal;
        Self { target, once, unsent: Vec::new(), sources: Vec::new(), attached: false, closing: false }
    }

    /// Adds an attachment; dropped at once if nothing can be written any more.
    pub(crate) fn attach(&mut self, pipe: OwnedFd) -> nix::Result<()> {
        set_nonblocking(pipe.as_fd())?;
        if self.target.is_some() && !self.closing {
            self.sources.push(Source { pipe, first: !self.attached });
            self.attached = true;
        }
        Ok(())
    }

    /// What to read from now: nothing while init is behind, so that attachments wait for it.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &OwnedFd> {
        let ready = self.unsent.is_empty();
        self.sources.iter().filter(move |_| ready).map(|source| &source.pipe)
    }

    /// Where input goes, and whether it waits for room. Otherwise it is watched for its end.
    pub(crate) fn target(&self) -> Option<(&OwnedFd, bool)> {
        self.target.as_ref().map(|target| (target, !self.unsent.is_empty()))
    }

    /// Reads from the attachments until init is behind.
    pub(crate) fn pump(&mut self) {
        let mut buffer = [0; CHUNK];
        let mut index = 0;
        while index < self.sources.len() && self.unsent.is_empty() {
            let Some(target) = &self.target else { break };
            match read(&self.sources[index].pipe, &mut buffer) {
                Err(Errno::EAGAIN | Errno::EINTR) => index += 1,
                Ok(0) | Err(_) => {
                    let source = self.sources.remove(index);
                    self.closing |= source.first && self.once;
                }
                Ok(length) => match write_some(target, &buffer[..length]) {
                    Ok(sent) => self.unsent.extend_from_slice(&buffer[sent..length]),
                    Err(_) => self.close(),
                },
            }
        }
        self.close_if_done();
    }

    /// Sends what is left; `gone`: init has closed its end.
    pub(crate) fn flush(&mut self, gone: bool) {
        let Some(target) = &self.target else { return };
        if gone {
            return self.close();
        }
        match write_some(target, &self.unsent) {
            Err(_) => self.close(),
            Ok(sent) if sent == self.unsent.len() => self.unsent = Vec::new(),
            Ok(sent) => drop(self.unsent.drain(..sent)),
        }
        self.close_if_done();
    }

    fn close_if_done(&mut self) {
        if self.closing && self.unsent.is_empty() {
            self.close();
        }
    }

    /// Closes init's input and all attachments' ends, so that who still writes learns of it.
    pub(crate) fn close(&mut self) {
        self.target = None;
        self.unsent = Vec::new();
        self.sources.clear();
    }
}
