//! Archives around layers: OCI image layouts and docker-archives.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{CONFIG_TYPE, Unpacked, UnpackedLayer, layer_type, names};
use crate::error::{Error, Reason, Result};
use crate::images::compression;
use crate::images::content::{ContentStore, IMAGE_NAME, REF_NAME, ScratchBlob};
use crate::images::document::{
    ConfigDocument, Descriptor, DockerManifest, Document, host_architecture, manifest, parse, parse_manifest,
};
use crate::images::limits::{ARCHIVE_ENTRIES_MAX, LAYERS_MAX, read_error, read_json};
use crate::images::media::check_archived_layer;
use crate::images::tar::{Kind, TarReader, shown};

/// Indexes within indexes that are followed.
const INDEX_DEPTH_MAX: usize = 4;
/// Files of an archive, in the scratch directory.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<String, ScratchBlob>,
    /// Symbolic links, to names of the archive: old docker-archives share layers so.
    links: BTreeMap<String, String>,
}

/// Reads all files of an archive into the scratch directory.
pub(super) fn spool(stream: impl Read, store: &ContentStore) -> Result<Files> {
    let mut archive = TarReader::new(stream);
    let mut files = Files::default();
    let mut count = 0;
    while let Some(entry) = archive.next()? {
        count += 1;
        if count > ARCHIVE_ENTRIES_MAX {
            let line = format!("the archive has more than {ARCHIVE_ENTRIES_MAX} entries around its layers");
            return Err(Error::new(Reason::LimitExceeded, line));
        }
        let Some(path) = std::str::from_utf8(&entry.path).ok().and_then(|path| normal("", path)) else {
            return Err(damaged(format_args!("entry {} has no plain name", shown(&entry.path))));
        };
        let twice = match entry.kind {
            Kind::Directory => false,
            Kind::File(_) => {
                let mut blob = store.writer()?;
                io::copy(&mut archive, &mut blob).map_err(|error| read_error(format_args!("reading {path}"), error))?;
                let blob = blob.finish()?;
                check_digest(&path, &blob)?;
                files.files.insert(path, blob).is_some()
            }
            Kind::Symlink(target) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = std::str::from_utf8(&target).ok().and_then(|target| normal(folder, target));
                let target = target.ok_or_else(|| damaged(format_args!("{path} links out of the archive")))?;
                files.links.insert(path, target).is_some()
            }
            _ => return Err(damaged(format_args!("{path} is neither file nor directory"))),
        };
        if twice {
            return Err(damaged(format_args!("entry {} comes twice", shown(&entry.path))));
        }
    }
    Ok(files)
}

/// A file named by its digest must have it.
fn check_digest(path: &str, blob: &ScratchBlob) -> Result<()> {
    match path.strip_prefix("blobs/sha256/") {
        Some(hex) if blob.digest.strip_prefix("sha256:") != Some(hex) => {
            Err(damaged(format_args!("{path} is damaged: its digest is {}", blob.digest)))
        }
        _ => Ok(()),
    }
}

