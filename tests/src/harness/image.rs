//! Root file systems for tests, and their import.

use std::path::Path;

use hull_proto::v1::{
    Image, ImageConfig, ImportImageRequest, ImportStart, import_image_request, import_image_response,
};
use tonic::Status;

use super::{Clients, agent};

/// Name of the image that every agent has.
pub const BASE_IMAGE: &str = "test/base:1";

/// Bytes of one message of an import.
const PIECE: usize = 512 * 1024;

/// Commands that the base image has as links to busybox.
const APPLETS: [&str; 40] = [
    "ash", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "find", "grep",
    "head", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nc", "ps", "readlink", "rm",
    "seq", "sh", "sleep", "stat", "tail", "touch", "tr", "true", "tty", "wc",
];

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\napp:x:1000:1000:App:/home/app:/bin/sh\n";
const GROUP: &str =
    "root:x:0:\ndaemon:x:1:\ntty:x:5:\napp:x:1000:\nextra:x:2000:app\ntools:x:2001:app,daemon\nlone:x:3000:\n";

/// A root file system tar in the making.
pub struct Rootfs {
    tar: tar::Builder<Vec<u8>>,
}

impl std::fmt::Debug for Rootfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rootfs of {} bytes", self.tar.get_ref().len())
    }
}

impl Default for Rootfs {
    fn default() -> Self {
        Self::empty()
    }
}

impl Rootfs {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self { tar: tar::Builder::new(Vec::new()) }
    }

    /// What every test can stand on: busybox, the probe, users and groups.
    pub fn base() -> Self {
        let mut rootfs = Self::empty();
        for dir in ["bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "var/log"] {
            rootfs = rootfs.dir(dir, 0o755);
        }
        rootfs.dir("tmp", 0o1777).programs().file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP)
    }

    /// busybox and the probe alone: for images that are hostile elsewhere.
    pub fn programs(self) -> Self {
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed: run `make deps`");
        let probe = std::fs::read(agent::probe()).expect("reading the probe");
        let mut rootfs = self.file("bin/busybox", 0o755, busybox).file("probe", 0o755, probe);
        for applet in APPLETS {
            rootfs = rootfs.link(&format!("bin/{applet}"), "busybox");
        }
        rootfs
    }

    /// Adds an entry as the header says.
    ///
    /// # Panics
    /// If the path is too long for tar.
    pub fn entry(mut self, path: &str, mut header: tar::Header, data: &[u8]) -> Self {
        header.set_size(data.len() as u64);
        header.set_mtime(1_700_000_000);
        self.tar.append_data(&mut header, path, data).expect("writing a tar entry");
        self
    }

    /// Adds an entry whose name is written as it is, unchecked ("../x", "/x").
    ///
    /// # Panics
    /// If the name is longer than 100 bytes.
    pub fn raw_entry(mut self, path: &str, mut header: tar::Header, data: &[u8]) -> Self {
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.tar.append(&header, data).expect("writing a tar entry");
        self
    }

    /// A file.
    pub fn file(self, path: &str, mode: u32, data: impl AsRef<[u8]>) -> Self {
        self.entry(path, header(tar::EntryType::Regular, mode, 0), data.as_ref())
    }

    /// A file of another owner.
    pub fn owned(self, path: &str, mode: u32, owner: u64, data: &str) -> Self {
        self.entry(path, header(tar::EntryType::Regular, mode, owner), data.as_bytes())
    }

    /// A directory.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(path, header(tar::EntryType::Directory, mode, 0), &[])
    }

    /// A symbolic link.
    ///
    /// # Panics
    /// If the path or target is too long for tar.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        header.set_size(0);
        self.tar.append_link(&mut header, path, target).expect("writing a link");
        self
    }

    /// A fifo.
    pub fn fifo(self, path: &str) -> Self {
        self.entry(path, header(tar::EntryType::Fifo, 0o666, 0), &[])
    }

    /// The archive.
    ///
    /// # Panics
    /// Never: it is in memory.
    pub fn tar(self) -> Vec<u8> {
        self.tar.into_inner().expect("finishing the tar")
    }

    /// Writes the archive to a file.
    ///
    /// # Panics
    /// If it cannot.
    pub fn write(self, path: &Path) {
        std::fs::write(path, self.tar()).expect("writing the archive");
    }
}

/// A tar header.
pub fn header(kind: tar::EntryType, mode: u32, owner: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header
}

/// The configuration of the base image.
pub fn base_config() -> ImageConfig {
    ImageConfig {
        cmd: vec!["/probe".into()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(), "FROM_IMAGE=yes".into()],
        ..ImageConfig::default()
    }
}

/// Imports an archive of one image.
///
/// # Errors
/// What the agent said.
pub async fn import(clients: &Clients, start: ImportStart, archive: Vec<u8>) -> Result<Image, Status> {
    let mut images = import_all(clients, start, archive).await?;
    assert!(images.len() < 2, "the archive holds several images: {images:?}");
    images.pop().ok_or_else(|| Status::data_loss("the stream ended without an image"))
}

/// Imports an archive; all its images.
///
/// # Errors
/// What the agent said.
pub async fn import_all(clients: &Clients, start: ImportStart, archive: Vec<u8>) -> Result<Vec<Image>, Status> {
    let first = ImportImageRequest { message: Some(import_image_request::Message::Start(start)) };
    let archive = bytes::Bytes::from(archive);
    let pieces = (0..archive.len().div_ceil(PIECE)).map(move |at| {
        let end = archive.len().min((at + 1) * PIECE);
        ImportImageRequest { message: Some(import_image_request::Message::Data(archive.slice(at * PIECE..end))) }
    });
    let requests = tokio_stream::iter(std::iter::once(first).chain(pieces));
    let mut answers = clients.images.clone().import_image(requests).await?.into_inner();
    let mut images = Vec::new();
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(import_image_response::Message::Image(done)) => images.push(done),
            Some(import_image_response::Message::Progress(_)) => assert!(images.is_empty(), "progress after an image"),
            None => panic!("an empty answer"),
        }
    }
    Ok(images)
}
