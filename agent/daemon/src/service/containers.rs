//! ContainerService: a thin handler per RPC.

use std::sync::Arc;

use hull_proto::v1;
use hull_proto::v1::container_service_server::ContainerService;
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::page::Page;
use super::convert::{self, config, reference, render, time};
use super::status::shutting_down;
use super::{Edge, changes, copy, exec, logs};
use crate::error::{Error, Result};
use crate::lifecycle::signal;
use crate::lifecycle::{State, View};

/// Longest request id in bytes.
const MAX_REQUEST_ID: usize = 128;

#[tonic::async_trait]
impl ContainerService for Edge {
    type ExecStream = ReceiverStream<Result<v1::ExecResponse, Status>>;
    type AttachStream = ReceiverStream<Result<v1::AttachResponse, Status>>;
    type StreamLogsStream = ReceiverStream<Result<v1::StreamLogsResponse, Status>>;
    type DiffContainerStream = ReceiverStream<Result<v1::DiffContainerResponse, Status>>;
    type CopyFromStream = ReceiverStream<Result<v1::CopyFromResponse, Status>>;
    type ExportContainerStream = ReceiverStream<Result<v1::ExportContainerResponse, Status>>;

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        if request.request_id.len() > MAX_REQUEST_ID {
            return Err(Error::invalid("request_id", format!("is longer than {MAX_REQUEST_ID} bytes")).into());
        }
        let request_id = Some(request.request_id).filter(|id| !id.is_empty());
        let config = config::container(convert::required("config", request.config)?)?;
        let created = self.containers.create(request_id, config, request.start).await?;
        let (id, name, pid) = (created.id, created.name, created.pid);
        Ok(Response::new(v1::CreateContainerResponse { id, name, pid }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let pid = self.containers.start(container(&request.get_ref().container)?).await?;
        Ok(Response::new(v1::StartContainerResponse { pid }))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let grace = time::optional_duration("grace_period", request.grace_period)?;
        let exit = self.containers.stop(container(&request.container)?, grace).await?;
        Ok(Response::new(v1::StopContainerResponse { exit: exit.as_ref().map(render::exit) }))
    }

    async fn kill_container(
        &self,
        request: Request<v1::KillContainerRequest>,
    ) -> Result<Response<v1::KillContainerResponse>, Status> {
        let request = request.get_ref();
        let number = match request.signal.as_str() {
            "" => nix::libc::SIGKILL,
            text => signal::parse("signal", text)?,
        };
        self.containers.kill(container(&request.container)?, number, request.all).await?;
        Ok(Response::new(v1::KillContainerResponse {}))
    }

    async fn pause_container(
        &self,
        request: Request<v1::PauseContainerRequest>,
    ) -> Result<Response<v1::PauseContainerResponse>, Status> {
        self.containers.pause(container(&request.get_ref().container)?).await?;
        Ok(Response::new(v1::PauseContainerResponse {}))
    }

    async fn resume_container(
        &self,
        request: Request<v1::ResumeContainerRequest>,
    ) -> Result<Response<v1::ResumeContainerResponse>, Status> {
        self.containers.resume(container(&request.get_ref().container)?).await?;
        Ok(Response::new(v1::ResumeContainerResponse {}))
    }

    async fn update_container(
        &self,
        request: Request<v1::UpdateContainerRequest>,
    ) -> Result<Response<v1::UpdateContainerResponse>, Status> {
        let request = request.into_inner();
        let change = config::resources(convert::required("resources", request.resources)?);
        let resources = self.containers.update(container(&request.container)?, change).await?;
        Ok(Response::new(v1::UpdateContainerResponse { resources: Some(render::resources(&resources)) }))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let request = request.get_ref();
        let id = self.containers.remove(container(&request.container)?, request.force).await?;
        Ok(Response::new(v1::RemoveContainerResponse { id }))
    }

    async fn rename_container(
        &self,
        request: Request<v1::RenameContainerRequest>,
    ) -> Result<Response<v1::RenameContainerResponse>, Status> {
        let request = request.get_ref();
        self.containers.rename(container(&request.container)?, &request.name).await?;
        Ok(Response::new(v1::RenameContainerResponse {}))
    }

    async fn top_container(
        &self,
        request: Request<v1::TopContainerRequest>,
    ) -> Result<Response<v1::TopContainerResponse>, Status> {
        let (processes, truncated) = self.containers.top(container(&request.get_ref().container)?).await?;
        Ok(Response::new(v1::TopContainerResponse {
            processes: processes.into_iter().map(render::process).collect(),
            truncated,
        }))
    }

    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let view = self.containers.get(container(&request.get_ref().container)?)?;
        let spec = self.containers.runtime_spec(&view.id).await?;
        Ok(Response::new(v1::GetContainerResponse {
            container: Some(render::container(&view)),
            runtime_spec_json: spec.unwrap_or_default(),
        }))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token)?;
        let filter = Filter::parse(request.filter.unwrap_or_default(), self)?;
        let mut views = self.containers.list();
        views.retain(|view| filter.admits(view));
        let (containers, next_page_token) = page.cut(
            views,
            |view| (view.created_at_nanos, view.id.as_str()),
            |view| render::container(view),
            v1::Container::encoded_len,
        );
        Ok(Response::new(v1::ListContainersResponse { containers, next_page_token }))
    }

    async fn wait_container(
        &self,
        request: Request<v1::WaitContainerRequest>,
    ) -> Result<Response<v1::WaitContainerResponse>, Status> {
        let request = request.get_ref();
        let condition = convert::wait_condition(request.condition)?;
        tokio::select! {
            exit = self.containers.wait(container(&request.container)?, condition) => {
                Ok(Response::new(v1::WaitContainerResponse { exit: exit?.as_ref().map(render::exit) }))
            }
            () = self.shutdown.cancelled() => Err(shutting_down().into()),
        }
    }

    async fn exec(&self, request: Request<Streaming<v1::ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        let stream = exec::exec(&self.containers, request.into_inner(), self.shutdown.clone()).await?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
        exec::exec_sync(&self.containers, request.into_inner(), self.shutdown.clone()).await.map(Response::new)
    }

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let stream = exec::attach(&self.containers, request.into_inner(), self.shutdown.clone()).await?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        let request = request.get_ref();
        let options = convert::log_options(request)?;
        let view = self.containers.get(container(&request.container)?)?;
        let answers =
            logs::stream(self.containers.clone(), &view, options, request.follow, self.shutdown.clone()).await?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn diff_container(
        &self,
        request: Request<v1::DiffContainerRequest>,
    ) -> Result<Response<Self::DiffContainerStream>, Status> {
        let view = self.containers.get(container(&request.get_ref().container)?)?;
        let answers = changes::stream(self.containers.clone(), view.id.clone(), self.shutdown.clone());
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn stat_path(&self, request: Request<v1::StatPathRequest>) -> Result<Response<v1::StatPathResponse>, Status> {
        Ok(Response::new(copy::stat(&self.containers, request.into_inner()).await?))
    }

    async fn copy_from(&self, request: Request<v1::CopyFromRequest>) -> Result<Response<Self::CopyFromStream>, Status> {
        let answers = copy::from(self.containers.clone(), request.into_inner(), self.shutdown.clone()).await?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn copy_to(
        &self,
        request: Request<Streaming<v1::CopyToRequest>>,
    ) -> Result<Response<v1::CopyToResponse>, Status> {
        copy::to(&self.containers, request.into_inner(), &self.shutdown).await.map(Response::new)
    }

    async fn export_container(
        &self,
        request: Request<v1::ExportContainerRequest>,
    ) -> Result<Response<Self::ExportContainerStream>, Status> {
        let view = self.containers.get(container(&request.get_ref().container)?)?;
        let answers = copy::export(self.containers.clone(), view.id.clone(), self.shutdown.clone());
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

fn container(text: &str) -> Result<&str> {
    reference("container", text)
}

/// What a list is narrowed to.
#[derive(Debug)]
struct Filter {
    states: Vec<State>,
    labels: Vec<(String, String)>,
    name: String,
    id: String,
    /// The image as it was asked for and, if it is on this node, its digest.
    image: Option<(String, Option<String>)>,
}

impl Filter {
    fn parse(filter: v1::ContainerFilter, edge: &Edge) -> Result<Self> {
        let image = Some(filter.image).filter(|image| !image.is_empty());
        Ok(Self {
            states: filter
                .states
                .iter()
                .enumerate()
                .map(|(index, &number)| convert::state(&format!("filter.states[{index}]"), number))
                .collect::<Result<_>>()?,
            labels: filter.labels.into_iter().collect(),
            name: filter.name,
            id: filter.id,
            image: image.map(|image| {
                let digest = edge.image_digest(&image);
                (image, digest)
            }),
        })
    }

    fn admits(&self, view: &Arc<View>) -> bool {
        let label = |(key, value): &(String, String)| {
            view.config.labels.get(key).is_some_and(|actual| value.is_empty() || value == actual)
        };
        let image = |(name, digest): &(String, Option<String>)| {
            *name == view.config.image
                || *name == view.image_digest
                || digest.as_ref().is_some_and(|digest| *digest == view.image_digest)
        };
        (self.states.is_empty() || self.states.contains(&view.state))
            && self.labels.iter().all(label)
            && view.name.contains(&self.name)
            && view.id.starts_with(&self.id)
            && self.image.as_ref().is_none_or(image)
    }
}
