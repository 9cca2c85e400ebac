//! What one test works with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hull_proto::v1::{
    Container, ContainerConfig, ContainerFilter, ContainerState, CreateContainerRequest, ExecStart, ExitStatus,
    GetContainerRequest, Image, ImageConfig, ImportStart, KillContainerRequest, ListContainersRequest,
    ListImagesRequest, LogEntry, RemoveContainerRequest, RemoveImageRequest, StartContainerRequest,
    StopContainerRequest, StreamLogsRequest, WaitContainerRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::image::base_config;
use super::stream::{AttachSession, ExecOutput, ExecSession};
use super::{Agent, AgentOptions, BASE_IMAGE, Clients, Report, Rootfs, connect, host, image, wait};

/// Label that every container of a session carries.
const LABEL: &str = "hull-test";

/// An agent, clients of it, and the containers made through this session, which go when it ends.
#[derive(Debug)]
pub struct Session {
    /// Clients; each call clones the one that it uses.
    pub clients: Clients,
    /// The agent; it ends with its last session.
    pub agent: Arc<Agent>,
    number: u32,
}

/// What a container wrote, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its id.
    pub id: String,
    /// Standard output, or what its terminal showed.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit: ExitStatus,
}

impl Output {
    /// Standard output as text, without the last line's end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard output as lines.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Session {
    /// A session with the agent that the tests of this file share: it ends when no session uses it, and another is
    /// started when one is wanted again.
    pub async fn shared() -> Self {
        static SHARED: Mutex<Weak<Agent>> = Mutex::new(Weak::new());
        let agent = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let agent = Arc::new(prepared(AgentOptions::default()));
                *shared = Arc::downgrade(&agent);
                agent
            })
        };
        Self::with(agent).await
    }

    /// A session with an agent of its own.
    pub async fn own() -> Self {
        Self::own_with(AgentOptions::default()).await
    }

    /// A session with an agent of its own, started as asked.
    pub async fn own_with(options: AgentOptions) -> Self {
        Self::with(Arc::new(prepared(options))).await
    }

    async fn with(agent: Arc<Agent>) -> Self {
        let clients = connect(&agent.socket()).await.expect("connecting to hulld");
        Self { clients, agent, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// Connects anew, after a restart of the agent.
    pub async fn reconnect(&mut self) {
        self.clients = connect(&self.agent.socket()).await.expect("connecting to hulld");
    }

    /// A name that no other test uses.
    pub fn name(&self, name: &str) -> String {
        format!("t{}-{name}", self.number)
    }

    /// The label of this session's containers, as `hullctl --label` takes it.
    pub fn label(&self) -> String {
        format!("{LABEL}={}", self.number)
    }

    /// A container of the base image that runs a command.
    pub fn command(&self, words: &[&str]) -> ContainerConfig {
        ContainerConfig {
            image: BASE_IMAGE.into(),
            labels: HashMap::from([(LABEL.to_owned(), self.number.to_string())]),
            args: words.iter().map(|word| (*word).to_owned()).collect(),
            stop_timeout: Some(duration(Duration::from_secs(2))),
            ..ContainerConfig::default()
        }
    }

    /// A container of the base image that runs the probe.
    pub fn probe(&self, words: &[&str]) -> ContainerConfig {
        let all: Vec<&str> = std::iter::once("/probe").chain(words.iter().copied()).collect();
        self.command(&all)
    }

    /// A container of the base image that runs a line of shell.
    pub fn shell(&self, line: &str) -> ContainerConfig {
        self.command(&["/bin/sh", "-c", line])
    }

    /// Creates a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_create(&self, config: ContainerConfig) -> Result<String, Status> {
        self.try_request(config, false).await
    }

    /// Creates and starts a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_run(&self, config: ContainerConfig) -> Result<String, Status> {
        self.try_request(config, true).await
    }

    async fn try_request(&self, config: ContainerConfig, start: bool) -> Result<String, Status> {
        let request = CreateContainerRequest { config: Some(config), start, ..CreateContainerRequest::default() };
        let answer = wait::within("CreateContainer", self.clients.containers.clone().create_container(request)).await?;
        Ok(answer.into_inner().id)
    }

    /// Creates a container; its id.
    pub async fn create(&self, config: ContainerConfig) -> String {
        self.try_create(config).await.expect("CreateContainer")
    }

    /// Creates and starts a container; its id.
    pub async fn run(&self, config: ContainerConfig) -> String {
        self.try_run(config).await.expect("CreateContainer with start")
    }

    /// Starts a container; the process id of its init.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_start(&self, container: &str) -> Result<i32, Status> {
        let request = StartContainerRequest { container: container.into() };
        let answer = wait::within("StartContainer", self.clients.containers.clone().start_container(request)).await?;
        Ok(answer.into_inner().pid)
    }

    /// Starts a container; the process id of its init.
    pub async fn start(&self, container: &str) -> i32 {
        self.try_start(container).await.expect("StartContainer")
    }

    /// Stops a container; how it ended.
    pub async fn stop(&self, container: &str, grace: Option<Duration>) -> ExitStatus {
        let request = StopContainerRequest { container: container.into(), grace_period: grace.map(duration) };
        let answer = wait::within("StopContainer", self.clients.containers.clone().stop_container(request)).await;
        answer.expect("StopContainer").into_inner().exit.unwrap_or_default()
    }

    /// Signals a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_kill(&self, container: &str, signal: &str) -> Result<(), Status> {
        let request = KillContainerRequest { container: container.into(), signal: signal.into(), all: false };
        wait::within("KillContainer", self.clients.containers.clone().kill_container(request)).await.map(|_| ())
    }

    /// Signals a container.
    pub async fn kill(&self, container: &str, signal: &str) {
        self.try_kill(container, signal).await.expect("KillContainer");
    }

    /// Removes a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_remove(&self, container: &str, force: bool) -> Result<String, Status> {
        let request = RemoveContainerRequest { container: container.into(), force };
        let answer = wait::within("RemoveContainer", self.clients.containers.clone().remove_container(request)).await?;
        Ok(answer.into_inner().id)
    }

    /// Removes a container, by force.
    pub async fn remove(&self, container: &str) {
        self.try_remove(container, true).await.expect("RemoveContainer");
    }

    /// A container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_get(&self, container: &str) -> Result<Container, Status> {
        let request = GetContainerRequest { container: container.into() };
        let answer = wait::within("GetContainer", self.clients.containers.clone().get_container(request)).await?;
        Ok(answer.into_inner().container.expect("a container in the answer"))
    }

    /// A container.
    pub async fn get(&self, container: &str) -> Container {
        self.try_get(container).await.expect("GetContainer")
    }

    /// Its runtime spec.
    pub async fn runtime_spec(&self, container: &str) -> serde_json::Value {
        let request = GetContainerRequest { container: container.into() };
        let answer = self.clients.containers.clone().get_container(request).await.expect("GetContainer").into_inner();
        serde_json::from_str(&answer.runtime_spec_json).expect("a runtime spec in JSON")
    }

    /// Its state.
    pub async fn state(&self, container: &str) -> ContainerState {
        self.get(container).await.state()
    }

    /// Waits until a container does not run; how it ended.
    pub async fn wait(&self, container: &str) -> ExitStatus {
        let request = WaitContainerRequest { container: container.into(), condition: 0 };
        let answer = wait::within("WaitContainer", self.clients.containers.clone().wait_container(request)).await;
        answer.expect("WaitContainer").into_inner().exit.expect("an exit status")
    }

    /// Attaches to a new container, starts it, and takes all that it writes until it ends. Does not remove it.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_output(&self, config: ContainerConfig) -> Result<Output, Status> {
        let id = self.try_create(config).await?;
        let attached = AttachSession::start(&self.clients, &id, false, true).await?;
        let (stdout, stderr, exit) = wait::within("the container", attached.finish()).await?;
        Ok(Output { id, stdout, stderr, exit })
    }

    /// The same.
    pub async fn output(&self, config: ContainerConfig) -> Output {
        self.try_output(config).await.expect("running a container")
    }

    /// Runs the probe with a config, removes the container, and returns what the probe saw.
    pub async fn report(&self, config: ContainerConfig) -> Report {
        let output = self.output(config).await;
        self.remove(&output.id).await;
        assert_eq!(output.exit.code, 0, "{output:?} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("the probe's report")
    }

    /// Runs a command in a container.
    pub async fn exec(&self, container: &str, words: &[&str]) -> ExecOutput {
        let start = ExecStart { container: container.into(), argv: strings(words), ..ExecStart::default() };
        self.exec_with(start).await.expect("Exec")
    }

    /// Runs a process in a container to its end.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn exec_with(&self, start: ExecStart) -> Result<ExecOutput, Status> {
        wait::within("Exec", async { ExecSession::start(&self.clients, start).await?.finish().await }).await
    }

    /// All entries of a container's log.
    pub async fn logs(&self, request: StreamLogsRequest) -> Vec<LogEntry> {
        let read = async {
            let mut answers = self.clients.containers.clone().stream_logs(request).await?.into_inner();
            let mut entries = Vec::new();
            while let Some(answer) = answers.message().await? {
                entries.extend(answer.entries);
            }
            Ok::<_, Status>(entries)
        };
        wait::within("StreamLogs", read).await.expect("StreamLogs")
    }

    /// The lines of a container's log.
    pub async fn log_lines(&self, container: &str) -> Vec<String> {
        let entries =
            self.logs(StreamLogsRequest { container: container.into(), ..StreamLogsRequest::default() }).await;
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
    }

    /// Waits until a line that contains a text is among the last that a container has written.
    pub async fn until_logged(&self, container: &str, text: &str) -> String {
        let request = StreamLogsRequest { container: container.into(), tail: Some(50), ..StreamLogsRequest::default() };
        wait::until_async(&format!("{container} writes {text:?}"), || async {
            let entries = self.logs(request.clone()).await;
            let mut lines = entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned());
            lines.find(|line| line.contains(text))
        })
        .await
    }

    /// Waits until a container is in a state.
    pub async fn until_state(&self, container: &str, state: ContainerState) {
        wait::until_async(&format!("{container} is {state:?}"), || async {
            (self.state(container).await == state).then_some(())
        })
        .await;
    }

    /// Imports a root file system under a name of this session; that name.
    pub async fn image(&self, name: &str, rootfs: Rootfs) -> String {
        let tag = format!("test/{}:1", self.name(name));
        self.try_image(&tag, rootfs.tar(), base_config()).await.expect("ImportImage");
        tag
    }

    /// Imports an archive.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn try_image(&self, tag: &str, archive: Vec<u8>, config: ImageConfig) -> Result<Image, Status> {
        let start = ImportStart { tags: vec![tag.into()], format: 0, config: Some(config) };
        wait::within("ImportImage", image::import(&self.clients, start, archive)).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.agent.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("end of hulld's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        let labels = HashMap::from([(LABEL.to_owned(), self.number.to_string())]);
        let problems = remove_containers(&self.agent, ContainerFilter { labels, ..ContainerFilter::default() });
        if !std::thread::panicking() {
            assert!(problems.is_empty(), "{}", problems.join("\n"));
        }
    }
}

