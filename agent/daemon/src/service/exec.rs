//! Exec and Attach: a process's standard streams over one call.
//!
//! Bytes are copied as they come, in pieces of at most 64 KiB and with at most a few in flight: a client that does not
//! read stops the process's output, not the agent's memory. Output is read to its end before `exit` is sent. A process
//! that leaves a child behind which holds its output open does not hold the call: after its exit comes what it had written,
//! at most 1 MiB (what a pipe can hold), then the call ends. A pipe is at its end then when nothing is in it. From a terminal,
//! and through the shim, bytes come a moment later: that output ends when it is silent for 100 ms.

mod sync;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hull_proto::v1;
use nix::errno::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

pub(super) use self::sync::exec_sync;
use super::convert::{self, config};
use super::status::{from_transport, shutting_down, status};
use crate::error::{Error, Reason, Result};
use crate::lifecycle::signal;
use crate::lifecycle::{AttachConfig, Containers, Control, Exit, Input, Output, Session};

/// Bytes that are read from a process at once.
const CHUNK: usize = 64 * 1024;
/// Room in a buffer below which a new one is made.
const LEAST_ROOM: usize = 4 * 1024;
/// Most bytes of standard input in one message.
const MAX_STDIN: usize = 1024 * 1024;
/// Answers that wait for a slow client.
const QUEUE: usize = 2;
/// Messages of standard input that wait for a slow process; more of them stop the client.
const STDIN_QUEUE: usize = 2;
/// Silence after which the output of a process that has exited counts as ended.
const SILENCE: Duration = Duration::from_millis(100);
/// Most bytes of output that are taken after the exit: `fs.pipe-max-size`.
const AFTER_EXIT: usize = 1024 * 1024;

/// Answers of a call.
type Answers<T> = mpsc::Sender<Result<T, Status>>;
/// What the handler gives to the transport.
pub(super) type Stream<T> = mpsc::Receiver<Result<T, Status>>;

/// A message of the client after the first.
#[derive(Debug, PartialEq, Eq)]
enum Incoming {
    Stdin(Bytes),
    StdinClose,
    Resize(u16, u16),
    Signal(i32),
}

/// A message to the client.
#[derive(Debug)]
enum Outgoing {
    Started { pid: i32, terminal: bool },
    Stdout(Bytes),
    Stderr(Bytes),
    Exit(Exit),
}

/// Runs a further process.
pub(super) async fn exec(
    containers: &Containers,
    mut requests: Streaming<v1::ExecRequest>,
    shutdown: CancellationToken,
) -> Result<Stream<v1::ExecResponse>, Status> {
    let first = first(&mut requests).await?.message;
    let Some(v1::exec_request::Message::Start(start)) = first else { return Err(start_expected()) };
    let (container, config) = config::exec(start)?;
    let wants_stdin = config.stdin;
    let mut session = containers.exec(convert::reference("start.container", &container)?, config).await?;
    // A terminal has an input even where none was asked for.
    session.stdin.take_if(|_| !wants_stdin);
    Ok(run(session, requests, shutdown))
}

/// Connects to the init of a container.
pub(super) async fn attach(
    containers: &Containers,
    mut requests: Streaming<v1::AttachRequest>,
    shutdown: CancellationToken,
) -> Result<Stream<v1::AttachResponse>, Status> {
    let first = first(&mut requests).await?.message;
    let Some(v1::attach_request::Message::Start(start)) = first else { return Err(start_expected()) };
    let size = start.terminal_size.map(|size| config::terminal_size("start.terminal_size", size)).transpose()?;
    let attach = AttachConfig { stdin: start.stdin, start: start.start_container, terminal_size: size };
    let session = containers.attach(convert::reference("start.container", &start.container)?, attach).await?;
    Ok(run(session, requests, shutdown))
}

async fn first<T>(requests: &mut Streaming<T>) -> Result<T, Status> {
    requests.message().await.map_err(from_transport)?.ok_or_else(start_expected)
}

fn start_expected() -> Status {
    status(&Error::invalid("message", "the first must be start"))
}

/// Serves the session in a task of its own, which ends it when the client is gone.
fn run<Q, A>(session: Session, requests: Streaming<Q>, shutdown: CancellationToken) -> Stream<A>
where
    Q: Send + 'static,
    Incoming: TryFrom<Q, Error = Error>,
    A: From<Outgoing> + Send + 'static,
{
    let (answers, stream) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let last = tokio::select! {
            last = serve(session, requests, &answers) => last,
            () = answers.closed() => return,
            () = shutdown.cancelled() => Some(Err(shutting_down().into())),
        };
        if let Some(last) = last {
            // The client may be gone; then there is no one to tell.
            let _ = answers.send(last).await;
        }
    });
    stream
}

