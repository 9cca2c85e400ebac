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
use crate::images::limits::{ARCHIVE_ENTRIES_MAX, IMAGES_MAX, LAYERS_MAX, read_error, read_json};
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
    /// Digests of layers that an image has taken, by path: another image may have them, too.
    taken: BTreeMap<String, String>,
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
        let mut layers = Vec::new();
        for (path, diff_id) in paths {
            let missing = || damaged(format_args!("the layer {path} is missing"));
            let found = match self.taken.get(&path) {
                Some(_) => path.clone(),
                None => self.find(&path).map(str::to_owned).or_else(|| normal("", &path)).ok_or_else(missing)?,
            };
            let blob = self.take(&found);
            let digest = match (&blob, self.taken.get(&found)) {
                (Some(blob), _) => blob.digest.clone(),
                (None, Some(digest)) => digest.clone(),
                (None, None) => return Err(missing()),
            };
            self.taken.insert(found, digest.clone());
            layers.push(UnpackedLayer { digest, diff_id, blob, converted: None });
        }
        Ok(layers)
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The images of an OCI image layout.
pub(super) fn oci(mut files: Files, given: Vec<String>, store: &ContentStore) -> Result<Vec<Unpacked>> {
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
    let mut images: Vec<(Descriptor, Vec<String>)> = Vec::new();
    for entry in fitting(entries)? {
        let (manifest, found) = resolve(&files, entry)?;
        match images.iter_mut().find(|(other, _)| other.digest == manifest.digest) {
            Some((_, names)) => names.extend(found),
            None => images.push((manifest, found)),
        }
    }
    let all = name_images(given, images.iter().map(|(_, found)| found.as_slice()))?;
    images.iter().zip(all).map(|((manifest, _), names)| oci_image(&mut files, manifest, names, store)).collect()
}

fn oci_image(files: &mut Files, descriptor: &Descriptor, names: Vec<String>, store: &ContentStore) -> Result<Unpacked> {
    let manifest = files.blob(descriptor)?;
    let Document::Manifest { config, layers } = parse_manifest("the manifest", &manifest)? else {
        return Err(damaged("the manifest is an index"));
    };
    let config = files.blob(&config)?;
    let document = ConfigDocument::parse(&config, layers.len())?;
    layers.iter().try_for_each(|layer| check_archived_layer(&layer.media_type))?;
    let paths = layers.iter().map(|layer| blob_path(&layer.digest));
    let layers = files.layers(paths.zip(document.rootfs.diff_ids.clone()))?;
    Ok(Unpacked { manifest: store.write(&manifest)?, config: store.write(&config)?, document, layers, names })
}

/// The names that each image gets: those that it has in the archive, or those that were given, if there is one image.
fn name_images<'a>(given: Vec<String>, found: impl ExactSizeIterator<Item = &'a [String]>) -> Result<Vec<Vec<String>>> {
    let count = found.len();
    if count > IMAGES_MAX {
        let line = format!("the archive holds {count} images; at most {IMAGES_MAX} are taken at once");
        return Err(Error::new(Reason::LimitExceeded, line));
    }
    if given.is_empty() {
        return found.map(names).collect();
    }
    if count > 1 {
        let problem = format_args!("the archive holds {count} images, which keep the names that they have there");
        return Err(Error::invalid("tags", problem));
    }
    Ok(vec![given])
}

/// The entries of an index that may be for this node; there must be one.
fn fitting(entries: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
    let total = entries.len();
    let fitting: Vec<Descriptor> = entries.into_iter().filter(fits).collect();
    if fitting.is_empty() {
        let line = format!("none of the archive's {total} images is for linux/{}", host_architecture());
        return Err(Error::new(Reason::UnsupportedFeature, line));
    }
    Ok(fitting)
}

/// The manifest that an entry of index.json leads to, through indexes, and the names that it has on the way.
fn resolve(files: &Files, mut entry: Descriptor) -> Result<(Descriptor, Vec<String>)> {
    let mut found = Vec::new();
    for _ in 0..INDEX_DEPTH_MAX {
        found.extend(annotated_name(&entry));
        let Document::Index(entries) = parse_manifest("a manifest of the index", &files.blob(&entry)?)? else {
            return Ok((entry, found));
        };
        let mut level = fitting(entries)?;
        level.dedup_by(|a, b| a.digest == b.digest);
        let several = level.len();
        entry = level.swap_remove(0);
        if several > 1 {
            let line = format!("an index of the archive holds {several} images for this node");
            return Err(Error::new(Reason::InvalidArchive, line).hint("export the wanted image alone"));
        }
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

/// The images of a docker-archive; their manifests are made here.
pub(super) fn docker(mut files: Files, given: Vec<String>, store: &ContentStore) -> Result<Vec<Unpacked>> {
    let images: Vec<DockerManifest> = parse("manifest.json", &files.json("manifest.json")?)?;
    if images.is_empty() {
        return Err(damaged("manifest.json names no image"));
    }
    let all = name_images(given, images.iter().map(|image| image.repo_tags.as_deref().unwrap_or_default()))?;
    let mut descriptors = BTreeMap::new();
    images
        .iter()
        .zip(all)
        .map(|(image, names)| docker_image(&mut files, image, names, &mut descriptors, store))
        .collect()
}

/// `descriptors`: of the layers' blobs so far, by digest.
fn docker_image(
    files: &mut Files,
    image: &DockerManifest,
    names: Vec<String>,
    descriptors: &mut BTreeMap<String, Descriptor>,
    store: &ContentStore,
) -> Result<Unpacked> {
    if image.layers.len() > LAYERS_MAX {
        let line = format!("the image has {} layers; at most {LAYERS_MAX} can be mounted", image.layers.len());
        return Err(Error::new(Reason::LimitExceeded, line));
    }
    let config = files.json(&image.config)?;
    let document = ConfigDocument::parse(&config, image.layers.len())?;
    let layers = files.layers(image.layers.iter().cloned().zip(document.rootfs.diff_ids.clone()))?;
    let config = store.write(&config)?;
    for layer in &layers {
        if let Some(blob) = &layer.blob {
            let (_, compression) = compression::open(blob.read()?)?;
            descriptors.insert(layer.digest.clone(), Descriptor::new(layer_type(compression), blob));
        }
    }
    let listed: Vec<_> = layers.iter().filter_map(|layer| descriptors.get(&layer.digest).cloned()).collect();
    let manifest = store.write(&manifest(&Descriptor::new(CONFIG_TYPE, &config), &listed)?)?;
    Ok(Unpacked { manifest, config, document, layers, names })
}

fn damaged(problem: impl std::fmt::Display) -> Error {
    Error::new(Reason::InvalidArchive, problem.to_string())
}
