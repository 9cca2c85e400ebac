//! Talking to a process: exec and attach.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hull_wire::{AttachPipes, ExitRecord, Outcome, RequestBody, Target};
use tokio::sync::oneshot;

use super::assemble;
use super::config::ExecConfig;
use super::container::{FirstAttachment, Handle, Request};
use super::containers::{Containers, wait_for};
use super::context::START_DEADLINE;
use super::plan::{self, ExecContext};
use super::record::{Exit, View, now_nanos};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::runtime::memfd;
use crate::runtime::shim::ShimClient;
use crate::runtime::stdio::{self, Input, Output, TerminalSize};
use crate::store::Table;

/// A process with its standard streams. Dropping the session of an exec kills its process; an attachment just ends.
#[derive(Debug)]
pub(crate) struct Session {
    /// Of the process, on the host.
    pub(crate) pid: i32,
    pub(crate) terminal: bool,
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) control: Control,
    /// How the process ended; an error if that was not seen.
    pub(crate) exit: oneshot::Receiver<Result<Exit>>,
    /// Whether the process was killed at its timeout.
    pub(crate) timed_out: Arc<AtomicBool>,
    /// Whether all that the process wrote can be read once it has ended: the outputs are pipes that nobody stands between.
    pub(crate) direct: bool,
    _owner: Option<ExecOwner>,
}

/// Which streams of a container are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AttachConfig {
    pub(crate) stdin: bool,
    /// Start the container, once attached.
    pub(crate) start: bool,
    /// Rows and columns.
    pub(crate) terminal_size: Option<(u16, u16)>,
}

/// Size and signals of a session's process.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    client: Arc<ShimClient>,
    target: Target,
    terminal: Option<TerminalSize>,
}

impl Control {
    /// Sets the size of the process's terminal.
    pub(crate) async fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        match (&self.terminal, self.target) {
            (Some(terminal), _) => terminal.set(rows, columns),
            (None, Target::Init) => {
                self.client.command(RequestBody::Resize { rows, columns }, &[], Reason::InvalidState).await
            }
            (None, Target::Exec(_)) => Err(Error::new(Reason::InvalidState, "the process has no terminal")),
        }
    }

    /// Sends a signal to the process.
    pub(crate) async fn signal(&self, signal: i32) -> Result<()> {
        let body = RequestBody::Signal { target: self.target, signal };
        self.client.command(body, &[], Reason::InvalidState).await
    }
}

/// Kills the exec'd process when its session goes before it.
#[derive(Debug)]
struct ExecOwner {
    client: Arc<ShimClient>,
    exec_id: u64,
    ended: Arc<AtomicBool>,
}

impl Drop for ExecOwner {
    fn drop(&mut self) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let (client, exec_id) = (Arc::clone(&self.client), self.exec_id);
        let kill = async move {
            client.forget_exec(exec_id);
            let body = RequestBody::Signal { target: Target::Exec(exec_id), signal: nix::libc::SIGKILL };
            if let Err(error) = client.command(body, &[], Reason::ExecFailed).await {
                tracing::debug!(%error, "an exec whose session ended is gone already");
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(kill);
        }
    }
}

/// Numbers of execs: unique in the life of every shim, also across agents, since they start at the time of the start.
static NEXT_EXEC: AtomicU64 = AtomicU64::new(0);

fn next_exec_id() -> u64 {
    let _first = NEXT_EXEC.compare_exchange(0, now_nanos(), Ordering::Relaxed, Ordering::Relaxed);
    NEXT_EXEC.fetch_add(1, Ordering::Relaxed)
}

