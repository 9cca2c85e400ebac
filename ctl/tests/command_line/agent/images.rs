//! The images and the disk of the agent that only speaks. References say what it does: what holds "absent" is in no
//! registry, what holds "secret" is there for the user u with the password p alone.

use futures_util::StreamExt as _;
use hull_proto::v1::image_service_server::ImageService;
use hull_proto::v1::node_service_server::NodeService;
use hull_proto::v1::*;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Answers, Service, failure};

/// What the agent was told about images.
#[derive(Debug, Default)]
pub struct Told {
    pub pulled: Vec<PullImageRequest>,
    pub pushed: Option<PushImageRequest>,
    pub checked: Option<CheckRegistryAuthRequest>,
    pub exported: Option<ExportImageRequest>,
    pub committed: Option<CommitContainerRequest>,
    pub pruned: Option<PruneImagesRequest>,
    pub verified: Option<VerifyImagesRequest>,
    pub tagged: Option<TagImageRequest>,
    pub imported: Vec<u8>,
}

impl Told {
    /// Whether an image was pulled.
    pub fn has(&self, image: &str) -> bool {
        self.pulled.iter().any(|pull| pull.image == image)
    }
}

/// The one image that there is.
fn image() -> Image {
    let layer = |digit: &str| Layer { diff_id: format!("sha256:{}", digit.repeat(64)), size: 1000 };
    Image {
        digest: format!("sha256:{}", "d".repeat(64)),
        names: vec!["docker.io/library/img:latest".into()],
        layers: vec![layer("1"), layer("2")],
        size: 2000,
        ..Image::default()
    }
}

fn allowed(reference: &str, auth: Option<&RegistryAuth>) -> Result<(), Status> {
    let known = auth.is_some_and(|auth| auth.username == "u" && auth.password == "p" || auth.identity_token == "token");
    if reference.contains("secret") && !known {
        return Err(failure(Code::PermissionDenied, &format!("fetching {reference}: denied"), &[]));
    }
    if reference.contains("absent") {
        return Err(failure(Code::NotFound, &format!("{reference}: the registry has no such image"), &[]));
    }
    Ok(())
}

fn answers<T: Send + 'static>(messages: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Answers<T> {
    futures_util::stream::iter(messages).map(Ok).boxed()
}

#[tonic::async_trait]
impl ImageService for Service {
    type ImportImageStream = Answers<ImportImageResponse>;

    async fn import_image(
        &self,
        request: Request<Streaming<ImportImageRequest>>,
    ) -> Result<Response<Self::ImportImageStream>, Status> {
        let mut requests = request.into_inner();
        let mut archive = Vec::new();
        while let Some(request) = requests.message().await? {
            if let Some(import_image_request::Message::Data(data)) = request.message {
                archive.extend(data);
            }
        }
        self.told.lock().unwrap().images.imported = archive;
        let progress = ImportProgress { bytes_read: 1, layers_done: 1, entries: 1 };
        let messages =
            [import_image_response::Message::Progress(progress), import_image_response::Message::Image(image())];
        Ok(Response::new(answers(messages.map(|message| ImportImageResponse { message: Some(message) }))))
    }

    async fn list_images(&self, _: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        Ok(Response::new(ListImagesResponse { images: vec![image()], ..Default::default() }))
    }

    async fn get_image(&self, _: Request<GetImageRequest>) -> Result<Response<GetImageResponse>, Status> {
        let step = |created_by: &str, diff_id: &str| HistoryEntry {
            created_by: created_by.to_owned(),
            diff_id: diff_id.to_owned(),
            ..HistoryEntry::default()
        };
        let history = vec![step("ADD root.tar /", &image().layers[0].diff_id), step("CMD [\"sh\"]", "")];
        Ok(Response::new(GetImageResponse { image: Some(image()), history }))
    }

    async fn remove_image(&self, _: Request<RemoveImageRequest>) -> Result<Response<RemoveImageResponse>, Status> {
        Ok(Response::new(RemoveImageResponse::default()))
    }

    type PullImageStream = Answers<PullImageResponse>;

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Result<Response<Self::PullImageStream>, Status> {
        let request = request.into_inner();
        allowed(&request.image, request.auth.as_ref())?;
        self.told.lock().unwrap().images.pulled.push(request.clone());
        let up_to_date = request.image.contains("present");
        let layer = |digit: &str, phase: PullPhase, bytes_done| LayerProgress {
            digest: format!("sha256:{}", digit.repeat(64)),
            phase: phase.into(),
            bytes_done,
            bytes_total: 2_000_000,
        };
        let stages = [
            vec![],
            vec![layer("a", PullPhase::Present, 0), layer("b", PullPhase::Downloading, 1_000_000)],
            vec![layer("a", PullPhase::Present, 0), layer("b", PullPhase::Done, 2_000_000)],
        ];
        let progress = stages.map(|layers| {
            let progress = PullProgress { digest: image().digest, layers };
            PullImageResponse { message: Some(pull_image_response::Message::Progress(progress)) }
        });
        let bytes_fetched = if up_to_date { 0 } else { 2_000_000 };
        let result = PullResult { image: Some(image()), up_to_date, bytes_fetched };
        let result = PullImageResponse { message: Some(pull_image_response::Message::Result(result)) };
        Ok(Response::new(answers(progress.into_iter().chain([result]))))
    }