/// An agent with the base image.
fn prepared(options: AgentOptions) -> Agent {
    if !host::is_capable() {
        // The one place where a suite ends early: the reason has been told.
        std::process::exit(0);
    }
    let agent = Agent::start(options);
    blocking(async {
        let clients = connect(&agent.socket()).await.expect("connecting to hulld");
        let start = ImportStart { tags: vec![BASE_IMAGE.into()], format: 0, config: Some(base_config()) };
        wait::within("importing the base image", image::import(&clients, start, Rootfs::base().tar()))
            .await
            .expect("ImportImage");
    });
    agent
}

/// Runs a future to its end on a thread of its own, from wherever the caller is.
fn blocking<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
        });
        runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Removes containers of an agent; what went wrong.
fn remove_containers(agent: &Agent, filter: ContainerFilter) -> Vec<String> {
    blocking(async {
        let Ok(clients) = connect(&agent.socket()).await else { return Vec::new() };
        let mut service = clients.containers;
        let list = ListContainersRequest { filter: Some(filter), page_size: 1000, page_token: String::new() };
        let found = match tokio::time::timeout(wait::soon(), service.list_containers(list)).await {
            Ok(Ok(answer)) => answer.into_inner().containers,
            Ok(Err(status)) => return vec![format!("ListContainers: {status}")],
            Err(_) => return vec!["ListContainers takes too long".into()],
        };
        let mut problems = Vec::new();
        for container in found {
            let request = RemoveContainerRequest { container: container.id.clone(), force: true };
            match tokio::time::timeout(wait::soon(), service.remove_container(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) if status.code() == Code::NotFound => {}
                Ok(Err(status)) => problems.push(format!("removing {} ({}): {status}", container.id, container.name)),
                Err(_) => problems.push(format!("removing {} ({}) takes too long", container.id, container.name)),
            }
        }
        problems
    })
}

