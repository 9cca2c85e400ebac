//! Copies of files by the API, and the tars that they are.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use hull_proto::v1::{
    CopyFromRequest, CopyToRequest, CopyToResponse, CopyToStart, ExportContainerRequest, PathStat, StatPathRequest,
    TarDone, copy_from_response, copy_to_request, export_container_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Session, wait};

/// Bytes of one message.
const PIECE: usize = 512 * 1024;

/// What came from a container.
#[derive(Debug)]
pub struct Copied {
    /// What it is.
    pub stat: PathStat,
    /// The tar.
    pub tar: Vec<u8>,
    /// What the agent said of it.
    pub done: TarDone,
}

/// One entry of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it stands there.
    pub name: String,
    /// Type.
    pub kind: tar::EntryType,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Target of a link; empty for anything else.
    pub link: String,
    /// Contents.
    pub data: Vec<u8>,
    /// PAX records.
    pub records: Vec<(String, Vec<u8>)>,
}

impl Session {
    /// What is at a path of a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn stat_path(&self, container: &str, path: &str, follow_link: bool) -> Result<PathStat, Status> {
        let request = StatPathRequest { container: container.into(), path: path.into(), follow_link };
        let answer = wait::within("StatPath", self.clients.containers.clone().stat_path(request)).await?;
        Ok(answer.into_inner().stat.expect("a stat"))
    }

    /// Copies a path from a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn copy_from(&self, container: &str, path: &str, follow_link: bool) -> Result<Copied, Status> {
        use copy_from_response::Message;
        let request = CopyFromRequest { container: container.into(), path: path.into(), follow_link };
        let copy = async {
            let mut answers = self.clients.containers.clone().copy_from(request).await?.into_inner();
            let first = answers.message().await?.and_then(|answer| answer.message);
            let Some(Message::Stat(stat)) = first else { panic!("the first is stat: {first:?}") };
            let (mut tar, mut done) = (Vec::new(), None);
            while let Some(answer) = answers.message().await? {
                match answer.message.expect("a message") {
                    Message::Data(data) => tar.extend_from_slice(&data),
                    Message::Done(said) => done = Some(said),
                    Message::Stat(stat) => panic!("a second stat: {stat:?}"),
                }
            }
            Ok(Copied { stat, tar, done: done.expect("the last is done") })
        };
        wait::within("CopyFrom", copy).await
    }

    /// Copies a tar to a directory of a container.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn copy_to(
        &self,
        container: &str,
        path: &str,
        tar: &[u8],
        keep_ownership: bool,
    ) -> Result<CopyToResponse, Status> {
        let (sender, requests) = begin_copy_to(container, path, keep_ownership).await;
        let data: Vec<Bytes> = tar.chunks(PIECE).map(Bytes::copy_from_slice).collect();
        tokio::spawn(async move {
            for data in data {
                let message = Some(copy_to_request::Message::Data(data));
                if sender.send(CopyToRequest { message }).await.is_err() {
                    return;
                }
            }
        });
        let answer = wait::within("CopyTo", self.clients.containers.clone().copy_to(requests)).await?;
        Ok(answer.into_inner())
    }

    /// The file system of a container as a tar.
    ///
    /// # Errors
    /// What the agent said.
    pub async fn export(&self, container: &str) -> Result<Vec<u8>, Status> {
        use export_container_response::Message;
        let request = ExportContainerRequest { container: container.into() };
        let export = async {
            let mut answers = self.clients.containers.clone().export_container(request).await?.into_inner();
            let (mut tar, mut done) = (Vec::new(), false);
            while let Some(answer) = answers.message().await? {
                match answer.message.expect("a message") {
                    Message::Data(data) => tar.extend_from_slice(&data),
                    Message::Done(_) => done = true,
                }
            }
            assert!(done, "the last is done");
            Ok(tar)
        };
        wait::within("ExportContainer", export).await
    }
}

/// The requests of a CopyTo, of which the first is there already.
pub async fn begin_copy_to(
    container: &str,
    path: &str,
    keep_ownership: bool,
) -> (mpsc::Sender<CopyToRequest>, ReceiverStream<CopyToRequest>) {
    let (sender, requests) = mpsc::channel(4);
    let start = CopyToStart { container: container.into(), path: path.into(), keep_ownership };
    let message = Some(copy_to_request::Message::Start(start));
    sender.send(CopyToRequest { message }).await.expect("the queue has room");
    (sender, ReceiverStream::new(requests))
}

/// Entries of a tar.
///
/// # Panics
/// If it is damaged.
pub fn entries(tar: &[u8]) -> Vec<Entry> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let mut entry = entry.expect("an entry");
        let records = entry.pax_extensions().expect("records").into_iter().flatten().flatten();
        let records = records.map(|record| (text(record.key_bytes()), record.value_bytes().to_vec())).collect();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("data");
        let header = entry.header();
        Entry {
            name: text(entry.path().expect("a path").as_os_str().as_bytes()),
            kind: header.entry_type(),
            mode: header.mode().expect("a mode"),
            uid: header.uid().expect("a uid"),
            gid: header.gid().expect("a gid"),
            link: entry.link_name_bytes().map(|link| text(&link)).unwrap_or_default(),
            data,
            records,
        }
    });
    entries.collect()
}

/// The contents of one file of a tar.
///
/// # Panics
/// If it is not there.
pub fn file(tar: &[u8], name: &str) -> String {
    let found = entries(tar).into_iter().find(|entry| entry.name == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {:?}", names(tar)));
    String::from_utf8_lossy(&found.data).into_owned()
}

/// Names of a tar's entries.
pub fn names(tar: &[u8]) -> Vec<String> {
    entries(tar).into_iter().map(|entry| entry.name).collect()
}
