//! A conversation with a program in a container: the caller's input, signals and window there, its output and end here.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use hull_proto::v1::{ExitStatus, TerminalSize};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::detach::DetachKeys;
use super::raw::{RawMode, terminal_size};
use super::signals::{Signals, WindowChanges};
use super::stdio::{self, Sink, Writer, read_stdin};
use crate::error::{Error, Result};

/// Messages that wait for the connection.
const QUEUE: usize = 8;
/// How often SIGINT or SIGTERM is passed on before it ends the command itself.
const PATIENCE: u32 = 2;
/// How long a program may take to end after the caller's terminal has gone.
const HANG_UP: Duration = Duration::from_secs(2);
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// What the caller says.
#[derive(Debug)]
pub(crate) enum Input {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input ends.
    StdinClose,
    /// The terminal has another size.
    Resize(TerminalSize),
}

/// What the agent says.
#[derive(Debug)]
pub(crate) enum Output {
    /// The program runs.
    Started,
    /// Bytes that it wrote.
    Stdout(Bytes),
    /// Bytes that it wrote to standard error.
    Stderr(Bytes),
    /// It has ended.
    Exit(ExitStatus),
    /// Nothing that this version knows.
    Unknown,
}

/// Either RPC that such a conversation goes over.
pub(crate) trait Peer {
    /// A message of the client.
    type Request: Send + 'static;
    /// A message of the server.
    type Response;

    /// Calls the agent.
    async fn call(
        &mut self,
        requests: ReceiverStream<Self::Request>,
    ) -> Result<Response<Streaming<Self::Response>>, Status>;
    /// As this RPC says it.
    fn request(input: Input) -> Self::Request;
    /// What this RPC said.
    fn response(response: Self::Response) -> Output;
    /// Passes a signal on: the message for it, or nothing where it goes another way.
    fn signal(&mut self, number: i32) -> Option<Self::Request>;
}

/// How a conversation ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The program has ended.
    Exited(ExitStatus),
    /// The caller has left; the program runs on.
    Detached,
}

/// Which of a program's outputs the caller wants to see. The others are read and dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// Standard output, or the terminal.
    pub(crate) stdout: bool,
    /// Standard error.
    pub(crate) stderr: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self { stdout: true, stderr: true }
    }
}

/// The caller's side.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Connect standard input.
    pub(crate) stdin: bool,
    /// What is shown.
    pub(crate) shown: Shown,
    /// The terminal, where there is one and it is the container's for the time.
    pub(crate) raw: Option<RawMode>,
    /// Changes of the terminal's size, where the container has one.
    pub(crate) window: Option<WindowChanges>,
    /// Keys that end it; looked for in raw mode only.
    pub(crate) detach_keys: Option<DetachKeys>,
    /// Pass signals on; else they end the command.
    pub(crate) sig_proxy: bool,
}

/// A conversation that stands: the program runs.
#[derive(Debug)]
pub(crate) struct Session<P: Peer> {
    peer: P,
    requests: mpsc::Sender<P::Request>,
    responses: Streaming<P::Response>,
    /// Messages that did not fit the queue yet.
    outbox: VecDeque<P::Request>,
    /// How often the caller has asked for an end.
    asked: u32,
    /// When to leave, once there is no caller any more.
    leave_at: Option<Instant>,
}

/// What happens next in a conversation.
enum Event {
    Response(Option<Output>),
    Written,
    WriteFailed,
    Sent,
    Typed(Option<Bytes>),
    Signal(i32),
    Window,
    Abandoned,
}

