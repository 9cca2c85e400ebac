//! The bidirectional streams: exec and attach.

use bytes::Bytes;
use hull_proto::v1::{
    AttachRequest, AttachResponse, AttachStart, AttachStarted, ExecRequest, ExecResponse, ExecStart, ExecStarted,
    ExitStatus, StdinClose, TerminalSize, attach_request, attach_response, exec_request, exec_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Clients;

/// What an exec'd process wrote, and how it ended.
#[derive(Debug)]
pub struct ExecOutput {
    /// Its process id on the host.
    pub pid: i32,
    /// Standard output, or what its terminal showed.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit: ExitStatus,
}

impl ExecOutput {
    /// Standard output as text, without the last line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// A running exec.
#[derive(Debug)]
pub struct ExecSession {
    /// Its process id on the host.
    pub pid: i32,
    requests: mpsc::Sender<ExecRequest>,
    answers: Streaming<ExecResponse>,
}

impl ExecSession {
    /// Starts a process.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn start(clients: &Clients, start: ExecStart) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(4);
        let first = ExecRequest { message: Some(exec_request::Message::Start(start)) };
        requests.send(first).await.expect("the channel is open");
        let mut answers = clients.containers.clone().exec(ReceiverStream::new(receiver)).await?.into_inner();
        let pid = match answers.message().await?.and_then(|answer| answer.message) {
            Some(exec_response::Message::Started(ExecStarted { pid })) => pid,
            other => panic!("the first answer must be `started`, not {other:?}"),
        };
        Ok(Self { pid, requests, answers })
    }

    /// A handle that sends requests, to use beside the answers.
    pub fn sender(&self) -> ExecSender {
        ExecSender(self.requests.clone())
    }

    /// The next answer; `None` at the end.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn next(&mut self) -> Result<Option<exec_response::Message>, Status> {
        Ok(self.answers.message().await?.map(|answer| answer.message.expect("a message in the answer")))
    }

    /// Reads standard output until it contains a text; all that came so far.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn until(&mut self, text: &str) -> Result<String, Status> {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next().await? {
                Some(exec_response::Message::Stdout(data)) => seen.push_str(&String::from_utf8_lossy(&data)),
                Some(exec_response::Message::Stderr(_)) => {}
                other => panic!("{other:?} before {text:?}; so far: {seen:?}"),
            }
        }
        Ok(seen)
    }

    /// Takes everything until the process ends.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn finish(mut self) -> Result<ExecOutput, Status> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                Some(exec_response::Message::Stdout(data)) => stdout.extend_from_slice(&data),
                Some(exec_response::Message::Stderr(data)) => stderr.extend_from_slice(&data),
                Some(exec_response::Message::Exit(exit)) => {
                    assert!(self.next().await?.is_none(), "`exit` must come last");
                    return Ok(ExecOutput { pid: self.pid, stdout, stderr, exit });
                }
                other => panic!("{other:?} instead of an exit"),
            }
        }
    }
}

/// Sends to an exec.
#[derive(Debug, Clone)]
pub struct ExecSender(mpsc::Sender<ExecRequest>);

impl ExecSender {
    /// Sends a message; false if the exec has ended.
    pub async fn send(&self, message: exec_request::Message) -> bool {
        self.0.send(ExecRequest { message: Some(message) }).await.is_ok()
    }

    /// Sends bytes for standard input.
    pub async fn stdin(&self, data: impl Into<Bytes>) -> bool {
        self.send(exec_request::Message::Stdin(data.into())).await
    }

    /// Ends standard input.
    pub async fn close(&self) -> bool {
        self.send(exec_request::Message::StdinClose(StdinClose {})).await
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: &str) -> bool {
        self.send(exec_request::Message::Signal(signal.into())).await
    }

    /// Sets the size of the terminal.
    pub async fn resize(&self, rows: u32, columns: u32) -> bool {
        self.send(exec_request::Message::Resize(TerminalSize { rows, columns })).await
    }
}

/// A connection to a container's streams.
#[derive(Debug)]
pub struct AttachSession {
    /// What the agent said first.
    pub started: AttachStarted,
    requests: mpsc::Sender<AttachRequest>,
    answers: Streaming<AttachResponse>,
}

impl AttachSession {
    /// Attaches, and starts the container if asked to.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn start(clients: &Clients, container: &str, stdin: bool, start_container: bool) -> Result<Self, Status> {
        let start = AttachStart { container: container.into(), stdin, start_container, terminal_size: None };
        Self::start_with(clients, start).await
    }

    /// Attaches as asked.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn start_with(clients: &Clients, start: AttachStart) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(4);
        let first = AttachRequest { message: Some(attach_request::Message::Start(start)) };
        requests.send(first).await.expect("the channel is open");
        let mut answers = clients.containers.clone().attach(ReceiverStream::new(receiver)).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.message) {
            Some(attach_response::Message::Started(started)) => Ok(Self { started, requests, answers }),
            other => panic!("the first answer must be `started`, not {other:?}"),
        }
    }

    /// Sends bytes for standard input; false if the call has ended.
    pub async fn stdin(&self, data: impl Into<Bytes>) -> bool {
        self.send(attach_request::Message::Stdin(data.into())).await
    }

    /// Ends standard input.
    pub async fn close_stdin(&self) -> bool {
        self.send(attach_request::Message::StdinClose(StdinClose {})).await
    }

    /// Sets the size of the terminal.
    pub async fn resize(&self, rows: u32, columns: u32) -> bool {
        self.send(attach_request::Message::Resize(TerminalSize { rows, columns })).await
    }

    async fn send(&self, message: attach_request::Message) -> bool {
        self.requests.send(AttachRequest { message: Some(message) }).await.is_ok()
    }

    /// The next answer; `None` at the end.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn next(&mut self) -> Result<Option<attach_response::Message>, Status> {
        Ok(self.answers.message().await?.map(|answer| answer.message.expect("a message in the answer")))
    }

    /// Reads standard output until it contains a text; all that came so far.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn until(&mut self, text: &str) -> Result<String, Status> {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next().await? {
                Some(attach_response::Message::Stdout(data)) => seen.push_str(&String::from_utf8_lossy(&data)),
                Some(attach_response::Message::Stderr(_)) => {}
                other => panic!("{other:?} before {text:?}; so far: {seen:?}"),
            }
        }
        Ok(seen)
    }

    /// Takes everything until the container ends: standard output, standard error, exit.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn finish(mut self) -> Result<(Vec<u8>, Vec<u8>, ExitStatus), Status> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                Some(attach_response::Message::Stdout(data)) => stdout.extend_from_slice(&data),
                Some(attach_response::Message::Stderr(data)) => stderr.extend_from_slice(&data),
                Some(attach_response::Message::Exit(exit)) => {
                    assert!(self.next().await?.is_none(), "`exit` must come last");
                    return Ok((stdout, stderr, exit));
                }
                other => panic!("{other:?} instead of an exit"),
            }
        }
    }
}
