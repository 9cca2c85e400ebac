//! ImageService: a thin handler per method, the long ones in files of their own.

mod commit;
mod export;
mod import;
mod pull;
mod push;
mod told;
mod verify;

use std::time::Duration;

use hull_proto::v1;
use hull_proto::v1::image_service_server::ImageService;
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::page::Page;
use super::convert::{images as parse, reference};
use super::{Edge, blocking};
use crate::error::Result;
use crate::images::PruneOptions;

/// Time between two messages of progress.
const PROGRESS: Duration = Duration::from_millis(100);
/// Messages that wait for a stream's reader; more of them stop the writer.
const QUEUE: usize = 2;

#[tonic::async_trait]
impl ImageService for Edge {
    type ImportImageStream = ReceiverStream<Result<v1::ImportImageResponse, Status>>;

    async fn import_image(
        &self,
        request: Request<Streaming<v1::ImportImageRequest>>,
    ) -> Result<Response<Self::ImportImageStream>, Status> {
        import::start(self, request.into_inner()).await
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let request = request.get_ref();
        let page = Page::parse(request.page_size, &request.page_token)?;
        let mut images = self.images.list();
        images.retain(|image| request.name.is_empty() || image.names.iter().any(|name| name.contains(&request.name)));
        let (images, next_page_token) = page.cut(
            images,
            |image| (image.imported_nanos(), image.digest.as_str()),
            |image| parse::image(image),
            v1::Image::encoded_len,
        );
        Ok(Response::new(v1::ListImagesResponse { images, next_page_token }))
    }

    async fn get_image(&self, request: Request<v1::GetImageRequest>) -> Result<Response<v1::GetImageResponse>, Status> {
        let image = self.images.get(reference("image", &request.get_ref().image)?)?;
        let rendered = parse::image(&image);
        let images = self.images.clone();
        let history = blocking(move || images.history(&image)).await?;
        let history = history.into_iter().map(parse::history).collect();
        Ok(Response::new(v1::GetImageResponse { image: Some(rendered), history }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let image = request.into_inner().image;
        reference("image", &image)?;
        let (images, containers) = (self.images.clone(), self.containers.clone());
        let removed = blocking(move || images.remove(&image, &|digest| containers.user_of(digest))).await?;
        Ok(Response::new(v1::RemoveImageResponse {
            untagged: removed.untagged,
            deleted: removed.deleted.unwrap_or_default(),
            freed_bytes: removed.freed_bytes,
        }))
    }

    type PullImageStream = ReceiverStream<Result<v1::PullImageResponse, Status>>;

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        pull::start(self, request.into_inner())
    }

    type PushImageStream = ReceiverStream<Result<v1::PushImageResponse, Status>>;

    async fn push_image(
        &self,
        request: Request<v1::PushImageRequest>,
    ) -> Result<Response<Self::PushImageStream>, Status> {
        push::start(self, request.into_inner())
    }

    async fn tag_image(&self, request: Request<v1::TagImageRequest>) -> Result<Response<v1::TagImageResponse>, Status> {
        let v1::TagImageRequest { image, name } = request.into_inner();
        reference("image", &image)?;
        reference("name", &name)?;
        let images = self.images.clone();
        let image = blocking(move || images.tag(&image, &name)).await?;
        Ok(Response::new(v1::TagImageResponse { image: Some(parse::image(&image)) }))
    }

    type ExportImageStream = ReceiverStream<Result<v1::ExportImageResponse, Status>>;

    async fn export_image(
        &self,
        request: Request<v1::ExportImageRequest>,
    ) -> Result<Response<Self::ExportImageStream>, Status> {
        export::start(self, request.get_ref())
    }

    async fn commit_container(
        &self,
        request: Request<v1::CommitContainerRequest>,
    ) -> Result<Response<v1::CommitContainerResponse>, Status> {
        commit::commit(self, request.into_inner()).await
    }

    async fn prune_images(
        &self,
        request: Request<v1::PruneImagesRequest>,
    ) -> Result<Response<v1::PruneImagesResponse>, Status> {
        let v1::PruneImagesRequest { all, dry_run } = request.into_inner();
        let (images, containers) = (self.images.clone(), self.containers.clone());
        let options = PruneOptions { all, dry_run };
        let pruned = blocking(move || images.prune(options, &|digest| containers.user_of(digest))).await?;
        Ok(Response::new(parse::pruned(pruned)))
    }

    type VerifyImagesStream = ReceiverStream<Result<v1::VerifyImagesResponse, Status>>;

    async fn verify_images(
        &self,
        request: Request<v1::VerifyImagesRequest>,
    ) -> Result<Response<Self::VerifyImagesStream>, Status> {
        verify::start(self, request.into_inner())
    }

    async fn check_registry_auth(
        &self,
        request: Request<v1::CheckRegistryAuthRequest>,
    ) -> Result<Response<v1::CheckRegistryAuthResponse>, Status> {
        let (registry, credentials) = parse::check(request.into_inner())?;
        let identity_token = self.images.check_credentials(&registry, credentials).await?.unwrap_or_default();
        Ok(Response::new(v1::CheckRegistryAuthResponse { identity_token }))
    }
}

impl Edge {
    /// Digest of the image that `reference` names on this node, if there is one.
    pub(super) fn image_digest(&self, reference: &str) -> Option<String> {
        self.images.get(reference).ok().map(|image| image.digest.clone())
    }
}
