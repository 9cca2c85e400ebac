//! The images that are pulled: the same bytes on every machine, made once and kept in `target/bench/images` as OCI layouts.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{EIGHT, HUNDRED};
use crate::Result;
use crate::node::rootfs;
use crate::report::{complain, output_directory};

/// Files of the small image, beside its directories, and their bytes.
const SMALL_FILES: usize = 17_000;
const SMALL_BYTES: usize = 127_000_000;
/// Files of the large layer, and their bytes.
const LARGE_FILES: usize = 12;
const LARGE_BYTES: usize = 555_000_000;
/// Bytes of each of the eight layers.
const EIGHTH_BYTES: usize = 40_000_000;
const HUGE_BYTES: usize = 2_000_000_000;
/// What is made anew when this changes.
const VERSION: &str = "1";

/// Where they are.
#[derive(Debug)]
pub(crate) struct Images(PathBuf);

impl Images {
    /// Makes those that are missing.
    pub(crate) fn prepare() -> Result<Self> {
        let images = Self(output_directory()?.join(format!("images-{VERSION}")));
        if images.0.join("done").exists() {
            return Ok(images);
        }
        complain("bench: making the images, once");
        std::fs::create_dir_all(&images.0)?;
        images.both("small", small)?;
        images.both("large", |tar| files(tar, "large", LARGE_FILES, LARGE_BYTES, &mut Noise(3)))?;
        let mut eight = Vec::new();
        for index in 0..EIGHT {
            let seed = 100 + index as u64;
            let layer = images.layer_of(&format!("part-{index}"), "gz", |tar| {
                files(tar, "part", 300, EIGHTH_BYTES, &mut Noise(seed))
            })?;
            images.layout(&format!("one-{index}"), std::slice::from_ref(&layer))?;
            eight.push(layer);
        }
        images.layout("eight", &eight)?;
        images.hundred()?;
        let huge = images.layer_of("huge", "tar", |tar| files(tar, "huge", 1, HUGE_BYTES, &mut Noise(7)))?;
        images.layout("huge", &[huge])?;
        File::create(images.0.join("done"))?;
        Ok(images)
    }

    /// An image as skopeo names it.
    pub(crate) fn source(&self, image: &str) -> String {
        format!("oci:{}:it", self.0.join(image).display())
    }

    /// The one layer of an image, as a file.
    pub(crate) fn layer(&self, image: &str) -> PathBuf {
        let (name, kind) = image.rsplit_once('-').unwrap_or((image, "tar"));
        self.0.join(format!("{name}.tar.{kind}"))
    }

    /// One tar as two images, gzip and zstd.
    fn both(&self, name: &str, fill: impl Fn(&mut Tar) -> Result<()>) -> Result<()> {
        for kind in ["gz", "zst"] {
            let layer = self.layer_of(name, kind, &fill)?;
            self.layout(&format!("{name}-{kind}"), &[layer])?;
        }
        Ok(())
    }

    /// A hundred layers, of which the lowest can run.
    fn hundred(&self) -> Result<()> {
        let work = tempfile::tempdir()?;
        let base = rootfs(work.path())?;
        let mut layers =
            vec![self.layer_of("base", "gz", |tar| Ok(tar.get_mut().write_all(&base[..base.len() - 1024])?))?];
        for index in 1..HUNDRED {
            layers.push(self.layer_of(&format!("little-{index}"), "gz", |tar| {
                let data = index.to_string();
                append(tar, &format!("layer-{index}"), data.len() as u64, data.as_bytes())
            })?);
        }
        self.layout("hundred", &layers)
    }

