//! The benchmark's side of the gRPC API, and the job that everybody runs.

use hull_proto::v1;
use hull_proto::v1::container_service_client::ContainerServiceClient;
use hull_tests::harness::Clients;
use tonic::transport::Channel;

use crate::Result;

/// Name of the image that the benchmark makes.
pub(crate) const IMAGE: &str = "bench/job:1";
/// Prints CLOCK_MONOTONIC and ends.
pub(crate) const STAMP: &[&str] = &["/bin/stamp"];
/// Does nothing for longer than any benchmark takes.
pub(crate) const SLEEP: &[&str] = &["/bin/busybox", "sleep", "86400"];

/// Limits of the job.
pub(crate) const MEMORY_MAX: i64 = 64 << 20;
/// Processes of the job.
pub(crate) const PIDS_MAX: i64 = 100;
/// Processor time of the job in microseconds per period.
pub(crate) const CPU_QUOTA: i64 = 50_000;
/// Length of a period in microseconds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// Connection to one agent.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    containers: ContainerServiceClient<Channel>,
}

impl Client {
    pub(crate) fn new(clients: Clients) -> Self {
        Self { containers: clients.containers }
    }

    /// Creates a container of the job and starts it: one call.
    pub(crate) async fn start(&self, argv: &[&str], auto_remove: bool) -> Result<v1::CreateContainerResponse> {
        let request =
            v1::CreateContainerRequest { config: Some(job(argv, auto_remove)), start: true, ..Default::default() };
        Ok(self.containers.clone().create_container(request).await?.into_inner())
    }

    /// The command of an image in a container that goes when it ends; its id.
    pub(crate) async fn start_image(&self, image: &str) -> Result<String> {
        let config = v1::ContainerConfig { image: image.into(), auto_remove: true, ..Default::default() };
        let request = v1::CreateContainerRequest { config: Some(config), start: true, ..Default::default() };
        Ok(self.containers.clone().create_container(request).await?.into_inner().id)
    }

    pub(crate) async fn wait(&self, id: &str, condition: v1::WaitCondition) -> Result<()> {
        let request = v1::WaitContainerRequest { container: id.into(), condition: condition.into() };
        let exit = self.containers.clone().wait_container(request).await?.into_inner().exit;
        match exit {
            Some(exit) if exit.code != 0 => {
                Err(format!("container {id} ended with {}: {}", exit.code, exit.error).into())
            }
            _ => Ok(()),
        }
    }

    /// The container and the OCI runtime spec of its last start.
    pub(crate) async fn get(&self, id: &str) -> Result<(v1::Container, String)> {
        let request = v1::GetContainerRequest { container: id.into() };
        let answer = self.containers.clone().get_container(request).await?.into_inner();
        Ok((answer.container.ok_or("GetContainer answered without a container")?, answer.runtime_spec_json))
    }

    /// Kills and removes a container.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let request = v1::RemoveContainerRequest { container: id.into(), force: true };
        self.containers.clone().remove_container(request).await?;
        Ok(())
    }
}

/// A command line as the API takes it.
pub(crate) fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

/// What everybody runs: `argv` with limits, new namespaces of every kind but user and time, hull's defaults otherwise.
fn job(argv: &[&str], auto_remove: bool) -> v1::ContainerConfig {
    v1::ContainerConfig {
        image: IMAGE.into(),
        args: words(argv),
        auto_remove,
        resources: Some(v1::Resources {
            memory_max: Some(MEMORY_MAX),
            pids_max: Some(PIDS_MAX),
            cpu_quota: Some(CPU_QUOTA),
            cpu_period: Some(CPU_PERIOD),
            ..Default::default()
        }),
        ..Default::default()
    }
}
