//! The content store: an OCI image layout on disk (oci-layout, index.json, blobs/sha256/…), readable by other tools.
//!
//! Layers are kept as they came, compressed or not: their digests stay those of the manifest. A blob is written to the
//! scratch directory while it is hashed, synced and only then renamed to its digest, so that every file under `blobs` is
//! whole, also after a power cut. `index.json` mirrors the database and is what images are read from if that is lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::limits::read_json;
use super::reference::is_digest;
use crate::error::{Error, Reason, Result};

/// The name of an image in an index (OCI image spec, annotations; containerd's holds the whole name).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
pub(super) const MANIFEST_TYPE: &str = super::media::OCI_MANIFEST;
const INDEX_TYPE: &str = super::media::OCI_INDEX;
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The store and its scratch directory, which are on one file system.
#[derive(Debug)]
pub(super) struct ContentStore {
    root: PathBuf,
    scratch: PathBuf,
}

/// A blob being written and hashed.
#[derive(Debug)]
pub(super) struct BlobWriter {
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

/// A whole blob in the scratch directory; removed when dropped.
#[derive(Debug)]
pub(super) struct ScratchBlob {
    pub(super) digest: String,
    pub(super) size: u64,
    file: NamedTempFile,
}

/// index.json.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<IndexEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl ContentStore {
    /// Opens or makes the store below `root`.
    pub(super) fn open(root: PathBuf, scratch: PathBuf) -> Result<Self> {
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|error| Error::io(format!("making {}", blobs.display()), &error))?;
        let store = Self { root, scratch };
        if !store.root.join("oci-layout").exists() {
            store.replace("oci-layout", LAYOUT.as_bytes())?;
            store.write_index(std::iter::empty())?;
        }
        Ok(store)
    }

    /// Where a blob is or would be.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(digest.replacen(':', "/", 1))
    }

    /// Opens a blob.
    pub(super) fn read(&self, digest: &str) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| Error::io(format!("opening the blob {}", path.display()), &error))
    }

    /// Reads a small blob: a manifest or config.
    pub(super) fn read_document(&self, digest: &str) -> Result<Vec<u8>> {
        read_json(digest, self.read(digest)?)
    }

    /// Whether a blob is there.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.path(digest).exists()
    }

    /// Digests of all blobs.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let directory = self.root.join("blobs/sha256");
        let entries = fs::read_dir(&directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| Error::io(format!("listing {}", directory.display()), &error))?;
        let digests = entries.iter().map(|entry| format!("sha256:{}", entry.file_name().to_string_lossy()));
        Ok(digests.filter(|digest| is_digest(digest)).collect())
    }

    /// Begins a blob.
    pub(super) fn writer(&self) -> Result<BlobWriter> {
        let file = scratch_file(&self.scratch)?;
        Ok(BlobWriter { file, hash: Sha256::new(), size: 0 })
    }

    /// Writes a small blob.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<ScratchBlob> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(|error| Error::io("writing a blob", &error))?;
        writer.finish()
    }

    /// Moves a blob to its digest. Safe after [`Self::sync`].
    pub(super) fn keep(&self, blob: ScratchBlob) -> Result<()> {
        let path = self.path(&blob.digest);
        if path.exists() {
            return Ok(());
        }
        let what = || format!("keeping the blob {}", path.display());
        blob.file.as_file().sync_all().map_err(|error| Error::io(what(), &error))?;
        blob.file.persist(&path).map_err(|error| Error::io(what(), &error.error))?;
        Ok(())
    }

    /// Makes the names of kept blobs safe.
    pub(super) fn sync(&self) -> Result<()> {
        sync_directory(&self.root.join("blobs/sha256"))
    }

    /// Replaces index.json by these manifests: digest, media type and names of each.
    pub(super) fn write_index<'a>(&self, images: impl Iterator<Item = (&'a str, &'a str, &'a [String])>) -> Result<()> {
        let mut manifests = Vec::new();
        for (digest, media_type, names) in images {
            let path = self.path(digest);
            let size = fs::metadata(&path).map_err(|error| Error::io(format!("reading {}", path.display()), &error))?;
            let mut entry = |name: Option<&String>| {
                let annotations = name.map(|name| [REF_NAME, IMAGE_NAME].map(|key| (key.to_owned(), name.clone())));
                manifests.push(IndexEntry {
                    media_type: media_type.to_owned(),
                    digest: digest.to_owned(),
                    size: size.len(),
                    annotations: annotations.into_iter().flatten().collect(),
                });
            };
            match names {
                [] => entry(None),
                names => names.iter().for_each(|name| entry(Some(name))),
            }
        }
        let index = Index { schema_version: 2, media_type: Some(INDEX_TYPE.to_owned()), manifests };
        let json = serde_json::to_vec(&index)
            .map_err(|error| Error::new(Reason::Internal, format!("encoding index.json: {error}")))?;
        self.replace("index.json", &json)
    }

    /// Manifests of index.json: digest and name.
    pub(super) fn read_index(&self) -> Result<Vec<(String, Option<String>)>> {
        let path = self.root.join("index.json");
        let what = path.display().to_string();
        let file = File::open(&path).map_err(|error| Error::io(format!("opening {what}"), &error))?;
        let index: Index = serde_json::from_slice(&read_json(&what, file)?)
            .map_err(|error| Error::new(Reason::InvalidArchive, format!("{what}: {error}")))?;
        let entries = index.manifests.into_iter().filter(|entry| is_digest(&entry.digest));
        Ok(entries.map(|mut entry| (entry.digest, entry.annotations.remove(IMAGE_NAME))).collect())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        let what = || format!("writing {}", path.display());
        let mut file = scratch_file(&self.scratch)?;
        let written = file.write_all(bytes).and_then(|()| file.as_file().sync_all());
        written.map_err(|error| Error::io(what(), &error))?;
        file.persist(&path).map_err(|error| Error::io(what(), &error.error))?;
        sync_directory(&self.root)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter {
    /// Ends the blob.
    pub(super) fn finish(self) -> Result<ScratchBlob> {
        let digest = format!("sha256:{}", hex::encode(self.hash.finalize()));
        Ok(ScratchBlob { digest, size: self.size, file: self.file })
    }
}

impl ScratchBlob {
    /// A whole blob that lies elsewhere on the file system, and stays there when this is dropped.
    pub(super) fn at(path: &Path, digest: &str, size: u64) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {}", path.display()), &error);
        let file = File::open(path).map_err(failed)?;
        let mut path = TempPath::try_from_path(path).map_err(failed)?;
        path.disable_cleanup(true);
        Ok(Self { digest: digest.to_owned(), size, file: NamedTempFile::from_parts(file, path) })
    }

    /// Opens it for reading from its start.
    pub(super) fn read(&self) -> Result<File> {
        self.file.reopen().map_err(|error| Error::io("opening a blob", &error))
    }
}

/// A named file in the scratch directory; removed when dropped.
pub(super) fn scratch_file(scratch: &Path) -> Result<NamedTempFile> {
    NamedTempFile::new_in(scratch)
        .map_err(|error| Error::io(format!("making a scratch file in {}", scratch.display()), &error))
}

/// Makes the names in a directory safe.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    let sync = File::open(directory).and_then(|file| file.sync_all());
    sync.map_err(|error| Error::io(format!("syncing {}", directory.display()), &error))
}