    /// Writes a layer; its file and diff id.
    fn layer_of(&self, name: &str, kind: &str, fill: impl Fn(&mut Tar) -> Result<()>) -> Result<(PathBuf, String)> {
        let path = self.0.join(if kind == "tar" { format!("{name}.tar") } else { format!("{name}.tar.{kind}") });
        let words: &[&str] = match kind {
            "gz" => &["gzip", "-6", "-n"],
            "zst" => &["zstd", "-3", "-q"],
            _ => &["cat"],
        };
        let mut child =
            Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(File::create(&path)?).spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let hashing = Hashing { inner: BufWriter::with_capacity(1 << 20, input), hash: Sha256::new() };
        let mut tar = tar::Builder::new(hashing);
        fill(&mut tar)?;
        let mut hashing = tar.into_inner()?;
        hashing.flush()?;
        let diff_id = format!("sha256:{}", hex::encode(hashing.hash.finalize()));
        drop(hashing.inner);
        if !child.wait()?.success() {
            return Err(format!("{words:?} failed").into());
        }
        Ok((path, diff_id))
    }

    /// Writes an OCI layout with one image of these layers.
    fn layout(&self, name: &str, layers: &[(PathBuf, String)]) -> Result<()> {
        let blobs = self.0.join(name).join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        let put = |data: &[u8]| -> Result<String> {
            let digest = hex::encode(Sha256::digest(data));
            std::fs::write(blobs.join(&digest), data)?;
            Ok(format!("sha256:{digest}"))
        };
        let mut descriptors = Vec::new();
        for (path, _) in layers {
            let (digest, size) = digest_of(path)?;
            let target = blobs.join(&digest);
            if !target.exists() {
                std::fs::hard_link(path, target)?;
            }
            let kind = match path.extension().and_then(|kind| kind.to_str()) {
                Some("gz") => "+gzip",
                Some("zst") => "+zstd",
                _ => "",
            };
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{kind}");
            descriptors.push(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}));
        }
        let diff_ids: Vec<&str> = layers.iter().map(|(_, diff_id)| diff_id.as_str()).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
            "config": {"Cmd": ["/bin/stamp"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(config.as_bytes())?, "size": config.len()},
            "layers": descriptors,
        });
        let manifest = manifest.to_string();
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": put(manifest.as_bytes())?,
            "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "it"},
        }]});
        std::fs::write(self.0.join(name).join("index.json"), index.to_string())?;
        std::fs::write(self.0.join(name).join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(())
    }
}

type Tar = tar::Builder<Hashing>;

/// Hashes what is written.
struct Hashing {
    inner: BufWriter<std::process::ChildStdin>,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn digest_of(path: &Path) -> Result<(String, u64)> {
    let (mut file, mut hash) = (BufReader::with_capacity(1 << 20, File::open(path)?), Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex::encode(hash.finalize()), path.metadata()?.len())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Files as a distribution's tree has them: many small ones, some large, in directories of twenty.
fn small(tar: &mut Tar) -> Result<()> {
    let mut noise = Noise(11);
    for directory in 0..SMALL_FILES / 20 {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, format!("usr/share/d{directory}"), std::io::empty())?;
        // A few files hold most of the bytes.
        files(tar, &format!("usr/share/d{directory}/s"), 16, SMALL_BYTES / (SMALL_FILES / 20) / 4, &mut noise)?;
        files(tar, &format!("usr/share/d{directory}/l"), 4, SMALL_BYTES / (SMALL_FILES / 20) * 3 / 4, &mut noise)?;
    }
    Ok(())
}

fn files(tar: &mut Tar, prefix: &str, count: usize, bytes: usize, noise: &mut Noise) -> Result<()> {
    for index in 0..count {
        let size = (bytes / count) as u64;
        append(tar, &format!("{prefix}{index}"), size, noise.by_ref().take(size))?;
    }
    Ok(())
}

fn append(tar: &mut Tar, name: &str, size: u64, data: impl Read) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    Ok(tar.append_data(&mut header, name, data)?)
}

/// Bytes that compress about as programs and texts do: words of a small language, and numbers that are none.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for piece in buffer.chunks_mut(24) {
            let number = self.next();
            // One of 2048 words of 16 bytes, then 8 bytes of which half are chance.
            let word = (number & 0x7ff).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&word.to_le_bytes());
            bytes[8..16].copy_from_slice(&word.rotate_left(17).to_le_bytes());
            bytes[16..20].copy_from_slice(&self.next().to_le_bytes()[..4]);
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
        Ok(buffer.len())
    }
}
