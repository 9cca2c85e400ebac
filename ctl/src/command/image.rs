//! `image ls`, `image rm`, `tag` and `history`.

use hull_proto::v1::{
    ContainerFilter, GetImageRequest, HistoryEntry, Image, ListImagesRequest, RemoveImageRequest, TagImageRequest,
};
use jiff::Timestamp;

use super::each;
use super::filter::ImageConditions;
use super::list::{self, print_lines};
use crate::cli::{HistoryFlags, ImageListFlags, ImageRemoveFlags, TagFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::docker::{HISTORY, IMAGE, MISSING, familiar, history_row, image_rows, repository_and_tag};
use crate::output::{self, HistoryView, ImageView, ListShape, Table, ago, bytes_decimal, cut, moment, short_digest};

const PAGE: i32 = 1000;
/// Characters of a command that are shown in a table.
const COMMAND_WIDTH: usize = 45;

/// Lists images.
pub(crate) async fn list(client: Client, flags: ImageListFlags) -> Result<u8> {
    let shape = ListShape::of(&flags.output)?;
    let conditions = ImageConditions::parse(&flags.filters)?;
    let mut images = pages(&client, flags.name.as_deref().unwrap_or_default()).await?;
    conditions.narrow(&client, &mut images).await?;
    if flags.quiet {
        return print_lines(&images.iter().map(|image| id(image, flags.no_trunc)).collect::<Vec<_>>());
    }
    match shape {
        ListShape::Names => {
            return print_lines(&images.into_iter().flat_map(|image| image.names).collect::<Vec<_>>());
        }
        ListShape::Data(format) => {
            output::data(format, &images.into_iter().map(ImageView::from).collect::<Vec<_>>())?;
        }
        ListShape::Template(template) => {
            let now = Timestamp::now();
            template.print(IMAGE, images.iter().flat_map(|image| image_rows(image, flags.no_trunc, now)))?;
        }
        ListShape::Table { wide } => table(&images, wide, &flags).print()?,
    }
    Ok(0)
}

fn id(image: &Image, whole: bool) -> String {
    if whole { image.digest.clone() } else { short_digest(&image.digest).to_owned() }
}

fn table(images: &[Image], wide: bool, flags: &ImageListFlags) -> Table {
    let mut headings = vec!["REPOSITORY", "TAG"];
    if flags.digests {
        headings.push("DIGEST");
    }
    headings.extend(["IMAGE ID", "CREATED", "SIZE"]);
    if wide {
        headings.extend(["PLATFORM", "LAYERS", "IMPORTED"]);
    }
    let mut table = Table::new(&headings);
    if !flags.no_trunc {
        table = table.fitting(&["REPOSITORY", "TAG", "CREATED", "IMPORTED"]);
    }
    let now = Timestamp::now();
    let since = |time| since(time, now);
    for image in images {
        let unnamed = [String::new()];
        let names = if image.names.is_empty() { &unnamed[..] } else { &image.names[..] };
        for name in names {
            let (repository, tag) = repository_and_tag(name);
            let mut cells = vec![repository.to_owned(), tag.to_owned()];
            if flags.digests {
                cells.push(image.digest.clone());
            }
            let created = since(moment(image.created_at.as_ref()));
            cells.extend([id(image, flags.no_trunc), created, bytes_decimal(image.size)]);
            if wide {
                let platform = format!("{}/{}", image.os, image.architecture);
                cells.extend([platform, image.layers.len().to_string(), since(moment(image.imported_at.as_ref()))]);
            }
            table.row(cells);
        }
    }
    table
}

/// Removes images; prints what became of them, as Docker does.
pub(crate) async fn remove(client: Client, flags: ImageRemoveFlags) -> Result<u8> {
    let (client, dry_run) = (&client, flags.dry_run);
    each(flags.images, |image| async move {
        if dry_run {
            return would_remove(client, image).await.map(Some);
        }
        let gone = client.images().remove_image(RemoveImageRequest { image }).await?.into_inner();
        let mut lines: Vec<String> = gone.untagged.iter().map(|name| format!("Untagged: {name}")).collect();
        if !gone.deleted.is_empty() {
            lines.push(format!("Deleted: {} ({} freed)", gone.deleted, bytes_decimal(gone.freed_bytes)));
        }
        Ok(Some(lines.join("\n")))
    })
    .await
}

/// What a removal would do. The agent decides anew when it comes to that.
async fn would_remove(client: &Client, name: String) -> Result<String> {
    let answer = client.images().get_image(GetImageRequest { image: name.clone() }).await?.into_inner();
    let image = answer.image.ok_or_else(|| Error::new("the agent answered without the image"))?;
    let hex = name.strip_prefix("sha256:").unwrap_or(&name);
    let by_digest = image.digest.trim_start_matches("sha256:").starts_with(hex);
    let untagged: Vec<&String> = if by_digest {
        image.names.iter().collect()
    } else {
        image.names.iter().filter(|known| means(&name, known)).collect()
    };
    let last = untagged.len() == image.names.len();
    if last {
        let filter = ContainerFilter { image: image.digest.clone(), ..ContainerFilter::default() };
        if let Some(user) = list::pages(client, filter, 1).await?.first() {
            return Err(Error::new(format!("{name} cannot be removed: container {} uses it", user.name)));
        }
    }
    let mut lines: Vec<String> = untagged.iter().map(|name| format!("Would untag: {name}")).collect();
    if last {
        lines.push(format!("Would delete: {} (layers: {})", image.digest, bytes_decimal(image.size)));
    }
    Ok(lines.join("\n"))
}

/// Whether a reference as a user writes it means a name as the agent keeps it.
fn means(written: &str, kept: &str) -> bool {
    let with_tag = |name: &str| {
        let tagged = name.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
        if tagged || name.contains('@') { name.to_owned() } else { format!("{name}:latest") }
    };
    with_tag(familiar(written)) == familiar(kept)
}

/// Gives an image a further name.
pub(crate) async fn tag(client: Client, flags: TagFlags) -> Result<u8> {
    client.images().tag_image(TagImageRequest { image: flags.image, name: flags.name }).await?;
    Ok(0)
}

/// Shows how an image was made, the newest step first as Docker does.
pub(crate) async fn history(client: Client, flags: HistoryFlags) -> Result<u8> {
    let shape = ListShape::of(&flags.output)?;
    let answer = client.images().get_image(GetImageRequest { image: flags.image }).await?.into_inner();
    let steps: Vec<HistoryEntry> = answer.history.into_iter().rev().collect();
    let whole = flags.no_trunc;
    match shape {
        ListShape::Names => {
            let ids = steps.iter().map(|step| step.diff_id.clone()).filter(|id| !id.is_empty());
            return print_lines(&ids.collect::<Vec<_>>());
        }
        ListShape::Data(format) => {
            output::data(format, &steps.into_iter().map(HistoryView::from).collect::<Vec<_>>())?;
        }
        ListShape::Template(template) => {
            let now = Timestamp::now();
            let rows = steps.iter().map(|step| history_row(step, &command(step, whole), whole, now));
            template.print(HISTORY, rows)?;
        }
        ListShape::Table { wide } => steps_table(&steps, wide, whole).print()?,
    }
    Ok(0)
}

fn command(step: &HistoryEntry, whole: bool) -> String {
    if whole { step.created_by.clone() } else { cut(&step.created_by, COMMAND_WIDTH) }
}

fn steps_table(steps: &[HistoryEntry], wide: bool, whole: bool) -> Table {
    let mut headings = vec!["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
    if wide {
        headings.push("AUTHOR");
    }
    let mut table = Table::new(&headings);
    if !whole {
        table = table.fitting(&["COMMENT", "CREATED BY", "AUTHOR", "CREATED"]);
    }
    let now = Timestamp::now();
    for step in steps {
        let layer = match step.diff_id.as_str() {
            "" => MISSING,
            id if whole => id,
            id => short_digest(id),
        };
        let created = since(moment(step.created_at.as_ref()), now);
        let (size, comment) = (bytes_decimal(step.size), step.comment.clone());
        let mut cells = vec![layer.to_owned(), created, command(step, whole), size, comment];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_references_mean_kept_ones() {
        assert!(means("alpine", "docker.io/library/alpine:latest") && means("x/y:1", "docker.io/x/y:1"));
        assert!(means("localhost:5000/a", "localhost:5000/a:latest") && means("docker.io/x/y:1", "docker.io/x/y:1"));
        assert!(!means("alpine:3", "docker.io/library/alpine:latest"));
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
