//! An agent that only speaks: containers run programs that are written here, so that the command line is tested alone.

mod images;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use hull_proto::v1::container_service_server::{ContainerService, ContainerServiceServer};
use hull_proto::v1::image_service_server::ImageServiceServer;
use hull_proto::v1::node_service_server::NodeServiceServer;
use hull_proto::v1::*;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Containers that a list has.
pub const LISTED: usize = 2500;

/// What the agent was told.
#[derive(Debug, Default)]
pub struct Told {
    pub config: Option<ContainerConfig>,
    pub started: bool,
    pub removed: Vec<String>,
    /// Stops and starts, in their order.
    pub calls: Vec<&'static str>,
    pub pages: Vec<i32>,
    pub updated: Option<Resources>,
    pub images: images::Told,
}

/// A running agent; it ends with the test's process.
#[derive(Debug)]
pub struct Agent {
    dir: TempDir,
    pub told: Arc<Mutex<Told>>,
}

impl Agent {
    /// Starts one on a socket of its own.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("hull.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let service = Service { told: Arc::clone(&told), signal: Arc::new(watch::channel(0).0) };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let connections = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
                let server = tonic::transport::Server::builder()
                    .add_service(ImageServiceServer::new(service.clone()))
                    .add_service(NodeServiceServer::new(service.clone()))
                    .add_service(ContainerServiceServer::new(service));
                server.serve_with_incoming(connections).await.unwrap();
            });
        });
        Self { dir, told }
    }

    /// A path in a directory that goes with the agent.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `hullctl` with this agent and these arguments.
    pub fn hullctl(&self, line: &str) -> Command {
        let mut command = hullctl(&self.path("hull.sock"));
        command.args(line.split(' '));
        command
    }
}

/// `hullctl` with an agent's socket and nothing of the caller's environment.
pub fn hullctl(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullctl"));
    command.env_clear().env("HULL_HOST", format!("unix://{}", socket.display()));
    command
}

#[derive(Debug, Clone)]
struct Service {
    told: Arc<Mutex<Told>>,
    signal: Arc<watch::Sender<i32>>,
}

/// What a program gets.
enum In {
    Stdin(Bytes),
    Close,
    Resize(TerminalSize),
    Signal(i32),
}

/// What a program does.
enum Out {
    Stdout(Bytes),
    Stderr(Bytes),
    Exit(ExitStatus),
}

fn exit(code: i32) -> Out {
    Out::Exit(ExitStatus { code, ..ExitStatus::default() })
}

fn failure(code: Code, message: &str, metadata: &[(&str, &str)]) -> Status {
    failure_of(code, "TEST", message, metadata)
}

fn failure_of(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
    let metadata: HashMap<String, String> = metadata.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, "hull", metadata))
}

/// The programs that there are.
async fn program(argv: Vec<String>, mut input: mpsc::Receiver<In>, output: mpsc::Sender<Out>) -> Option<()> {
    match argv.first().map_or("", String::as_str) {
        "exit" => output.send(exit(argv[1].parse().unwrap())).await.ok(),
        "both" => {
            output.send(Out::Stdout("out".into())).await.ok()?;
            output.send(Out::Stderr("err".into())).await.ok()?;
            output.send(exit(0)).await.ok()
        }
        "yes" => loop {
            output.send(Out::Stdout("y\n".repeat(1000).into())).await.ok()?;
        },
        "lost" => output.send(Out::Stdout("before".into())).await.ok(),
        // As "echo", once it has said so.
        "talk" => {
            output.send(Out::Stdout("ready;".into())).await.ok()?;
            Box::pin(program(vec!["echo".into()], input, output)).await
        }
        // Echoes input, tells of signals and sizes, and ends with input or with SIGUSR1.
        "echo" => loop {
            match input.recv().await? {
                In::Stdin(bytes) => output.send(Out::Stdout(bytes)).await.ok()?,
                In::Close => return output.send(exit(3)).await.ok(),
                In::Resize(size) => {
                    let text = format!("{}x{};", size.rows, size.columns);
                    output.send(Out::Stdout(text.into())).await.ok()?;
                }
                In::Signal(10) => return output.send(exit(138)).await.ok(),
                In::Signal(number) => output.send(Out::Stdout(format!("signal {number};").into())).await.ok()?,
            }
        },
        other => panic!("no program {other}"),
    }
}

fn can_run(argv: &[String]) -> Result<(), Status> {
    let metadata = |errno| [("step", "executing"), ("errno", errno), ("hint", "is it in the image?")];
    match argv.first().map_or("", String::as_str) {
        "nope" => Err(failure(Code::FailedPrecondition, "executing nope: ENOENT", &metadata("ENOENT"))),
        "denied" => Err(failure(Code::FailedPrecondition, "executing denied: EACCES", &metadata("EACCES"))),
        "unmountable" => {
            Err(failure(Code::FailedPrecondition, "mounting /x: EPERM", &[("step", "mounting"), ("errno", "EPERM")]))
        }
        _ => Ok(()),
    }
}

