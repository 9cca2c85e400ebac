//! `image import` and `load`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use bytes::Bytes;
use hull_proto::v1::image_service_client::ImageServiceClient;
use hull_proto::v1::{
    ArchiveFormat, Image, ImageConfig, ImportImageRequest, ImportStart, import_image_request, import_image_response,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::layout;
use crate::cli::{FormatFlag, ImageConfigFlags, ImportFlags, LoadFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, Progress, bytes_decimal};
use crate::spec;

/// Bytes of one message.
const PIECE: usize = 256 << 10;
/// Messages that wait for the connection.
const QUEUE: usize = 8;
/// Search path of an image that says none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sends an archive; prints the image's names and digest.
pub(crate) async fn import(connect: impl Future<Output = Result<Client>>, flags: ImportFlags) -> Result<u8> {
    let format = match flags.format {
        FormatFlag::Auto => ArchiveFormat::Unspecified,
        FormatFlag::Rootfs => ArchiveFormat::RootfsTar,
        FormatFlag::Oci => ArchiveFormat::Oci,
        FormatFlag::Docker => ArchiveFormat::Docker,
    };
    let start = ImportStart { tags: flags.tags, format: format.into(), config: config(&flags.config)? };
    let image = take_in(connect, start, Source::open(flags.path)?, flags.quiet).await?;
    let names = if flags.quiet { String::new() } else { image.names.iter().map(|name| format!("{name} ")).collect() };
    output::line(&format!("{names}{}", image.digest))?;
    Ok(0)
}

/// Sends an archive that names its images; prints what they are, as Docker does.
pub(crate) async fn load(connect: impl Future<Output = Result<Client>>, flags: LoadFlags) -> Result<u8> {
    let image = take_in(connect, ImportStart::default(), Source::open(flags.input)?, flags.quiet).await?;
    output::line(&match &image.names[..] {
        _ if flags.quiet => image.digest,
        [] => format!("Loaded image ID: {}", image.digest),
        names => names.iter().map(|name| format!("Loaded image: {name}")).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(0)
}

async fn take_in(
    connect: impl Future<Output = Result<Client>>,
    start: ImportStart,
    source: Source,
    quiet: bool,
) -> Result<Image> {
    let client = connect.await?;
    let (requests, queue) = mpsc::channel(QUEUE);
    // The queue is empty and its other end is here: it takes the message.
    let _ = requests.send(ImportImageRequest { message: Some(import_image_request::Message::Start(start)) }).await;
    let sent = send(source, requests.clone())?;
    let receiving = receive(client.images(), queue, Progress::new(quiet));
    // The queue stays open until the archive was read to its end: one that breaks off must not look complete.
    let sending = async move {
        sent.await.unwrap_or(Ok(()))?;
        drop(requests);
        std::future::pending::<Result<Image>>().await
    };
    tokio::select! {
        received = receiving => received,
        failed = sending => failed,
    }
}

/// Follows the agent's progress to the image.
async fn receive(
    mut images: ImageServiceClient<Channel>,
    queue: mpsc::Receiver<ImportImageRequest>,
    mut progress: Progress,
) -> Result<Image> {
    let mut answers = images.import_image(ReceiverStream::new(queue)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(import_image_response::Message::Progress(now)) => {
                let read = bytes_decimal(now.bytes_read);
                progress.text(format!("{read} read, {} layers done, {} entries", now.layers_done, now.entries));
            }
            Some(import_image_response::Message::Image(image)) => {
                progress.clear();
                return Ok(image);
            }
            None => {}
        }
    }
    Err(Error::new("the agent ended the import without an image"))
}

/// What a root file system is to say about its containers; nothing where no flag says anything.
fn config(flags: &ImageConfigFlags) -> Result<Option<ImageConfig>> {
    let words = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| spec::words(flag, text)).transpose().map(Option::unwrap_or_default)
    };
    let mut config = ImageConfig {
        entrypoint: words("--entrypoint", &flags.entrypoint)?,
        cmd: words("--cmd", &flags.cmd)?,
        env: spec::environment(&[], &flags.env)?,
        working_dir: flags.workdir.clone().unwrap_or_default(),
        user: flags.user.clone().unwrap_or_default(),
        stop_signal: flags.stop_signal.clone().unwrap_or_default(),
        labels: spec::labels(&[], &flags.labels)?,
        ..ImageConfig::default()
    };
    if config == ImageConfig::default() {
        return Ok(None);
    }
    // A configuration replaces the default one as a whole; what no flag speaks of stays as it would be without flags.
    if config.entrypoint.is_empty() && config.cmd.is_empty() {
        config.cmd.push("/bin/sh".to_owned());
    }
    if !config.env.iter().any(|entry| entry.starts_with("PATH=")) {
        config.env.insert(0, PATH.to_owned());
    }
    Ok(Some(config))
}

