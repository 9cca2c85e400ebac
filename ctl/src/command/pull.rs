//! `pull`, and what `run` and `create` do about an image that is not there.

use hull_proto::v1::{LayerProgress, PullImageRequest, PullPhase, PullProgress, PullResult, pull_image_response};
use serde::Serialize;

use crate::cli::PullFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, ImageView, Progress, Step, bytes_decimal, short_digest};
use crate::registry;

/// Fetches an image; prints what came of it, or the digest alone.
pub(crate) async fn pull(connect: impl Future<Output = Result<Client>>, flags: PullFlags) -> Result<u8> {
    let PullFlags { quiet, platform, output, image } = flags;
    let request = request(image.clone(), platform.unwrap_or_default())?;
    let result = fetch(&connect.await?, request, quiet || output.output.is_some()).await?;
    if let Some(format) = output.output {
        output::data(format, &PullView::from(result))?;
        return Ok(0);
    }
    output::line(&if quiet { digest(&result).to_owned() } else { summary(&image, &result) })?;
    Ok(0)
}

/// What to ask the agent for, with the caller's credentials.
pub(crate) fn request(image: String, platform: String) -> Result<PullImageRequest> {
    let auth = registry::credentials(&image)?;
    Ok(PullImageRequest { image, platform, auth })
}

/// Fetches an image, with a line for each layer where a person looks on.
pub(crate) async fn fetch(client: &Client, request: PullImageRequest, quiet: bool) -> Result<PullResult> {
    let mut progress = Progress::new(quiet);
    let mut answers = client.images().pull_image(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(pull_image_response::Message::Progress(now)) => show(&mut progress, &now),
            Some(pull_image_response::Message::Result(result)) => return Ok(result),
            None => {}
        }
    }
    Err(Error::new("the agent ended the pull without an image"))
}

fn show(progress: &mut Progress, now: &PullProgress) {
    for (at, layer) in now.layers.iter().enumerate() {
        let (state, moves) = state(layer);
        let bytes = moves.then_some((layer.bytes_done, layer.bytes_total));
        progress.step(at, &Step { name: short_digest(&layer.digest), state, bytes });
    }
}

/// What is being done with a layer, and whether its bytes tell how far that is.
fn state(layer: &LayerProgress) -> (&'static str, bool) {
    match layer.phase() {
        PullPhase::Unspecified | PullPhase::Waiting => ("Waiting", false),
        PullPhase::Downloading => ("Downloading", true),
        PullPhase::Converting => ("Converting", true),
        PullPhase::Done => ("Pull complete", false),
        PullPhase::Present => ("Already exists", false),
    }
}

/// What a pull brought, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PullView {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageView>,
    up_to_date: bool,
    bytes_fetched: u64,
}

impl From<PullResult> for PullView {
    fn from(result: PullResult) -> Self {
        let PullResult { image, up_to_date, bytes_fetched } = result;
        Self { image: image.map(ImageView::from), up_to_date, bytes_fetched }
    }
}

fn digest(result: &PullResult) -> &str {
    result.image.as_ref().map_or("", |image| image.digest.as_str())
}

/// One line for people.
pub(crate) fn summary(name: &str, result: &PullResult) -> String {
    let digest = digest(result);
    if result.up_to_date {
        return format!("{name}: up to date, {digest}");
    }
    let layers = match result.image.as_ref().map_or(0, |image| image.layers.len()) {
        1 => "1 layer".to_owned(),
        layers => format!("{layers} layers"),
    };
    format!("{name}: pulled {digest}, {layers}, {} fetched", bytes_decimal(result.bytes_fetched))
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{Image, Layer};

    use super::*;

    #[test]
    fn a_pull_in_one_line() {
        let image = Image { digest: "sha256:ab".into(), layers: vec![Layer::default(); 2], ..Image::default() };
        let mut result = PullResult { image: Some(image), up_to_date: false, bytes_fetched: 1_500_000 };
        assert_eq!(summary("alpine", &result), "alpine: pulled sha256:ab, 2 layers, 1.5MB fetched");
        result.image.as_mut().unwrap().layers.pop();
        assert_eq!(summary("alpine", &result), "alpine: pulled sha256:ab, 1 layer, 1.5MB fetched");
        result.up_to_date = true;
        assert_eq!(summary("alpine", &result), "alpine: up to date, sha256:ab");
    }
}