/// The ends of an exec'd process's streams: those of the process, and ours.
struct Streams {
    theirs: Vec<OwnedFd>,
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

impl Streams {
    fn pipes(stdin: bool) -> Result<Self> {
        let (input, our_input) = if stdin {
            let (theirs, ours) = stdio::input_pipe()?;
            (theirs, Some(ours))
        } else {
            (stdio::null()?, None)
        };
        let (output, our_output) = stdio::output_pipe()?;
        let (error, our_error) = stdio::output_pipe()?;
        Ok(Self {
            theirs: vec![input, output, error],
            stdin: our_input,
            stdout: Some(our_output),
            stderr: Some(our_error),
        })
    }
}

impl Containers {
    /// Runs a further process in a running container.
    pub(crate) async fn exec(&self, reference: &str, config: ExecConfig) -> Result<Session> {
        let handle = self.find(reference)?;
        let (client, _) = handle.ask(Request::Shim).await?;
        let view = handle.view();
        let process = self.exec_plan(&view, &config).await?;
        let terminal = config.terminal.is_some();
        let mut streams = if terminal {
            Streams { theirs: Vec::new(), stdin: None, stdout: None, stderr: None }
        } else {
            Streams::pipes(config.stdin)?
        };
        let exec_id = next_exec_id();
        let ended = client.expect_exec(exec_id);
        let owner = ExecOwner { client: Arc::clone(&client), exec_id, ended: Arc::default() };
        let mut fds: Vec<BorrowedFd<'_>> = vec![process.as_fd()];
        fds.extend(streams.theirs.iter().map(|fd| fd.as_fd()));
        let answer = client.call(RequestBody::Exec { exec_id }, &fds, START_DEADLINE).await?;
        let pid = match answer.outcome {
            Outcome::ExecStarted { pid } => pid,
            other => {
                client.forget_exec(exec_id);
                owner.ended.store(true, Ordering::Relaxed);
                return Err(not_started(&other));
            }
        };
        if let Some(master) = answer.fds.into_iter().next() {
            let (input, output) = stdio::terminal(master)?;
            (streams.stdin, streams.stdout) = (Some(input), Some(output));
        }
        let size = terminal.then(|| streams.stdout.as_ref().map(Output::terminal_size)).flatten();
        let control = Control { client, target: Target::Exec(exec_id), terminal: size };
        let timed_out = Arc::<AtomicBool>::default();
        let limit = config.timeout.map(|time| Limit { time, control: control.clone(), over: Arc::clone(&timed_out) });
        let exit = forward_exit(ended, Arc::clone(&owner.ended), limit);
        let Streams { stdin, stdout, stderr, .. } = streams;
        let direct = !terminal;
        Ok(Session { pid, terminal, stdin, stdout, stderr, control, exit, timed_out, direct, _owner: Some(owner) })
    }

    /// The encoded plan of an exec, in a memfd.
    async fn exec_plan(&self, view: &View, exec: &ExecConfig) -> Result<OwnedFd> {
        let (context, id, digest) = (Arc::clone(&self.context), view.id.clone(), view.image_digest.clone());
        let (container, exec) = (Arc::clone(&view.config), exec.clone());
        blocking(move || {
            let spec = context.store.get(Table::Specs, &id)?;
            let spec = spec.ok_or_else(|| Error::new(Reason::Internal, "the container's runtime spec is missing"))?;
            let spec = super::spec::from_json(&String::from_utf8_lossy(&spec))?;
            let image = assemble::defaults(&*context.images.get(&digest)?);
            let plan = plan::exec_process(
                &spec,
                &exec,
                &ExecContext {
                    config: &container,
                    image: &image,
                    seccomp: &context.seccomp,
                    capabilities: context.host.capabilities,
                },
            )?;
            memfd::encoded("hull-exec", &plan)
        })
        .await
    }

    /// Connects to the standard streams of a container's init.
    pub(crate) async fn attach(&self, reference: &str, attach: AttachConfig) -> Result<Session> {
        let handle = self.find(reference)?;
        let config = Arc::clone(&handle.view().config);
        if attach.stdin && !config.stdin_open {
            return Err(Error::new(Reason::InvalidState, "the container was created without standard input")
                .hint("create it with stdin_open (`hullctl run -i`)"));
        }
        let pipes = AttachPipes { stdin: attach.stdin, stdout: true, stderr: !config.terminal };
        let (mut fds, mut stdin, mut stderr) = (Vec::new(), None, None);
        if pipes.stdin {
            let (theirs, ours) = stdio::input_pipe()?;
            fds.push(theirs);
            stdin = Some(ours);
        }
        let (theirs, stdout) = stdio::output_pipe()?;
        fds.push(theirs);
        if pipes.stderr {
            let (theirs, ours) = stdio::output_pipe()?;
            fds.push(theirs);
            stderr = Some(ours);
        }
        let exit = exit_of(&handle);
        let (client, pid) = self.connect(&handle, attach, pipes, fds).await?;
        let control = Control { client, target: Target::Init, terminal: None };
        if let (true, false, Some((rows, columns))) = (config.terminal, attach.start, attach.terminal_size) {
            // The container may have ended in the meantime.
            if let Err(error) = control.resize(rows, columns).await {
                tracing::debug!(%error, "cannot set the terminal's size");
            }
        }
        let (terminal, stdout, timed_out) = (config.terminal, Some(stdout), Arc::default());
        Ok(Session { pid, terminal, stdin, stdout, stderr, control, exit, timed_out, direct: false, _owner: None })
    }