    type PushImageStream = Answers<PushImageResponse>;

    async fn push_image(&self, request: Request<PushImageRequest>) -> Result<Response<Self::PushImageStream>, Status> {
        let request = request.into_inner();
        let reference = if request.destination.is_empty() { &request.image } else { &request.destination };
        allowed(reference, request.auth.as_ref())?;
        let result = PushResult { reference: reference.clone(), digest: image().digest };
        let blob = |bytes_done, present| BlobProgress {
            digest: image().layers[0].diff_id.clone(),
            bytes_done,
            bytes_total: 10,
            present,
        };
        let progress = PushProgress { blobs: vec![blob(5, false), blob(10, false), blob(0, true)] };
        let messages = [push_image_response::Message::Progress(progress), push_image_response::Message::Result(result)];
        self.told.lock().unwrap().images.pushed = Some(request);
        Ok(Response::new(answers(messages.map(|message| PushImageResponse { message: Some(message) }))))
    }

    async fn tag_image(&self, request: Request<TagImageRequest>) -> Result<Response<TagImageResponse>, Status> {
        self.told.lock().unwrap().images.tagged = Some(request.into_inner());
        Ok(Response::new(TagImageResponse { image: Some(image()) }))
    }

    type ExportImageStream = Answers<ExportImageResponse>;

    async fn export_image(
        &self,
        request: Request<ExportImageRequest>,
    ) -> Result<Response<Self::ExportImageStream>, Status> {
        let request = request.into_inner();
        // One that breaks off after its first bytes.
        let broken = request.images.iter().any(|image| image == "broken");
        self.told.lock().unwrap().images.exported = Some(request);
        let piece = |data: &'static str| Ok(ExportImageResponse { data: data.into() });
        let end = if broken { Err(failure(Code::Internal, "reading a blob: EIO", &[])) } else { piece("end") };
        Ok(Response::new(futures_util::stream::iter([piece("archive;"), end]).boxed()))
    }

    async fn commit_container(
        &self,
        request: Request<CommitContainerRequest>,
    ) -> Result<Response<CommitContainerResponse>, Status> {
        self.told.lock().unwrap().images.committed = Some(request.into_inner());
        Ok(Response::new(CommitContainerResponse { image: Some(image()) }))
    }

    async fn prune_images(
        &self,
        request: Request<PruneImagesRequest>,
    ) -> Result<Response<PruneImagesResponse>, Status> {
        self.told.lock().unwrap().images.pruned = Some(request.into_inner());
        let kept = KeptImage {
            digest: image().digest,
            names: image().names,
            reason: "used by the container web".into(),
            bytes: 2000,
        };
        let removed = PrunedImage { digest: format!("sha256:{}", "e".repeat(64)), names: vec![] };
        Ok(Response::new(PruneImagesResponse { removed: vec![removed], kept: vec![kept], freed_bytes: 3000 }))
    }

    type VerifyImagesStream = Answers<VerifyImagesResponse>;

    async fn verify_images(
        &self,
        request: Request<VerifyImagesRequest>,
    ) -> Result<Response<Self::VerifyImagesStream>, Status> {
        let request = request.into_inner();
        let progress = |files_done| VerifyProgress { files_done, files_total: 3, bytes_done: 10, bytes_total: 30 };
        let damaged = DamagedFile {
            digest: image().layers[0].diff_id.clone(),
            kind: ImageFileKind::Layer.into(),
            images: vec![image().digest],
            problem: "its digest is another".into(),
            repaired: request.repair,
            repair_error: String::new(),
        };
        self.told.lock().unwrap().images.verified = Some(request);
        let messages = [
            verify_images_response::Message::Progress(progress(1)),
            verify_images_response::Message::Damaged(damaged),
            verify_images_response::Message::Progress(progress(3)),
        ];
        Ok(Response::new(answers(messages.map(|message| VerifyImagesResponse { message: Some(message) }))))
    }

    async fn check_registry_auth(
        &self,
        request: Request<CheckRegistryAuthRequest>,
    ) -> Result<Response<CheckRegistryAuthResponse>, Status> {
        let request = request.into_inner();
        allowed("secret", request.auth.as_ref())?;
        let identity_token = if request.registry == "token.io" { "token".to_owned() } else { String::new() };
        self.told.lock().unwrap().images.checked = Some(request);
        Ok(Response::new(CheckRegistryAuthResponse { identity_token }))
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(GetInfoResponse::default()))
    }

    async fn get_disk_usage(&self, _: Request<GetDiskUsageRequest>) -> Result<Response<GetDiskUsageResponse>, Status> {
        let images = DiskUsage { count: 2, active: 1, bytes: 4000, reclaimable_bytes: 1000 };
        let container = ContainerDiskUsage { id: "a".repeat(64), name: "web".into(), ..Default::default() };
        Ok(Response::new(GetDiskUsageResponse {
            images: Some(images),
            container: vec![container],
            filesystem_bytes: 10_000,
            filesystem_free_bytes: 5000,
            ..Default::default()
        }))
    }
}
