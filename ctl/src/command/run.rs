//! `run` and `create`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_proto::v1::{CreateContainerRequest, GetImageRequest, RemoveContainerRequest};

use super::attach::{Foreground, in_foreground};
use super::pull;
use crate::cli::{Alone, ImageFlags, PullPolicy, RunFlags, StreamName};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::terminal::{DetachKeys, Shown, Signals, stdin_is_terminal};
use crate::{output, spec};

/// How long a container that failed to start is waited for to be gone.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Creates a container; prints its id.
pub(crate) async fn create(connect: impl Future<Output = Result<Client>>, flags: Alone) -> Result<u8> {
    let Alone { image, create, .. } = flags;
    let request = CreateContainerRequest { config: Some(spec::container(&create)?), ..Default::default() };
    print_created(connect, request, &image, create.cidfile).await
}

/// Creates a container and starts it, in the background or in the foreground.
pub(crate) async fn run(connect: impl Future<Output = Result<Client>>, flags: RunFlags) -> Result<u8> {
    let RunFlags { detach, attach, detach_keys, sig_proxy, image, create, .. } = flags;
    let detach_keys = DetachKeys::parse(&detach_keys.detach_keys)?;
    let config = spec::container(&create)?;
    if detach {
        let request = CreateContainerRequest { config: Some(config), start: true, ..Default::default() };
        return print_created(connect, request, &image, create.cidfile).await;
    }
    let chosen = |stream| attach.is_empty() || attach.contains(&stream);
    if attach.contains(&StreamName::Stdin) && !create.interactive {
        return Err(Error::new("--attach stdin: the container's standard input is closed; give --interactive, too"));
    }
    let stdin = create.interactive && chosen(StreamName::Stdin);
    if stdin && create.tty && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a terminal: leave out -t, or -i"));
    }
    let id_file = create.cidfile.map(IdFile::create).transpose()?;
    let client = connect.await?;
    let mut signals = if sig_proxy { Signals::catch()? } else { Signals::leave() };
    let request = CreateContainerRequest { config: Some(config), ..Default::default() };
    let id = Box::pin(create_with_image(&client, request, &image, &mut signals)).await?;
    if let Some(file) = id_file {
        file.keep(&id)?;
    }
    let foreground = Foreground {
        container: id.clone(),
        start: true,
        stdin,
        shown: Shown { stdout: chosen(StreamName::Stdout), stderr: chosen(StreamName::Stderr) },
        terminal: create.tty,
        detach_keys,
        sig_proxy,
    };
    match in_foreground(&client, foreground, signals).await {
        Ok(code) => Ok(code),
        Err(failure) => {
            if create.auto_remove && !failure.started {
                // The agent removes it, too; the first of both wins, and the error that is told is that of the start.
                let mut containers = client.containers();
                let remove = containers.remove_container(RemoveContainerRequest { container: id, force: true });
                let _ = tokio::time::timeout(CLEAN_UP, remove).await;
            }
            Err(failure.error)
        }
    }
}

async fn print_created(
    connect: impl Future<Output = Result<Client>>,
    request: CreateContainerRequest,
    image: &ImageFlags,
    cidfile: Option<PathBuf>,
) -> Result<u8> {
    let id_file = cidfile.map(IdFile::create).transpose()?;
    let id = Box::pin(create_with_image(&connect.await?, request, image, &mut Signals::leave())).await?;
    if let Some(file) = id_file {
        file.keep(&id)?;
    }
    output::line(&id)?;
    Ok(0)
}

/// Creates a container, with its image pulled as the flags say; the id.
async fn create_with_image(
    client: &Client,
    request: CreateContainerRequest,
    flags: &ImageFlags,
    signals: &mut Signals,
) -> Result<String> {
    let image = request.config.as_ref().map(|config| config.image.clone()).unwrap_or_default();
    if flags.pull == PullPolicy::Always || has_another_platform(client, &image, flags, signals).await? {
        fetch(client, &image, flags, signals).await?;
    }
    match create_container(client, request.clone(), signals).await {
        Err(error) if error.is_image_not_found() && flags.pull == PullPolicy::Missing => {
            let doing = format!("{image} is not on this node, and it cannot be pulled");
            fetch(client, &image, flags, signals).await.map_err(|error| error.context(&doing))?;
            create_container(client, request, signals).await
        }
        other => other,
    }
}

/// Whether the image of this name is for another platform than the one that is asked for. One that is not there is not.
async fn has_another_platform(client: &Client, image: &str, flags: &ImageFlags, signals: &mut Signals) -> Result<bool> {
    let Some(platform) = &flags.platform else { return Ok(false) };
    let mut images = client.images();
    let request = GetImageRequest { image: image.to_owned() };
    let known = match signals.hold(images.get_image(request)).await?.map_err(Error::from) {
        Ok(answer) => answer.into_inner().image.unwrap_or_default(),
        Err(error) if error.is_image_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    let own = format!("{}/{}", known.os, known.architecture);
    // A variant is not in the record; the first two parts tell one processor from another.
    let same = platform.split('/').take(2).eq(own.split('/'));
    if !same && flags.pull == PullPolicy::Never {
        return Err(Error::new(format!(
            "{image} on this node is for {own}, and --pull never forbids to fetch {platform}"
        )));
    }
    Ok(!same)
}

async fn create_container(client: &Client, request: CreateContainerRequest, signals: &mut Signals) -> Result<String> {
    let mut containers = client.containers();
    Ok(Box::pin(signals.hold(containers.create_container(request))).await??.into_inner().id)
}

/// Pulls an image. A signal ends the command: there is no container yet that could have it.
async fn fetch(client: &Client, image: &str, flags: &ImageFlags, signals: &mut Signals) -> Result<()> {
    let quiet = flags.quiet;
    let request = pull::request(image.to_owned(), flags.platform.clone().unwrap_or_default())?;
    let result = tokio::select! {
        result = pull::fetch(client, request, quiet) => result?,
        number = signals.next() => return Err(Error::Interrupted(number)),
    };
    if !quiet {
        // Standard output is the container's; nobody can be told that standard error is closed.
        let _ = writeln!(io::stderr(), "{}", pull::summary(image, &result));
    }
    Ok(())
}

/// The file that gets the id; it goes again if there is none.
#[derive(Debug)]
struct IdFile {
    path: Option<PathBuf>,
    file: File,
}

impl IdFile {
    fn create(path: PathBuf) -> Result<Self> {
        let file = File::create_new(&path).map_err(|error| Error::file(&path, &error))?;
        Ok(Self { path: Some(path), file })
    }

    fn keep(mut self, id: &str) -> Result<()> {
        let path = self.path.take().unwrap_or_default();
        self.file.write_all(id.as_bytes()).map_err(|error| Error::file(Path::new(&path), &error))
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It was made a moment ago; if it is gone already, so much the better.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_file_stays_with_an_id_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        drop(IdFile::create(path.clone()).unwrap());
        assert!(!path.exists());
        IdFile::create(path.clone()).unwrap().keep("abc").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
        assert!(IdFile::create(path.clone()).unwrap_err().to_string().contains("id"));
        assert!(path.exists());
    }
}