/// Copies until the process has ended or something is wrong. Returns the last answer; `None`: the client is gone.
async fn serve<Q, A>(mut session: Session, requests: Streaming<Q>, answers: &Answers<A>) -> Option<Result<A, Status>>
where
    Incoming: TryFrom<Q, Error = Error>,
    A: From<Outgoing>,
{
    let started = Outgoing::Started { pid: session.pid, terminal: session.terminal };
    answers.send(Ok(started.into())).await.ok()?;
    let stdin = session.stdin.take();
    let controls = Controls { control: session.control.clone(), terminal: session.terminal };
    let last = tokio::select! {
        exit = output(&mut session, answers) => exit.map(|exit| Outgoing::Exit(exit).into()).map_err(Status::from),
        broken = feed(requests, stdin, &controls) => Err(broken),
    };
    Some(last)
}

/// Copies the outputs until they and the process have ended.
async fn output<A: From<Outgoing>>(session: &mut Session, answers: &Answers<A>) -> Result<Exit> {
    let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
    let (has_exited, exited) = watch::channel(false);
    let direct = session.direct;
    let exit = async {
        let exit = (&mut session.exit).await;
        has_exited.send_replace(true);
        exit
    };
    let (out, err, exit) = tokio::join!(
        copy(stdout, Outgoing::Stdout, answers, exited.clone(), direct),
        copy(stderr, Outgoing::Stderr, answers, exited.clone(), direct),
        exit,
    );
    out.and(err)?;
    exit.map_err(|_| Error::new(Reason::ShimLost, "the container's shim ended before it told of the exit"))?
}

/// Copies one output to the client, to its end; after the exit until nothing is there (`direct`) or comes.
async fn copy<A: From<Outgoing>>(
    output: Option<Output>,
    wrap: fn(Bytes) -> Outgoing,
    answers: &Answers<A>,
    mut exited: watch::Receiver<bool>,
    direct: bool,
) -> Result<()> {
    let Some(mut output) = output else { return Ok(()) };
    let mut buffer = BytesMut::new();
    let mut after_exit = 0;
    loop {
        if buffer.capacity() < LEAST_ROOM {
            buffer.reserve(CHUNK);
        }
        let has_exited = *exited.borrow_and_update();
        let read = if has_exited && direct {
            match output.read_now(&mut buffer) {
                Ok(None) => return Ok(()),
                read => read.map(Option::unwrap_or_default),
            }
        } else {
            tokio::select! {
                biased;
                read = output.read_buf(&mut buffer) => read,
                _ = exited.changed(), if !has_exited => continue,
                () = tokio::time::sleep(SILENCE), if has_exited => return Ok(()),
            }
        };
        match read {
            Ok(0) => return Ok(()),
            Ok(length) if has_exited => after_exit += length,
            Ok(_) => {}
            Err(error) => return Err(Error::io("reading the output of the process", &error)),
        }
        // A closed channel ends the whole call.
        let _ = answers.send(Ok(wrap(buffer.split().freeze()).into())).await;
        if after_exit >= AFTER_EXIT {
            return Ok(());
        }
    }
}

/// What a client may do to the process beside writing to it.
#[derive(Debug)]
struct Controls {
    control: Control,
    terminal: bool,
}

/// Obeys the client's messages until one is wrong. The end of them closes standard input and is not the end of the call.
async fn feed<Q>(mut requests: Streaming<Q>, stdin: Option<Input>, controls: &Controls) -> Status
where
    Incoming: TryFrom<Q, Error = Error>,
{
    // Between reader and writer, so that a signal overtakes input that the process does not take.
    let (bytes, queue) = mpsc::channel(STDIN_QUEUE);
    let mut bytes = stdin.is_some().then_some(bytes);
    let read = async {
        loop {
            match requests.message().await {
                Ok(Some(request)) => {
                    if let Err(error) = obey(request, &mut bytes, controls).await {
                        return error.into();
                    }
                }
                Ok(None) => break,
                Err(broken) => return from_transport(broken),
            }
        }
        drop(bytes.take());
        std::future::pending().await
    };
    tokio::select! {
        broken = read => broken,
        never = write(stdin, queue) => never,
    }
}