/// Joins and simplifies; `None` if it leads out of the archive.
fn normal(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

impl Files {
    fn find(&self, path: &str) -> Option<&str> {
        let path = normal("", path)?;
        let path = self.links.get(&path).unwrap_or(&path);
        self.files.get_key_value(path).map(|(path, _)| path.as_str())
    }

    fn json(&self, path: &str) -> Result<Vec<u8>> {
        let missing = || damaged(format_args!("{path} is missing"));
        let file = self.find(path).and_then(|path| self.files.get(path)).ok_or_else(missing)?;
        read_json(path, file.read()?)
    }

    fn take(&mut self, path: &str) -> Option<ScratchBlob> {
        let path = self.find(path)?.to_owned();
        self.files.remove(&path)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.json(&blob_path(&descriptor.digest))?;
        if bytes.len() as u64 != descriptor.size {
            return Err(damaged(format_args!("{} is not as long as its descriptor says", descriptor.digest)));
        }
        Ok(bytes)
    }

    /// Takes the layers out; one that comes again has no blob of its own.
    fn layers(&mut self, paths: impl IntoIterator<Item = (String, String)>) -> Result<Vec<UnpackedLayer>> {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let mut layers = Vec::new();
        for (path, diff_id) in paths {
            let missing = || damaged(format_args!("the layer {path} is missing"));
            let found = match taken.get(&path) {
                Some(_) => path.clone(),
                None => self.find(&path).map(str::to_owned).or_else(|| normal("", &path)).ok_or_else(missing)?,
            };
            let blob = self.take(&found);
            let digest = match (&blob, taken.get(&found)) {
                (Some(blob), _) => blob.digest.clone(),
                (None, Some(digest)) => digest.clone(),
                (None, None) => return Err(missing()),
            };
            taken.insert(found, digest.clone());
            layers.push(UnpackedLayer { digest, diff_id, blob, converted: None });
        }
        Ok(layers)
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The image of an OCI image layout.
pub(super) fn oci(mut files: Files, mut given: Vec<String>) -> Result<Unpacked> {
    let layout = files.json("oci-layout")?;
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = parse("oci-layout", &layout)?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(damaged(format_args!("image layout version {:?} is not 1", layout.image_layout_version)));
    }
    let Document::Index(entries) = parse_manifest("index.json", &files.json("index.json")?)? else {
        return Err(damaged("index.json is no index"));
    };
    let (chosen, annotated) = choose(&files, entries)?;
    if given.is_empty() {
        given = annotated;
    }
    let Document::Manifest { config, layers } = parse_manifest("the manifest", &files.blob(&chosen)?)? else {
        return Err(damaged("the manifest is an index"));
    };
    let document = ConfigDocument::parse(&files.blob(&config)?, layers.len())?;
    layers.iter().try_for_each(|layer| check_archived_layer(&layer.media_type))?;
    let paths = layers.iter().map(|layer| blob_path(&layer.digest));
    let layers = files.layers(paths.zip(document.rootfs.diff_ids.clone()))?;
    let mut blob = |descriptor: &Descriptor| {
        files
            .take(&blob_path(&descriptor.digest))
            .ok_or_else(|| damaged(format_args!("{} is missing", descriptor.digest)))
    };
    Ok(Unpacked { manifest: blob(&chosen)?, config: blob(&config)?, document, layers, names: given })
}

/// Chooses this node's image among an index's; also returns the names that it has there.
fn choose(files: &Files, entries: Vec<Descriptor>) -> Result<(Descriptor, Vec<String>)> {
    let mut level = entries;
    let mut names_found = Vec::new();
    for _ in 0..INDEX_DEPTH_MAX {
        let total = level.len();
        let mut fitting: Vec<Descriptor> = level.into_iter().filter(fits).collect();
        for descriptor in &fitting {
            names_found.extend(annotated_name(descriptor));
        }
        fitting.dedup_by(|a, b| a.digest == b.digest);
        let chosen = match fitting.as_slice() {
            [chosen] => chosen.clone(),
            [] => {
                let host = host_architecture();
                let line = format!("none of the archive's {total} images is for linux/{host}");
                return Err(Error::new(Reason::UnsupportedFeature, line));
            }
            several => {
                let line =
                    format!("the archive holds {} images for this node; hull takes one at a time", several.len());
                return Err(Error::new(Reason::InvalidArchive, line).hint("export the wanted image alone"));
            }
        };
        level = match parse_manifest("a manifest of the index", &files.blob(&chosen)?)? {
            Document::Manifest { .. } => return Ok((chosen, names(&names_found)?)),
            Document::Index(entries) => entries,
        };
    }
    Err(damaged(format_args!("indexes are nested more than {INDEX_DEPTH_MAX} deep")))
}

/// Whether an entry of an index may be for this node. Attestations say that they are for "unknown".
fn fits(descriptor: &Descriptor) -> bool {
    descriptor
        .platform
        .as_ref()
        .is_none_or(|platform| platform.os == "linux" && platform.architecture == host_architecture())
}

/// The name that an index gives an image: containerd's annotation, or OCI's if it is more than a tag.
fn annotated_name(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations.as_ref()?;
    let short = || annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    annotations.get(IMAGE_NAME).or_else(short).cloned()
}

/// The image of a docker-archive; its manifest is made here.
pub(super) fn docker(mut files: Files, mut given: Vec<String>, store: &ContentStore) -> Result<Unpacked> {
    let images: Vec<DockerManifest> = parse("manifest.json", &files.json("manifest.json")?)?;
    let [image] = images.as_slice() else {
        let line = format!("the archive holds {} images; hull takes one at a time", images.len());
        return Err(Error::new(Reason::InvalidArchive, line).hint("save the wanted image alone"));
    };
    if image.layers.len() > LAYERS_MAX {
        let line = format!("the image has {} layers; at most {LAYERS_MAX} can be mounted", image.layers.len());
        return Err(Error::new(Reason::LimitExceeded, line));
    }
    if given.is_empty() {
        given = names(image.repo_tags.as_deref().unwrap_or_default())?;
    }
    let document = ConfigDocument::parse(&files.json(&image.config)?, image.layers.len())?;
    let layers = files.layers(image.layers.iter().cloned().zip(document.rootfs.diff_ids.clone()))?;
    let config = files.take(&image.config).ok_or_else(|| damaged("the config is missing"))?;
    let mut descriptors: BTreeMap<&str, Descriptor> = BTreeMap::new();
    for layer in &layers {
        if let Some(blob) = &layer.blob {
            let (_, compression) = compression::open(blob.read()?)?;
            descriptors.insert(&layer.digest, Descriptor::new(layer_type(compression), blob));
        }
    }
    let listed: Vec<_> = layers.iter().filter_map(|layer| descriptors.get(layer.digest.as_str()).cloned()).collect();
    let manifest = store.write(&manifest(&Descriptor::new(CONFIG_TYPE, &config), &listed)?)?;
    Ok(Unpacked { manifest, config, document, layers, names: given })
}

fn damaged(problem: impl std::fmt::Display) -> Error {
    Error::new(Reason::InvalidArchive, problem.to_string())
}