impl<P: Peer> Session<P> {
    /// Calls the agent and waits until the program runs.
    pub(crate) async fn open(mut peer: P, start: P::Request, signals: &mut Signals) -> Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let opening = async {
            // The queue is empty and this end of it is here: it takes the message.
            let _ = requests.send(start).await;
            let mut responses = peer.call(ReceiverStream::new(queue)).await?.into_inner();
            match responses.message().await?.map(P::response) {
                Some(Output::Started) => Ok(responses),
                Some(Output::Exit(exit)) if !exit.error.is_empty() => Err(failed_start(&exit)),
                _ => Err(Error::new("the agent ended the call before the program ran")),
            }
        };
        let responses = signals.hold(opening).await??;
        Ok(Self { peer, requests, responses, outbox: VecDeque::new(), asked: 0, leave_at: None })
    }

    /// Carries everything until the program ends or the caller leaves.
    pub(crate) async fn run(mut self, mut streams: Streams, mut signals: Signals) -> Result<Ending> {
        let writer = Writer::spawn(stdio::QUEUE)?;
        let ending = self.carry(&writer, &mut streams, &mut signals).await;
        if let Err(Error::Interrupted(_)) = ending {
            return ending;
        }
        // What the program wrote is the caller's, however slowly it is read, and even if the call broke off; a signal
        // ends the wait.
        tokio::select! {
            written = writer.finish() => written.and(ending),
            number = signals.next() => Err(Error::Interrupted(number)),
        }
    }

    async fn carry(&mut self, writer: &Writer, streams: &mut Streams, signals: &mut Signals) -> Result<Ending> {
        let mut typed = if streams.stdin { Some(read_stdin()?) } else { None };
        let mut unwritten: Option<(Sink, Bytes)> = None;
        loop {
            match self.next(writer, &mut unwritten, &mut typed, streams, signals).await? {
                Event::Response(Some(Output::Stdout(bytes))) => {
                    unwritten = streams.shown.stdout.then_some((Sink::Stdout, bytes));
                }
                Event::Response(Some(Output::Stderr(bytes))) => {
                    unwritten = streams.shown.stderr.then_some((Sink::Stderr, bytes));
                }
                Event::Response(Some(Output::Exit(exit))) => return Ok(Ending::Exited(exit)),
                Event::Response(Some(Output::Started | Output::Unknown)) | Event::Written | Event::Sent => {}
                Event::Response(None) => return Err(Error::new("the agent ended the call before the program ended")),
                // A terminal that has gone; what is written for it is dropped.
                Event::WriteFailed if streams.raw.is_some() => self.hang_up(),
                Event::WriteFailed => return Err(Error::BrokenPipe),
                Event::Typed(bytes) => {
                    if bytes.is_none() {
                        typed = None;
                        // Raw terminals do not end, they go.
                        if streams.raw.is_some() {
                            self.hang_up();
                        }
                    }
                    if self.take(bytes, streams) {
                        return Ok(Ending::Detached);
                    }
                }
                Event::Signal(number) => self.signal(number, streams)?,
                Event::Abandoned => return Err(Error::Interrupted(SIGHUP)),
                Event::Window => self.outbox.extend(terminal_size().map(|size| P::request(Input::Resize(size)))),
            }
        }
    }

    /// There is no caller any more. SIGHUP, which tells the program, may be still to come.
    fn hang_up(&mut self) {
        self.leave_at.get_or_insert_with(|| Instant::now() + HANG_UP);
    }

    /// Waits for whichever comes first. Neither direction waits for the other: output is not read while the last of it
    /// is unwritten, nor input while the last of it is unsent.
    async fn next(
        &mut self,
        writer: &Writer,
        unwritten: &mut Option<(Sink, Bytes)>,
        typed: &mut Option<mpsc::Receiver<Bytes>>,
        streams: &mut Streams,
        signals: &mut Signals,
    ) -> Result<Event> {
        tokio::select! {
            number = signals.next() => Ok(Event::Signal(number)),
            () = changed(&mut streams.window) => Ok(Event::Window),
            () = reached(self.leave_at) => Ok(Event::Abandoned),
            room = writer.room(), if unwritten.is_some() => match (room, unwritten.take()) {
                (Some(room), Some(piece)) => {
                    room.send(piece);
                    Ok(Event::Written)
                }
                _ => Ok(Event::WriteFailed),
            },
            response = self.responses.message(), if unwritten.is_none() => {
                Ok(Event::Response(response?.map(P::response)))
            }
            room = self.requests.reserve(), if !self.outbox.is_empty() => {
                match (room, self.outbox.pop_front()) {
                    (Ok(room), Some(request)) => room.send(request),
                    // The call is over; what it ended with comes as a response.
                    _ => self.outbox.clear(),
                }
                Ok(Event::Sent)
            }
            bytes = received(typed), if self.outbox.is_empty() && typed.is_some() => Ok(Event::Typed(bytes)),
        }
    }

    /// Takes what was typed; whether that were the keys to leave with.
    fn take(&mut self, bytes: Option<Bytes>, streams: &mut Streams) -> bool {
        let keys = streams.detach_keys.as_mut().filter(|_| streams.raw.is_some());
        let (through, leave, end) = match (bytes, keys) {
            (Some(bytes), Some(keys)) => {
                let (through, leave) = keys.pass(&bytes);
                (Bytes::from(through), leave, false)
            }
            (Some(bytes), None) => (bytes, false, false),
            (None, Some(keys)) => (Bytes::from(keys.rest()), false, true),
            (None, None) => (Bytes::new(), false, true),
        };
        if !through.is_empty() {
            self.outbox.push_back(P::request(Input::Stdin(through)));
        }
        if end {
            self.outbox.push_back(P::request(Input::StdinClose));
        }
        leave
    }

    /// Passes a signal on, or ends the command with it: where it is not to be passed on, and where the caller insists.
    fn signal(&mut self, number: i32, streams: &Streams) -> Result<()> {
        if matches!(number, SIGINT | SIGTERM) {
            self.asked += 1;
        }
        if !streams.sig_proxy || self.asked > PATIENCE {
            return Err(Error::Interrupted(number));
        }
        let request = self.peer.signal(number);
        self.outbox.extend(request);
        Ok(())
    }
}

fn failed_start(exit: &ExitStatus) -> Error {
    let code = u8::try_from(exit.code).ok();
    Error::Failed { message: exit.error.clone(), code, status: None, reason: String::new() }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

async fn changed(window: &mut Option<WindowChanges>) {
    match window {
        Some(window) => window.next().await,
        None => pending().await,
    }
}

async fn received(typed: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match typed {
        Some(typed) => typed.recv().await,
        None => pending().await,
    }
}