fn found(name: &str) -> Result<(), Status> {
    if name.starts_with("no") { Err(failure(Code::NotFound, &format!("no container {name}"), &[])) } else { Ok(()) }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl ContainerService for Service {
    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let mut told = self.told.lock().unwrap();
        if config.image.starts_with("missing") && !told.images.has(&config.image) {
            let (message, hint) = (format!("no image {}", config.image), [("hint", "import it first")]);
            return Err(failure_of(Code::NotFound, "IMAGE_NOT_FOUND", &message, &hint));
        }
        told.started = request.start;
        told.config = Some(config);
        Ok(Response::new(CreateContainerResponse { id: "a".repeat(64), name: "web".into(), pid: 0 }))
    }

    type AttachStream = Answers<AttachResponse>;

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        let Some(attach_request::Message::Start(_)) = requests.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("start must come first"));
        };
        let argv = self.told.lock().unwrap().config.clone().unwrap_or_default().args;
        can_run(&argv)?;
        let (to_program, input) = mpsc::channel(4);
        let mut signals = self.signal.subscribe();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    Ok(()) = signals.changed() => In::Signal(*signals.borrow_and_update()),
                    Ok(Some(request)) = requests.message() => match request.message {
                        Some(attach_request::Message::Stdin(bytes)) => In::Stdin(bytes),
                        Some(attach_request::Message::StdinClose(_)) => In::Close,
                        Some(attach_request::Message::Resize(size)) => In::Resize(size),
                        _ => continue,
                    },
                    else => return,
                };
                if to_program.send(next).await.is_err() {
                    return;
                }
            }
        });
        let (from_program, output) = mpsc::channel(4);
        tokio::spawn(program(argv, input, from_program));
        let started = AttachResponse { message: Some(attach_response::Message::Started(AttachStarted::default())) };
        let rest = ReceiverStream::new(output).map(|output| {
            let message = match output {
                Out::Stdout(bytes) => attach_response::Message::Stdout(bytes),
                Out::Stderr(bytes) => attach_response::Message::Stderr(bytes),
                Out::Exit(exit) => attach_response::Message::Exit(exit),
            };
            Ok(AttachResponse { message: Some(message) })
        });
        Ok(Response::new(futures_util::stream::iter([Ok(started)]).chain(rest).boxed()))
    }

    type ExecStream = Answers<ExecResponse>;

    async fn exec(&self, request: Request<Streaming<ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        let mut requests = request.into_inner();
        let Some(exec_request::Message::Start(start)) = requests.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::invalid_argument("start must come first"));
        };
        found(&start.container)?;
        can_run(&start.argv)?;
        let (to_program, input) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let next = match request.message {
                    Some(exec_request::Message::Stdin(bytes)) => In::Stdin(bytes),
                    Some(exec_request::Message::StdinClose(_)) => In::Close,
                    Some(exec_request::Message::Resize(size)) => In::Resize(size),
                    Some(exec_request::Message::Signal(signal)) => In::Signal(signal.parse().unwrap()),
                    _ => continue,
                };
                if to_program.send(next).await.is_err() {
                    return;
                }
            }
        });
        let (from_program, output) = mpsc::channel(4);
        tokio::spawn(program(start.argv, input, from_program));
        let started = ExecResponse { message: Some(exec_response::Message::Started(ExecStarted::default())) };
        let rest = ReceiverStream::new(output).map(|output| {
            let message = match output {
                Out::Stdout(bytes) => exec_response::Message::Stdout(bytes),
                Out::Stderr(bytes) => exec_response::Message::Stderr(bytes),
                Out::Exit(exit) => exec_response::Message::Exit(exit),
            };
            Ok(ExecResponse { message: Some(message) })
        });
        Ok(Response::new(futures_util::stream::iter([Ok(started)]).chain(rest).boxed()))
    }

    async fn exec_sync(&self, _: Request<ExecSyncRequest>) -> Result<Response<ExecSyncResponse>, Status> {
        Err(Status::unimplemented("hullctl streams what it executes"))
    }

    async fn kill_container(
        &self,
        request: Request<KillContainerRequest>,
    ) -> Result<Response<KillContainerResponse>, Status> {
        let request = request.into_inner();
        found(&request.container)?;
        self.signal.send_replace(request.signal.parse().unwrap_or_default());
        Ok(Response::new(Default::default()))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Result<Response<RemoveContainerResponse>, Status> {
        let request = request.into_inner();
        found(&request.container)?;
        self.told.lock().unwrap().removed.push(request.container.clone());
        Ok(Response::new(RemoveContainerResponse { id: request.container }))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let request = request.into_inner();
        self.told.lock().unwrap().pages.push(request.page_size);
        let from: usize = request.page_token.parse().unwrap_or_default();
        let to = LISTED.min(from + usize::try_from(request.page_size).unwrap());
        let container =
            |at: usize| Container { id: format!("{at:064x}"), name: format!("c{at}"), ..Container::default() };
        let next_page_token = if to < LISTED { to.to_string() } else { String::new() };
        Ok(Response::new(ListContainersResponse { containers: (from..to).map(container).collect(), next_page_token }))
    }

    async fn get_container(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        let name = request.into_inner().container;
        found(&name)?;
        let config = self.told.lock().unwrap().config.clone();
        let (id, state) = ("a".repeat(64), ContainerState::Running.into());
        let container = Some(Container { id, name, config, state, ..Container::default() });
        Ok(Response::new(GetContainerResponse { container, runtime_spec_json: "{\"ociVersion\":\"1.2.0\"}".into() }))
    }

    async fn update_container(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Result<Response<UpdateContainerResponse>, Status> {
        self.told.lock().unwrap().updated = request.into_inner().resources;
        Ok(Response::new(Default::default()))
    }

    async fn wait_container(
        &self,
        request: Request<WaitContainerRequest>,
    ) -> Result<Response<WaitContainerResponse>, Status> {
        let name = request.into_inner().container;
        // The first of several answers last: answers must come in the order of the names all the same.
        if name == "slow" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let code = if name == "slow" { 1 } else { 2 };
        Ok(Response::new(WaitContainerResponse { exit: Some(ExitStatus { code, ..ExitStatus::default() }) }))
    }

    type StreamLogsStream = Answers<StreamLogsResponse>;

    async fn stream_logs(&self, _: Request<StreamLogsRequest>) -> Result<Response<Self::StreamLogsStream>, Status> {
        let entry = |stream: LogStream, line: &'static str, partial| LogEntry {
            time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            stream: stream.into(),
            line: line.into(),
            partial,
            lost: None,
        };
        let entries = vec![
            entry(LogStream::Stdout, "one", true),
            entry(LogStream::Stderr, "problem", false),
            entry(LogStream::Stdout, " line", false),
        ];
        let endless = futures_util::stream::repeat(StreamLogsResponse { entries, ..StreamLogsResponse::default() })
            .map(Ok)
            .take(20_000);
        Ok(Response::new(endless.boxed()))
    }

    async fn rename_container(
        &self,
        request: Request<RenameContainerRequest>,
    ) -> Result<Response<RenameContainerResponse>, Status> {
        found(&request.into_inner().container)?;
        Ok(Response::new(RenameContainerResponse {}))
    }

    async fn top_container(
        &self,
        request: Request<TopContainerRequest>,
    ) -> Result<Response<TopContainerResponse>, Status> {
        found(&request.into_inner().container)?;
        let process = Process {
            pid: 4242,
            container_pid: 1,
            parent_pid: 4241,
            state: "S".into(),
            threads: 1,
            cpu_time: Some(prost_types::Duration { seconds: 61, nanos: 500_000_000 }),
            resident_bytes: 3 << 20,
            name: "sh".into(),
            args: vec!["sh".into(), "-c".into(), "a\x1b[2Jb".into()],
            ..Process::default()
        };
        Ok(Response::new(TopContainerResponse { processes: vec![process], truncated: false }))
    }

    type DiffContainerStream = Answers<DiffContainerResponse>;

    async fn stat_path(&self, _: Request<StatPathRequest>) -> Result<Response<StatPathResponse>, Status> {
        Err(Status::unimplemented("copying is tested with the real agent"))
    }

    type CopyFromStream = Answers<CopyFromResponse>;

    async fn copy_from(&self, _: Request<CopyFromRequest>) -> Result<Response<Self::CopyFromStream>, Status> {
        Err(Status::unimplemented("copying is tested with the real agent"))
    }

    async fn copy_to(&self, _: Request<Streaming<CopyToRequest>>) -> Result<Response<CopyToResponse>, Status> {
        Err(Status::unimplemented("copying is tested with the real agent"))
    }

    type ExportContainerStream = Answers<ExportContainerResponse>;

    async fn export_container(
        &self,
        _: Request<ExportContainerRequest>,
    ) -> Result<Response<Self::ExportContainerStream>, Status> {
        Err(Status::unimplemented("copying is tested with the real agent"))
    }

    async fn diff_container(
        &self,
        request: Request<DiffContainerRequest>,
    ) -> Result<Response<Self::DiffContainerStream>, Status> {
        found(&request.into_inner().container)?;
        let change = |path: &str, kind: ChangeKind| PathChange { path: path.to_owned(), kind: kind.into() };
        let batches = [
            vec![change("/etc", ChangeKind::Modified), change("/etc/a\nb", ChangeKind::Added)],
            vec![change("/tmp", ChangeKind::Deleted)],
        ];
        let answers = futures_util::stream::iter(batches).map(|changes| Ok(DiffContainerResponse { changes }));
        Ok(Response::new(answers.boxed()))
    }

    async fn start_container(
        &self,
        _: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        self.told.lock().unwrap().calls.push("start");
        Ok(Response::new(Default::default()))
    }

    async fn stop_container(
        &self,
        _: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        self.told.lock().unwrap().calls.push("stop");
        Ok(Response::new(Default::default()))
    }

    async fn pause_container(
        &self,
        _: Request<PauseContainerRequest>,
    ) -> Result<Response<PauseContainerResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn resume_container(
        &self,
        _: Request<ResumeContainerRequest>,
    ) -> Result<Response<ResumeContainerResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}
