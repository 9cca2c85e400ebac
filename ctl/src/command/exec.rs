//! `exec`.

use hull_proto::v1::container_service_client::ContainerServiceClient;
use hull_proto::v1::{ExecRequest, ExecResponse, ExecStart, ExitStatus, StdinClose, exec_request, exec_response};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::cli::ExecFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output;
use crate::spec;
use crate::terminal::{
    Ending, Input, Output, Peer, RawMode, Session, Shown, Signals, Streams, WindowChanges, stdin_is_terminal,
    terminal_size,
};

/// Runs a further program in a container; its exit code. The program ends with the call, so there are no keys to leave
/// it with.
pub(crate) async fn exec(connect: impl Future<Output = Result<Client>>, flags: ExecFlags) -> Result<u8> {
    let (terminal, stdin) = (flags.tty, flags.interactive);
    if terminal && stdin && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a terminal: leave out -t, or -i"));
    }
    let start = start(flags)?;
    let mut signals = Signals::catch()?;
    let client = signals.hold(connect).await??;
    let window = terminal.then(WindowChanges::watch).transpose()?;
    let raw = (terminal && stdin).then(RawMode::enter).transpose()?;
    let peer = ExecPeer { containers: client.containers() };
    let session = Session::open(peer, start, &mut signals).await?;
    let streams = Streams { stdin, shown: Shown::default(), raw, window, detach_keys: None, sig_proxy: true };
    match session.run(streams, signals).await? {
        Ending::Exited(exit) => Ok(exit_code(&exit)),
        Ending::Detached => Ok(0),
    }
}

fn start(flags: ExecFlags) -> Result<ExecRequest> {
    let mut command = flags.command.into_iter();
    let container = command.next().unwrap_or_default();
    let timeout = flags.timeout.as_deref().map(|text| spec::duration("--timeout", text)).transpose()?;
    let timeout = timeout.map(prost_types::Duration::try_from).transpose();
    let start = ExecStart {
        container,
        argv: command.collect(),
        env: spec::environment(&flags.env_files, &flags.env)?,
        cwd: flags.workdir.unwrap_or_default(),
        user: flags.user.unwrap_or_default(),
        terminal: flags.tty,
        terminal_size: flags.tty.then(terminal_size).flatten(),
        stdin: flags.interactive,
        privileged: flags.privileged,
        timeout: timeout.map_err(|_| Error::new("--timeout: too long"))?,
    };
    Ok(ExecRequest { message: Some(exec_request::Message::Start(start)) })
}

/// The exit code of a process; what kept it from starting is said on standard error.
pub(crate) fn exit_code(exit: &ExitStatus) -> u8 {
    if !exit.error.is_empty() {
        output::complain(&Error::new(exit.error.clone()));
    }
    u8::try_from(exit.code).unwrap_or(u8::MAX)
}

/// The Exec RPC.
#[derive(Debug)]
struct ExecPeer {
    containers: ContainerServiceClient<Channel>,
}

impl Peer for ExecPeer {
    type Request = ExecRequest;
    type Response = ExecResponse;

    async fn call(
        &mut self,
        requests: ReceiverStream<ExecRequest>,
    ) -> Result<Response<Streaming<ExecResponse>>, Status> {
        self.containers.exec(requests).await
    }

    fn request(input: Input) -> ExecRequest {
        let message = match input {
            Input::Stdin(bytes) => exec_request::Message::Stdin(bytes),
            Input::StdinClose => exec_request::Message::StdinClose(StdinClose {}),
            Input::Resize(size) => exec_request::Message::Resize(size),
        };
        ExecRequest { message: Some(message) }
    }

    fn response(response: ExecResponse) -> Output {
        match response.message {
            Some(exec_response::Message::Started(_)) => Output::Started,
            Some(exec_response::Message::Stdout(bytes)) => Output::Stdout(bytes),
            Some(exec_response::Message::Stderr(bytes)) => Output::Stderr(bytes),
            Some(exec_response::Message::Exit(exit)) => Output::Exit(exit),
            None => Output::Unknown,
        }
    }

    fn signal(&mut self, number: i32) -> Option<ExecRequest> {
        Some(ExecRequest { message: Some(exec_request::Message::Signal(number.to_string())) })
    }
}
