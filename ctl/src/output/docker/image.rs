//! Images.

use hull_proto::v1::{HistoryEntry, Image};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{local, rfc3339};
use crate::output::template::Fields;
use crate::output::{ago, bytes_decimal, moment, short_digest};

/// Shown for an image without a name.
const NONE: &str = "<none>";
/// Shown for a layer that has no name of its own.
pub(crate) const MISSING: &str = "<missing>";

/// Fields of a row of `images`.
pub(crate) const IMAGE: Fields = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Platform", "PLATFORM"),
];

/// Fields of a row of `history`.
pub(crate) const HISTORY: Fields = &[
    ("ID", "LAYER"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// An image, once for each of its names.
pub(crate) fn image_rows(image: &Image, whole: bool, now: Timestamp) -> Vec<Value> {
    let id = if whole { &image.digest[..] } else { short_digest(&image.digest) };
    let created = moment(image.created_at.as_ref());
    let row = |name: &str| {
        let (repository, tag) = repository_and_tag(name);
        json!({
            "ID": id,
            "Repository": repository,
            "Tag": tag,
            "Digest": image.digest,
            "CreatedSince": created.map(|_| format!("{} ago", ago(created, now))).unwrap_or_default(),
            "CreatedAt": local(created),
            "Size": bytes_decimal(image.size),
            "Platform": format!("{}/{}", image.os, image.architecture),
        })
    };
    if image.names.is_empty() { vec![row("")] } else { image.names.iter().map(|name| row(name)).collect() }
}

/// An image as `inspect` shows it.
pub(crate) fn image_details(image: &Image) -> Value {
    let config = image.config.clone().unwrap_or_default();
    let set = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<Value>();
    let repository = |name: &String| repository_and_tag(name).0.to_owned();
    let mut digests: Vec<String> =
        image.names.iter().map(repository).map(|name| format!("{name}@{}", image.digest)).collect();
    digests.dedup();
    json!({
        "Id": image.digest,
        "RepoTags": image.names.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Created": rfc3339(moment(image.created_at.as_ref())),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": image.layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
        "Config": {
            "User": config.user,
            "ExposedPorts": set(&config.exposed_ports),
            "Env": config.env,
            "Cmd": config.cmd,
            "Volumes": set(&config.volumes),
            "WorkingDir": config.working_dir,
            "Entrypoint": config.entrypoint,
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
        },
    })
}

/// A step of an image's making.
pub(crate) fn history_row(step: &HistoryEntry, command: &str, whole: bool, now: Timestamp) -> Value {
    let created = moment(step.created_at.as_ref());
    let id = match step.diff_id.as_str() {
        "" => MISSING,
        id if whole => id,
        id => short_digest(id),
    };
    json!({
        "ID": id,
        "CreatedSince": created.map(|_| format!("{} ago", ago(created, now))).unwrap_or_default(),
        "CreatedAt": local(created),
        "CreatedBy": command,
        "Size": bytes_decimal(step.size),
        "Comment": step.comment,
    })
}

/// A reference without the registry that is meant where none is named, as Docker shows it.
pub(crate) fn familiar(name: &str) -> &str {
    name.strip_prefix("docker.io/").map_or(name, |rest| rest.strip_prefix("library/").unwrap_or(rest))
}

/// The parts of a reference in its familiar form.
pub(crate) fn repository_and_tag(name: &str) -> (&str, &str) {
    if name.is_empty() {
        return (NONE, NONE);
    }
    let familiar = familiar(name);
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
    fn an_image_has_a_row_for_each_name() {
        let names = vec!["docker.io/a:1".into(), "docker.io/library/b:2".into()];
        let image = Image { digest: "sha256:0123456789abcdef".into(), names, ..Image::default() };
        let rows = image_rows(&image, false, Timestamp::UNIX_EPOCH);
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[1]["Repository"], &rows[1]["ID"]), (&json!("b"), &json!("0123456789ab")));
        for (field, _) in IMAGE {
            assert!(rows[0].get(field).is_some(), "{field}");
        }
        assert_eq!(rows[0].as_object().unwrap().len(), IMAGE.len());
        let details = image_details(&image);
        assert_eq!(details["RepoTags"], json!(["a:1", "b:2"]));
        assert_eq!(details["RepoDigests"][0], "a@sha256:0123456789abcdef");
    }
}