async fn obey<Q>(request: Q, bytes: &mut Option<mpsc::Sender<Bytes>>, controls: &Controls) -> Result<()>
where
    Incoming: TryFrom<Q, Error = Error>,
{
    match Incoming::try_from(request)? {
        Incoming::Stdin(data) => {
            let Some(bytes) = bytes else {
                return Err(Error::invalid("stdin", "is not connected, or was closed"));
            };
            // The writer ends when the process no longer reads; the rest of the input has no one to go to.
            let _ = bytes.send(data).await;
            Ok(())
        }
        Incoming::StdinClose => {
            *bytes = None;
            Ok(())
        }
        Incoming::Resize(..) if !controls.terminal => Err(Error::invalid("resize", "the process has no terminal")),
        Incoming::Resize(rows, columns) => unless_ended(controls.control.resize(rows, columns).await),
        Incoming::Signal(signal) => unless_ended(controls.control.signal(signal).await),
    }
}

/// A process that has just ended takes no signal; the client learns of it by `exit`.
fn unless_ended(done: Result<()>) -> Result<()> {
    match done {
        Err(error)
            if error.errno == Some(Errno::ESRCH) || matches!(error.reason, Reason::ShimLost | Reason::InvalidState) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Writes the queue to standard input and closes it at the queue's end. Never returns.
async fn write(stdin: Option<Input>, mut queue: mpsc::Receiver<Bytes>) -> Status {
    if let Some(mut stdin) = stdin {
        while let Some(data) = queue.recv().await {
            // EPIPE: the process has closed its end, as it may.
            if stdin.write_all(&data).await.is_err() {
                break;
            }
        }
    }
    drop(queue);
    std::future::pending().await
}

fn stdin(data: Bytes) -> Result<Incoming> {
    if data.len() > MAX_STDIN {
        let problem = format!("{} bytes in one message are more than {MAX_STDIN}", data.len());
        return Err(Error::new(Reason::LimitExceeded, format!("stdin: {problem}")));
    }
    Ok(Incoming::Stdin(data))
}

fn resize(size: v1::TerminalSize) -> Result<Incoming> {
    config::terminal_size("resize", size).map(|(rows, columns)| Incoming::Resize(rows, columns))
}

impl TryFrom<v1::ExecRequest> for Incoming {
    type Error = Error;

    fn try_from(request: v1::ExecRequest) -> Result<Self> {
        use v1::exec_request::Message;
        match convert::required("message", request.message)? {
            Message::Start(_) => Err(Error::invalid("start", "must come once, as the first message")),
            Message::Stdin(data) => stdin(data),
            Message::StdinClose(_) => Ok(Self::StdinClose),
            Message::Resize(size) => resize(size),
            Message::Signal(text) => signal::parse("signal", &text).map(Self::Signal),
        }
    }
}

impl TryFrom<v1::AttachRequest> for Incoming {
    type Error = Error;

    fn try_from(request: v1::AttachRequest) -> Result<Self> {
        use v1::attach_request::Message;
        match convert::required("message", request.message)? {
            Message::Start(_) => Err(Error::invalid("start", "must come once, as the first message")),
            Message::Stdin(data) => stdin(data),
            Message::StdinClose(_) => Ok(Self::StdinClose),
            Message::Resize(size) => resize(size),
        }
    }
}

impl From<Outgoing> for v1::ExecResponse {
    fn from(message: Outgoing) -> Self {
        use v1::exec_response::Message;
        let message = match message {
            Outgoing::Started { pid, .. } => Message::Started(v1::ExecStarted { pid }),
            Outgoing::Stdout(data) => Message::Stdout(data),
            Outgoing::Stderr(data) => Message::Stderr(data),
            Outgoing::Exit(exit) => Message::Exit(convert::render::exit(&exit)),
        };
        Self { message: Some(message) }
    }
}

impl From<Outgoing> for v1::AttachResponse {
    fn from(message: Outgoing) -> Self {
        use v1::attach_response::Message;
        let message = match message {
            Outgoing::Started { pid, terminal } => Message::Started(v1::AttachStarted { pid, terminal }),
            Outgoing::Stdout(data) => Message::Stdout(data),
            Outgoing::Stderr(data) => Message::Stderr(data),
            Outgoing::Exit(exit) => Message::Exit(convert::render::exit(&exit)),
        };
        Self { message: Some(message) }
    }
}

#[cfg(test)]
mod tests;