/// Removes all containers and images of an agent; what went wrong.
pub(super) fn remove_everything(agent: &Agent) -> Vec<String> {
    let mut problems = remove_containers(agent, ContainerFilter::default());
    problems.extend(blocking(async {
        let Ok(clients) = connect(&agent.socket()).await else { return vec!["hulld does not answer".to_owned()] };
        let mut service = clients.images;
        let list = ListImagesRequest { page_size: 1000, ..ListImagesRequest::default() };
        let mut problems = Vec::new();
        match service.list_images(list).await {
            Ok(answer) => {
                for image in answer.into_inner().images {
                    if let Err(status) = service.remove_image(RemoveImageRequest { image: image.digest.clone() }).await
                    {
                        problems.push(format!("removing {} {:?}: {status}", image.digest, image.names));
                    }
                }
            }
            Err(status) => problems.push(format!("ListImages: {status}")),
        }
        problems
    }));
    problems
}

/// Owned strings.
pub(super) fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A duration as protobuf has it.
pub fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).expect("a sane duration"),
        nanos: i32::try_from(time.subsec_nanos()).expect("nanoseconds"),
    }
}

/// Reason of an error of hull.
///
/// # Panics
/// If it carries none.
pub fn error_info(status: &Status) -> tonic_types::ErrorInfo {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "hull", "{status:?}");
    info
}

/// An entry of an error's metadata; empty if absent.
pub fn metadata(status: &Status, key: &str) -> String {
    error_info(status).metadata.get(key).cloned().unwrap_or_default()
}

/// Checks that a call failed as it must: code, reason, and one line of text that names what matters.
///
/// # Panics
/// If it did not.
pub fn assert_error<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str, mentions: &str) -> Status {
    let status = result.expect_err("the call must fail");
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(error_info(&status).reason, reason, "{status:?}");
    assert!(!status.message().contains('\n'), "an error is one line: {:?}", status.message());
    assert!(status.message().contains(mentions), "{mentions:?} is not in {:?}", status.message());
    status
}
