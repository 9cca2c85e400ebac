//! A container in the foreground: `run`, `start --attach`, `attach`.

use std::io::{self, Write as _};

use hull_proto::v1::container_service_client::ContainerServiceClient;
use hull_proto::v1::{
    AttachRequest, AttachResponse, AttachStart, Container, ContainerState, GetContainerRequest, KillContainerRequest,
    StdinClose, attach_request, attach_response,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::exec::exit_code;
use crate::cli::{AttachFlags, StartFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::terminal::{
    DetachKeys, Ending, Input, Output, Peer, RawMode, Session, Shown, Signals, Streams, WindowChanges,
    stdin_is_terminal, terminal_size,
};

/// Which container, and what of it is connected.
#[derive(Debug)]
pub(crate) struct Foreground {
    pub(crate) container: String,
    /// Start it once attached.
    pub(crate) start: bool,
    pub(crate) stdin: bool,
    pub(crate) shown: Shown,
    /// Whether the container has a terminal.
    pub(crate) terminal: bool,
    pub(crate) detach_keys: Option<DetachKeys>,
    pub(crate) sig_proxy: bool,
}

/// Why a container did not end in the foreground.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether the container ran by then.
    pub(crate) started: bool,
}

/// Connects to a container and stays until it ends or the caller leaves; its exit code.
pub(crate) async fn in_foreground(client: &Client, what: Foreground, mut signals: Signals) -> Result<u8, Failure> {
    let before = |error| Failure { error, started: false };
    let after = |error| Failure { error, started: true };
    let window = what.terminal.then(WindowChanges::watch).transpose().map_err(before)?;
    let interactive = what.terminal && what.stdin && stdin_is_terminal();
    if interactive && !what.sig_proxy {
        // They end the command, but the terminal must be restored first.
        signals = Signals::catch().map_err(before)?;
    }
    let raw = interactive.then(RawMode::enter).transpose().map_err(before)?;
    let peer = AttachPeer { containers: client.containers(), container: what.container.clone() };
    let start = AttachRequest {
        message: Some(attach_request::Message::Start(AttachStart {
            container: what.container,
            stdin: what.stdin,
            start_container: what.start,
            terminal_size: what.terminal.then(terminal_size).flatten(),
        })),
    };
    let session = Session::open(peer, start, &mut signals).await.map_err(before)?;
    let Foreground { stdin, shown, detach_keys, sig_proxy, .. } = what;
    let streams = Streams { stdin, shown, raw, window, detach_keys, sig_proxy };
    match session.run(streams, signals).await.map_err(after)? {
        Ending::Exited(exit) => Ok(exit_code(&exit)),
        Ending::Detached => {
            // A note for people; nobody reads it where standard error is closed.
            let _ = writeln!(io::stderr(), "\r\ndetached; the container runs on");
            Ok(0)
        }
    }
}

/// Attaches to a running container.
pub(crate) async fn attach(connect: impl Future<Output = Result<Client>>, flags: AttachFlags) -> Result<u8> {
    let detach_keys = DetachKeys::parse(&flags.detach_keys.detach_keys)?;
    let client = connect.await?;
    let container = get(&client, flags.container).await?;
    match container.state() {
        ContainerState::Running | ContainerState::Starting | ContainerState::Stopping => {}
        ContainerState::Paused => return Err(Error::new("the container is paused; `hullctl unpause` it first")),
        _ => return Err(Error::new("the container does not run; `hullctl start -a` starts it and attaches")),
    }
    let what = foreground(container, false, !flags.no_stdin, detach_keys, flags.sig_proxy)?;
    let signals = if flags.sig_proxy { Signals::catch()? } else { Signals::leave() };
    in_foreground(&client, what, signals).await.map_err(|failure| failure.error)
}

/// Starts a container and attaches to it.
pub(crate) async fn start(client: &Client, flags: StartFlags) -> Result<u8> {
    let detach_keys = DetachKeys::parse(&flags.detach_keys.detach_keys)?;
    let [container] = <[String; 1]>::try_from(flags.targets.containers)
        .map_err(|_| Error::new("only one container can be started in the foreground"))?;
    let container = get(client, container).await?;
    let what = foreground(container, true, flags.interactive, detach_keys, flags.sig_proxy)?;
    let signals = if flags.sig_proxy { Signals::catch()? } else { Signals::leave() };
    in_foreground(client, what, signals).await.map_err(|failure| failure.error)
}

async fn get(client: &Client, container: String) -> Result<Container> {
    let answer = client.containers().get_container(GetContainerRequest { container }).await?;
    answer.into_inner().container.ok_or_else(|| Error::new("the agent answered without the container"))
}

fn foreground(
    container: Container,
    start: bool,
    stdin: bool,
    detach_keys: Option<DetachKeys>,
    sig_proxy: bool,
) -> Result<Foreground> {
    let config = container.config.unwrap_or_default();
    let stdin = stdin && config.stdin_open;
    if stdin && config.terminal && !stdin_is_terminal() {
        return Err(Error::new(
            "the container has a terminal, and the input device is none; `--no-stdin` attaches without",
        ));
    }
    let (container, terminal, shown) = (container.id, config.terminal, Shown::default());
    Ok(Foreground { container, start, stdin, shown, terminal, detach_keys, sig_proxy })
}

/// The Attach RPC.
#[derive(Debug)]
struct AttachPeer {
    containers: ContainerServiceClient<Channel>,
    container: String,
}

impl Peer for AttachPeer {
    type Request = AttachRequest;
    type Response = AttachResponse;

    async fn call(
        &mut self,
        requests: ReceiverStream<AttachRequest>,
    ) -> Result<Response<Streaming<AttachResponse>>, Status> {
        self.containers.attach(requests).await
    }

    fn request(input: Input) -> AttachRequest {
        let message = match input {
            Input::Stdin(bytes) => attach_request::Message::Stdin(bytes),
            Input::StdinClose => attach_request::Message::StdinClose(StdinClose {}),
            Input::Resize(size) => attach_request::Message::Resize(size),
        };
        AttachRequest { message: Some(message) }
    }

    fn response(response: AttachResponse) -> Output {
        match response.message {
            Some(attach_response::Message::Started(_)) => Output::Started,
            Some(attach_response::Message::Stdout(bytes)) => Output::Stdout(bytes),
            Some(attach_response::Message::Stderr(bytes)) => Output::Stderr(bytes),
            Some(attach_response::Message::Exit(exit)) => Output::Exit(exit),
            None => Output::Unknown,
        }
    }

    /// The attachment has no message for it: a call of its own, beside it.
    fn signal(&mut self, number: i32) -> Option<AttachRequest> {
        let mut containers = self.containers.clone();
        let request =
            KillContainerRequest { container: self.container.clone(), signal: number.to_string(), all: false };
        // It fails where the container has just ended, which the attachment tells better.
        tokio::spawn(async move { containers.kill_container(request).await });
        None
    }
}
