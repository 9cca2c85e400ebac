//! What keeps images: exporting, verifying, pruning, and what lies on the disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hull_proto::v1::{
    ArchiveFormat, DamagedFile, ExportImageRequest, GetDiskUsageRequest, GetDiskUsageResponse, Image,
    ListImagesRequest, PruneImagesRequest, PruneImagesResponse, RemoveImageRequest, VerifyImagesRequest,
    VerifyProgress, verify_images_response,
};
use tonic::Status;

use super::{Clients, wait};

/// Exports images as one archive.
///
/// # Errors
/// What the agent said.
pub async fn export(clients: &Clients, images: &[&str], format: ArchiveFormat) -> Result<Vec<u8>, Status> {
    let images = images.iter().map(|image| (*image).to_owned()).collect();
    let request = ExportImageRequest { images, format: format.into() };
    wait::within("ExportImage", async {
        let mut answers = clients.images.clone().export_image(request).await?.into_inner();
        let mut archive = Vec::new();
        while let Some(answer) = answers.message().await? {
            archive.extend_from_slice(&answer.data);
        }
        Ok(archive)
    })
    .await
}

/// Verifies images, all if none is named: what is damaged, and how far it came.
///
/// # Errors
/// What the agent said.
///
/// # Panics
/// If the last message is not the progress of all.
pub async fn verify(
    clients: &Clients,
    images: &[&str],
    repair: bool,
) -> Result<(Vec<DamagedFile>, VerifyProgress), Status> {
    let images = images.iter().map(|image| (*image).to_owned()).collect();
    let request = VerifyImagesRequest { images, repair, auth: None };
    wait::within("VerifyImages", async {
        let mut answers = clients.images.clone().verify_images(request).await?.into_inner();
        let (mut damaged, mut last) = (Vec::new(), None);
        while let Some(answer) = answers.message().await? {
            match answer.message.expect("a message") {
                verify_images_response::Message::Damaged(file) => {
                    last = None;
                    damaged.push(file);
                }
                verify_images_response::Message::Progress(progress) => last = Some(progress),
            }
        }
        let last = last.expect("the last message is progress");
        assert_eq!(last.files_done, last.files_total, "the last progress is that of all");
        Ok((damaged, last))
    })
    .await
}

/// Prunes images.
///
/// # Panics
/// If the agent does not.
pub async fn prune(clients: &Clients, all: bool, dry_run: bool) -> PruneImagesResponse {
    let request = PruneImagesRequest { all, dry_run };
    let answer = wait::within("PruneImages", clients.images.clone().prune_images(request)).await;
    answer.expect("PruneImages").into_inner()
}

/// What is on the disk, as the agent says.
///
/// # Panics
/// If the agent does not.
pub async fn usage(clients: &Clients) -> GetDiskUsageResponse {
    let answer = wait::within("GetDiskUsage", clients.node.clone().get_disk_usage(GetDiskUsageRequest {})).await;
    answer.expect("GetDiskUsage").into_inner()
}

/// All images.
///
/// # Panics
/// If the agent does not answer.
pub async fn images(clients: &Clients) -> Vec<Image> {
    let request = ListImagesRequest { page_size: 1000, ..ListImagesRequest::default() };
    let answer = wait::within("ListImages", clients.images.clone().list_images(request)).await;
    answer.expect("ListImages").into_inner().images
}

/// Removes all images.
///
/// # Panics
/// If the agent does not.
pub async fn remove_all(clients: &Clients) {
    for image in images(clients).await {
        let request = RemoveImageRequest { image: image.digest };
        wait::within("RemoveImage", clients.images.clone().remove_image(request)).await.expect("RemoveImage");
    }
}

/// Names of the files in a directory of images: "layers", "tmp", "content/blobs/sha256".
pub fn files(data_dir: &Path, name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(data_dir.join("images").join(name)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Checks that the files of images are those of the images that are listed, no more and no less.
///
/// # Panics
/// If they are not.
pub fn assert_files_are_those_of(data_dir: &Path, images: &[Image]) {
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let layers = images.iter().flat_map(|image| &image.layers).map(|layer| format!("{}.erofs", hex(&layer.diff_id)));
    let base = std::iter::once("base-1.erofs".to_owned());
    assert_eq!(files(data_dir, "layers"), layers.chain(base).collect(), "layer files");
    let content = data_dir.join("images/content");
    let mut blobs = BTreeSet::new();
    for image in images {
        let manifest = fs::read(content.join("blobs/sha256").join(hex(&image.digest))).expect("the manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("a manifest in JSON");
        let layers = manifest["layers"].as_array().expect("layers").iter();
        blobs.extend(layers.chain([&manifest["config"]]).map(|blob| hex(blob["digest"].as_str().expect("a digest"))));
        blobs.insert(hex(&image.digest));
    }
    assert_eq!(files(data_dir, "content/blobs/sha256"), blobs, "blobs");
    assert_eq!(files(data_dir, "tmp"), BTreeSet::new(), "scratch files");
}