/// Where the archive comes from.
#[derive(Debug)]
enum Source {
    Stdin,
    File(PathBuf, File),
    Layout(PathBuf),
}

impl Source {
    fn open(path: PathBuf) -> Result<Self> {
        if path.as_os_str() == "-" {
            if io::stdin().is_terminal() {
                return Err(Error::new("an archive is not typed on a terminal; give a path, or a pipe"));
            }
            return Ok(Self::Stdin);
        }
        let open = || -> io::Result<_> {
            let file = File::open(&path)?;
            Ok((file.metadata()?.is_dir(), file))
        };
        match open().map_err(|error| Error::file(&path, &error))? {
            (true, _) => Ok(Self::Layout(path)),
            (false, file) => Ok(Self::File(path, file)),
        }
    }
}

/// Reads the archive on a thread of its own, for reading may block; how that ended.
fn send(source: Source, requests: mpsc::Sender<ImportImageRequest>) -> Result<oneshot::Receiver<Result<()>>> {
    let (end, ended) = oneshot::channel();
    let work = move || {
        let pieces = Pieces { requests };
        let outcome = match source {
            Source::Stdin => copy(Path::new("standard input"), io::stdin().lock(), pieces),
            Source::File(path, file) => copy(&path, file, pieces),
            Source::Layout(path) => layout::archive(&path, BufWriter::with_capacity(PIECE, pieces)),
        };
        // Nobody waits any more where the agent has answered already.
        let _ = end.send(outcome);
    };
    let spawned = thread::Builder::new().name("archive".to_owned()).spawn(work);
    spawned.map_err(|error| Error::new(format!("starting a thread: {error}")))?;
    Ok(ended)
}

fn copy(path: &Path, mut archive: impl Read, mut pieces: Pieces) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => pieces.write_all(&buffer[..count]).map_err(|error| Error::file(path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::file(path, &error)),
        }
    }
}

/// Bytes as messages.
#[derive(Debug)]
struct Pieces {
    requests: mpsc::Sender<ImportImageRequest>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let message = import_image_request::Message::Data(Bytes::copy_from_slice(piece));
        // Where the call is over, the agent's answer tells why.
        let _ = self.requests.blocking_send(ImportImageRequest { message: Some(message) });
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_add_to_the_default_configuration() {
        assert_eq!(config(&ImageConfigFlags::default()).unwrap(), None);
        let env = ImageConfigFlags { env: vec!["A=1".into()], ..Default::default() };
        let got = config(&env).unwrap().unwrap();
        assert_eq!(got.cmd, ["/bin/sh"]);
        assert_eq!(got.env, [PATH, "A=1"]);
        let cmd = ImageConfigFlags { cmd: Some("httpd -f".into()), env: vec!["PATH=/x".into()], ..Default::default() };
        let got = config(&cmd).unwrap().unwrap();
        assert_eq!((got.cmd, got.env), (vec!["httpd".into(), "-f".into()], vec!["PATH=/x".to_owned()]));
    }

    #[tokio::test]
    async fn archives_go_in_pieces() {
        let (requests, mut queue) = mpsc::channel(QUEUE);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, vec![7; PIECE + 1]).unwrap();
        let ended = send(Source::open(path).unwrap(), requests).unwrap();
        let mut sizes = Vec::new();
        while let Some(ImportImageRequest { message: Some(import_image_request::Message::Data(data)) }) =
            queue.recv().await
        {
            sizes.push(data.len());
        }
        assert_eq!(sizes, [PIECE, 1]);
        ended.await.unwrap().unwrap();
    }
}