    async fn connect(
        &self,
        handle: &Arc<Handle>,
        attach: AttachConfig,
        pipes: AttachPipes,
        fds: Vec<OwnedFd>,
    ) -> Result<(Arc<ShimClient>, i32)> {
        if attach.start {
            let first = FirstAttachment { pipes, fds, terminal_size: attach.terminal_size };
            return handle.ask(|reply| Request::Start(Some(first), reply)).await;
        }
        let (client, pid) = handle.ask(Request::Shim).await?;
        let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        client.command(RequestBody::Attach { pipes }, &borrowed, Reason::InvalidState).await?;
        Ok((client, pid))
    }
}

fn not_started(outcome: &Outcome) -> Error {
    match outcome {
        Outcome::Failed(failure) => Error { reason: Reason::ExecFailed, ..super::record::start_error(failure) },
        Outcome::Ended => ShimClient::ended_error(),
        other => Error::new(Reason::Internal, format!("the shim answered an exec with {other:?}")),
    }
}

/// The time that an exec has.
struct Limit {
    time: Duration,
    control: Control,
    /// Becomes true when it is over.
    over: Arc<AtomicBool>,
}

/// Time for a process to end once it is killed: for ever where its container is frozen by version 1, or it waits for a disk.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Passes an exec's exit on, which comes soon after the limit at the latest. Ends with the exec, or its session.
fn forward_exit(
    mut exit: oneshot::Receiver<ExitRecord>,
    ended: Arc<AtomicBool>,
    limit: Option<Limit>,
) -> oneshot::Receiver<Result<Exit>> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let result = match limit {
            None => exit.await.ok().map(Ok),
            Some(limit) => exit_within(&mut exit, &limit).await,
        };
        ended.store(matches!(result, Some(Ok(_))), Ordering::Relaxed);
        if let Some(result) = result {
            let _ = sender.send(result.map(Exit::from));
        }
    });
    receiver
}

/// Waits for an exit, and kills the process at its limit. `None`: nobody will see the exit.
async fn exit_within(exit: &mut oneshot::Receiver<ExitRecord>, limit: &Limit) -> Option<Result<ExitRecord>> {
    if let Ok(exit) = tokio::time::timeout(limit.time, &mut *exit).await {
        return exit.ok().map(Ok);
    }
    limit.over.store(true, Ordering::Relaxed);
    if let Err(error) = limit.control.signal(nix::libc::SIGKILL).await {
        tracing::debug!(%error, "an exec whose time is over has ended already");
    }
    match tokio::time::timeout(KILL_GRACE, exit).await {
        Ok(exit) => exit.ok().map(Ok),
        Err(_) => Some(Err(Error::new(
            Reason::DeadlineExceeded,
            format!("the process was killed after {:?}, its timeout, but has not ended", limit.time),
        )
        .hint("in a paused container it ends once that is resumed"))),
    }
}

/// The next exit of a container, for as long as someone listens.
fn exit_of(handle: &Arc<Handle>) -> oneshot::Receiver<Result<Exit>> {
    let (mut sender, receiver) = oneshot::channel();
    let mut view = handle.watch();
    let exits = view.borrow().exits;
    tokio::spawn(async move {
        let ended = wait_for(&mut view, |view| view.exits > exits);
        tokio::select! {
            view = ended => if let Some(exit) = view.exit.clone() {
                let _ = sender.send(Ok(exit));
            },
            () = sender.closed() => {}
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[tokio::test]
    async fn a_limit_ends_with_its_exec() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, _theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let client = ShimClient::new(ours).unwrap();
        let control = Control { client: Arc::clone(&client), target: Target::Exec(1), terminal: None };
        let over = Arc::<AtomicBool>::default();
        let limit = Limit { time: Duration::from_secs(3600), control, over: Arc::clone(&over) };
        let (sender, ended) = oneshot::channel();
        let exit = forward_exit(ended, Arc::default(), Some(limit));
        sender.send(ExitRecord { code: 7, signal: 0, oom_killed: false, finished_at_nanos: 1 }).unwrap();
        assert_eq!(exit.await.unwrap().unwrap().code, 7);
        // Nothing of the limit is left: no timer, no client.
        assert_eq!((Arc::strong_count(&over), Arc::strong_count(&client)), (1, 1));
        assert!(!over.load(Ordering::Relaxed));
    }
}
