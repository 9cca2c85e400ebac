//! `image ls` and `image rm`.

use hull_proto::v1::{Image, ListImagesRequest, RemoveImageRequest};
use jiff::Timestamp;

use super::each;
use crate::cli::{ImageListFlags, ImageRemoveFlags, ListFormat};
use crate::client::Client;
use crate::error::Result;
use crate::output::{self, ImageView, Table, ago, bytes_decimal, moment, short_digest};

const PAGE: i32 = 1000;
/// Shown for an image without a name.
const NONE: &str = "<none>";

/// Lists images.
pub(crate) async fn list(client: Client, flags: ImageListFlags) -> Result<u8> {
    let images = pages(&client, flags.name.as_deref().unwrap_or_default()).await?;
    let id = |image: &Image| if flags.no_trunc { image.digest.clone() } else { short_digest(&image.digest).to_owned() };
    if flags.quiet {
        let ids: Vec<String> = images.iter().map(id).collect();
        return if ids.is_empty() { Ok(0) } else { output::line(&ids.join("\n")).map(|()| 0) };
    }
    if let Some(format) = flags.output.output.data() {
        output::data(format, &images.into_iter().map(ImageView::from).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let wide = flags.output.output == ListFormat::Wide;
    let mut headings = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if wide {
        headings.extend(["PLATFORM", "LAYERS", "IMPORTED"]);
    }
    let mut table = Table::new(&headings);
    let now = Timestamp::now();
    let since =
        |time: Option<Timestamp>| time.map(|time| format!("{} ago", ago(Some(time), now))).unwrap_or("-".into());
    for image in &images {
        let unnamed = [String::new()];
        let names = if image.names.is_empty() { &unnamed[..] } else { &image.names[..] };
        for name in names {
            let (repository, tag) = repository_and_tag(name);
            let created = since(moment(image.created_at.as_ref()));
            let mut cells = vec![repository.to_owned(), tag.to_owned(), id(image), created, bytes_decimal(image.size)];
            if wide {
                let platform = format!("{}/{}", image.os, image.architecture);
                cells.extend([platform, image.layers.len().to_string(), since(moment(image.imported_at.as_ref()))]);
            }
            table.row(cells);
        }
    }
    table.print()?;
    Ok(0)
}

/// Removes images; prints what became of them, as Docker does.
pub(crate) async fn remove(client: Client, flags: ImageRemoveFlags) -> Result<u8> {
    let client = &client;
    each(flags.images, |image| async move {
        let gone = client.images().remove_image(RemoveImageRequest { image }).await?.into_inner();
        let mut lines: Vec<String> = gone.untagged.iter().map(|name| format!("Untagged: {name}")).collect();
        if !gone.deleted.is_empty() {
            lines.push(format!("Deleted: {} ({} freed)", gone.deleted, bytes_decimal(gone.freed_bytes)));
        }
        Ok(Some(lines.join("\n")))
    })
    .await
}

/// All images with a name that contains a text, newest first.
pub(crate) async fn pages(client: &Client, name: &str) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListImagesRequest { name: name.to_owned(), page_size: PAGE, page_token };
        let page = client.images().list_images(request).await?.into_inner();
        images.extend(page.images);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(images);
        }
    }
}

/// The parts of a reference; the registry that is meant where none is named is left out, as Docker does.
fn repository_and_tag(name: &str) -> (&str, &str) {
    if name.is_empty() {
        return (NONE, NONE);
    }
    let familiar =
        name.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest)).unwrap_or(name);
    let familiar = familiar.split_once('@').map_or(familiar, |(name, _)| name);
    match familiar.rsplit_once(':') {
        // A colon before the last slash is a port's.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (familiar, NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_in_their_familiar_form() {
        assert_eq!(repository_and_tag("docker.io/demo/busybox:1"), ("demo/busybox", "1"));
        assert_eq!(repository_and_tag("docker.io/library/alpine:3"), ("alpine", "3"));
        assert_eq!(repository_and_tag("localhost:5000/a/b:v1"), ("localhost:5000/a/b", "v1"));
        assert_eq!(repository_and_tag("localhost:5000/a@sha256:00"), ("localhost:5000/a", NONE));
        assert_eq!(repository_and_tag(""), (NONE, NONE));
    }
}
