//! `image prune` and `image verify`.

use std::io::Write as _;

use hull_proto::v1::{
    DamagedFile, PruneImagesRequest, PruneImagesResponse, RegistryAuth, VerifyImagesRequest, verify_images_response,
};

use super::image::shown_names;
use crate::cli::{PruneFlags, PruneHow, VerifyFlags};
use crate::client::Client;
use crate::error::{Error, Result, one_line};
use crate::output::{self, DamageView, Progress, PruneView, Step, bytes_decimal};
use crate::registry;
use crate::terminal::{ask, stdin_is_terminal};

/// Removes images that nothing needs; prints what went, what stayed and why.
pub(crate) async fn prune(connect: impl Future<Output = Result<Client>>, flags: PruneFlags) -> Result<u8> {
    let PruneFlags { all, how } = flags;
    let which = if all { "all images that no container uses" } else { "all images without a name" };
    if !is_wanted(how, which).await? {
        return Ok(0);
    }
    let request = PruneImagesRequest { all, dry_run: how.dry_run };
    let pruned = connect.await?.images().prune_images(request).await?.into_inner();
    match how.output.output {
        Some(format) => output::data(format, &PruneView::from(pruned))?,
        None => print_pruned(&pruned, how.dry_run)?,
    }
    Ok(0)
}

/// Whether the caller wants these to be removed, or looked at.
pub(super) async fn is_wanted(how: PruneHow, which: &str) -> Result<bool> {
    if how.dry_run || how.force {
        return Ok(true);
    }
    if !stdin_is_terminal() {
        return Err(Error::new("standard input is not a terminal: give --force, or --dry-run to look first"));
    }
    let answer = ask(&format!("This will remove {which}. Go on? [y/N] ")).await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What is said of what goes, or would.
pub(super) struct Words {
    pub(super) deleted: &'static str,
    pub(super) reclaimed: &'static str,
}

impl Words {
    pub(super) fn of(dry_run: bool) -> Self {
        match dry_run {
            true => Self { deleted: "Would delete", reclaimed: "Reclaimable space" },
            false => Self { deleted: "Deleted", reclaimed: "Total reclaimed space" },
        }
    }
}

fn print_pruned(pruned: &PruneImagesResponse, dry_run: bool) -> Result<()> {
    let mut out = output::stdout();
    let Words { deleted, reclaimed } = Words::of(dry_run);
    for image in &pruned.removed {
        writeln!(out, "{deleted}: {}", shown_names(&image.names, &image.digest))?;
    }
    for image in &pruned.kept {
        let names = shown_names(&image.names, &image.digest);
        writeln!(out, "Kept: {names}: {} ({})", one_line(&image.reason), bytes_decimal(image.bytes))?;
    }
    writeln!(out, "{reclaimed}: {}", bytes_decimal(pruned.freed_bytes))?;
    Ok(out.flush()?)
}

/// Compares files with their digests; an error while anything is damaged.
pub(crate) async fn verify(connect: impl Future<Output = Result<Client>>, flags: VerifyFlags) -> Result<u8> {
    let VerifyFlags { repair, quiet, output, images } = flags;
    let auth = if repair { common_credentials(&images)? } else { None };
    let mut progress = Progress::new(quiet);
    let request = VerifyImagesRequest { images, repair, auth };
    let mut answers = connect.await?.images().verify_images(request).await?.into_inner();
    let mut damaged: Vec<DamagedFile> = Vec::new();
    let mut files = 0;
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(verify_images_response::Message::Progress(now)) => {
                files = now.files_done;
                let state = format!("{files} of {} files", now.files_total);
                let bytes = Some((now.bytes_done, now.bytes_total));
                progress.step(0, &Step { name: "Verifying", state: &state, bytes });
            }
            Some(verify_images_response::Message::Damaged(file)) => damaged.push(file),
            None => {}
        }
    }
    progress.clear();
    let remaining = damaged.iter().filter(|file| !file.repaired).count();
    match output.output {
        Some(format) => output::data(format, &damaged.into_iter().map(DamageView::from).collect::<Vec<_>>())?,
        None => print_damage(&damaged, files, remaining)?,
    }
    if remaining == 0 { Ok(0) } else { Err(Error::Reported) }
}

fn print_damage(damaged: &[DamagedFile], files: u32, remaining: usize) -> Result<()> {
    let mut out = output::stdout();
    for file in damaged {
        let outcome = match (file.repaired, file.repair_error.as_str()) {
            (true, _) => "; repaired".to_owned(),
            (false, "") => String::new(),
            (false, error) => format!("; not repaired: {error}"),
        };
        writeln!(out, "{}: {}{}", file.digest, one_line(&file.problem), one_line(&outcome))?;
    }
    writeln!(out, "{files} files verified, {remaining} damaged")?;
    Ok(out.flush()?)
}

/// The caller's credentials, where all images are of one registry; those of several would tell each the others' secrets.
fn common_credentials(images: &[String]) -> Result<Option<RegistryAuth>> {
    let mut registries = images.iter().map(|image| registry::of_reference(image));
    match registries.next() {
        Some(first) if registries.all(|other| other == first) => registry::credentials(&images[0]),
        _ => Ok(None),
    }
}
