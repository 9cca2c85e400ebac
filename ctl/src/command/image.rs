//! `image ls`, `image rm`, `tag` and `history`.

use hull_proto::v1::{GetImageRequest, HistoryEntry, Image, ListImagesRequest, RemoveImageRequest, TagImageRequest};
use jiff::Timestamp;

use super::each;
use crate::cli::{HistoryFlags, ImageListFlags, ImageRemoveFlags, ListFormat, TagFlags};
use crate::client::Client;
use crate::error::Result;
use crate::output::{self, HistoryView, ImageView, Table, ago, bytes_decimal, moment, short_digest};

const PAGE: i32 = 1000;
/// Shown for an image without a name.
const NONE: &str = "<none>";
/// Shown for a layer that has no name of its own.
const MISSING: &str = "<missing>";
/// Characters of a command that are shown in a table.
const COMMAND_WIDTH: usize = 45;

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
    let since = |time| since(time, now);
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

/// Gives an image a further name.
pub(crate) async fn tag(client: Client, flags: TagFlags) -> Result<u8> {
    client.images().tag_image(TagImageRequest { image: flags.image, name: flags.name }).await?;
    Ok(0)
}

/// Shows how an image was made, the newest step first as Docker does.
pub(crate) async fn history(client: Client, flags: HistoryFlags) -> Result<u8> {
    let answer = client.images().get_image(GetImageRequest { image: flags.image }).await?.into_inner();
    let steps = answer.history.into_iter().rev();
    if let Some(format) = flags.output.output.data() {
        output::data(format, &steps.map(HistoryView::from).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let wide = flags.output.output == ListFormat::Wide;
    steps_table(&steps.collect::<Vec<_>>(), wide, flags.no_trunc).print()?;
    Ok(0)
}

fn steps_table(steps: &[HistoryEntry], wide: bool, whole: bool) -> Table {
    let mut headings = vec!["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
    if wide {
        headings.push("AUTHOR");
    }
    let mut table = Table::new(&headings);
    let now = Timestamp::now();
    for step in steps {
        let layer = match step.diff_id.as_str() {
            "" => MISSING,
            id if whole => id,
            id => short_digest(id),
        };
        let created = since(moment(step.created_at.as_ref()), now);
        let mut command = step.created_by.clone();
        if !whole && let Some((end, _)) = command.char_indices().nth(COMMAND_WIDTH) {
            command.truncate(end);
            command.pop();
            command.push('…');
        }
        let mut cells = vec![layer.to_owned(), created, command, bytes_decimal(step.size), step.comment.clone()];
        if wide {
            cells.push(step.author.clone());
        }
        table.row(cells);
    }
    table
}

fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{} ago", ago(Some(time), now)))
}

/// An image by its names, or by its digest if it has none.
pub(crate) fn shown_names(names: &[String], digest: &str) -> String {
    if names.is_empty() { digest.to_owned() } else { names.join(" ") }
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

    #[test]
    fn steps_of_an_image() {
        let made = HistoryEntry {
            created_by: format!("RUN {}", "é".repeat(COMMAND_WIDTH)),
            diff_id: "sha256:0123456789abcdef".into(),
            size: 2_000_000,
            ..HistoryEntry::default()
        };
        let set = HistoryEntry { created_by: "CMD [\"sh\"]".into(), ..HistoryEntry::default() };
        let lines: Vec<String> = steps_table(&[set.clone(), made.clone()], false, false).lines().collect();
        assert!(lines[1].starts_with("<missing>      -         CMD [\"sh\"]"), "{}", lines[1]);
        assert!(lines[2].starts_with("0123456789ab   -         RUN éé"), "{}", lines[2]);
        assert!(lines[2].contains("é…   2MB"), "{}", lines[2]);
        let whole: Vec<String> = steps_table(&[set, made], true, true).lines().collect();
        assert!(whole[2].contains("sha256:0123456789abcdef") && whole[2].contains(&"é".repeat(COMMAND_WIDTH)));
    }
}
