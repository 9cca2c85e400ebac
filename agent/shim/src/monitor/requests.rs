//! What the agent may ask for.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{Outcome, PROTOCOL_VERSION, ProcessPlan, RequestBody, Step, Target};
use nix::errno::Errno;

use super::{Exec, Monitor, exit};
use crate::failure::{At, Result, failed};
use crate::setup::exec;
use crate::startup::read_plan;
use crate::sys;

impl Monitor {
    /// Does what a request says: the answer, and a descriptor that belongs to it.
    pub(super) fn answer(&mut self, request: RequestBody, fds: Vec<OwnedFd>) -> (Outcome, Option<OwnedFd>) {
        let done = match request {
            RequestBody::Exec { exec_id } => {
                return self.exec(exec_id, fds).unwrap_or_else(|failure| (Outcome::Failed(failure), None));
            }
            RequestBody::Status => {
                return (Outcome::Status { protocol: PROTOCOL_VERSION, pid: self.pid.as_raw() }, None);
            }
            RequestBody::Root => {
                let root = self.rootfs.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
                return match root.at(Step::Rootfs, "the root's descriptor") {
                    Ok(root) => (Outcome::Root, Some(root)),
                    Err(failure) => (Outcome::Failed(failure), None),
                };
            }
            RequestBody::Setup { .. } | RequestBody::View => {
                Err(failed(Step::Plan, Errno::EALREADY, "this shim has its container"))
            }
            RequestBody::Signal { target, signal } => self.signal(target, signal),
            RequestBody::Resize { rows, columns } => self.resize(rows, columns),
            RequestBody::Attach { pipes } => self.attach(pipes, fds).at(Step::Stdio, "the attachment"),
        };
        (done.map_or_else(Outcome::Failed, |()| Outcome::Done), None)
    }

    fn exec(&mut self, id: u64, fds: Vec<OwnedFd>) -> Result<(Outcome, Option<OwnedFd>)> {
        let mut fds = fds.into_iter();
        let plan: ProcessPlan = read_plan(fds.next())?;
        let streams: Vec<OwnedFd> = fds.collect();
        let born = match exec::start(&self.entrance, &plan, &streams) {
            // With its init a pid namespace ends: it makes no processes (ENOMEM), and kills those that were just made.
            Err(_) if self.init_ends() => return Ok((Outcome::Ended, None)),
            born => born?,
        };
        let pid = born.child.pid;
        self.execs.push(Exec { id, pid, pidfd: born.child.pidfd });
        Ok((Outcome::ExecStarted { pid: pid.as_raw() }, born.terminal))
    }

    /// Whether init has ended or ends at this moment.
    fn init_ends(&self) -> bool {
        self.ended.is_some() || exit::is_under_way(self.pid)
    }

    fn signal(&self, target: Target, signal: i32) -> Result<()> {
        let process = match target {
            Target::Init => Some(&self.entrance.init),
            Target::Exec(id) => self.execs.iter().find(|exec| exec.id == id).map(|exec| &exec.pidfd),
        };
        let sent = process.ok_or(Errno::ESRCH).and_then(|process| sys::process::send_signal(process.as_fd(), signal));
        sent.at(Step::Shim, format!("signal {signal}"))
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let terminal = self.terminal.as_ref().ok_or(Errno::ENOTTY);
        terminal
            .and_then(|(master, _)| sys::terminal::set_size(master.as_fd(), rows, columns))
            .at(Step::Stdio, "resizing the terminal")
    }
}
