//! `run` and `create`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_proto::v1::{CreateContainerRequest, RemoveContainerRequest};

use super::attach::{Foreground, in_foreground};
use crate::cli::{CreateFlags, RunFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::terminal::{DetachKeys, Signals, stdin_is_terminal};
use crate::{output, spec};

/// How long a container that failed to start is waited for to be gone.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Creates a container; prints its id.
pub(crate) async fn create(connect: impl Future<Output = Result<Client>>, flags: CreateFlags) -> Result<u8> {
    let request = CreateContainerRequest { config: Some(spec::container(&flags)?), ..Default::default() };
    print_created(connect, request, flags.cidfile).await
}

/// Creates a container and starts it, in the background or in the foreground.
pub(crate) async fn run(connect: impl Future<Output = Result<Client>>, flags: RunFlags) -> Result<u8> {
    let RunFlags { detach, detach_keys, sig_proxy, create, .. } = flags;
    let detach_keys = DetachKeys::parse(&detach_keys.detach_keys)?;
    let config = spec::container(&create)?;
    if detach {
        let request = CreateContainerRequest { config: Some(config), start: true, ..Default::default() };
        return print_created(connect, request, create.cidfile).await;
    }
    if create.interactive && create.tty && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a terminal: leave out -t, or -i"));
    }
    let id_file = create.cidfile.map(IdFile::create).transpose()?;
    let client = connect.await?;
    let mut signals = if sig_proxy { Signals::catch()? } else { Signals::leave() };
    let request = CreateContainerRequest { config: Some(config), ..Default::default() };
    let mut containers = client.containers();
    let id = Box::pin(signals.hold(containers.create_container(request))).await??.into_inner().id;
    if let Some(file) = id_file {
        file.keep(&id)?;
    }
    let foreground = Foreground {
        container: id.clone(),
        start: true,
        stdin: create.interactive,
        terminal: create.tty,
        detach_keys,
        sig_proxy,
    };
    match in_foreground(&client, foreground, signals).await {
        Ok(code) => Ok(code),
        Err(failure) => {
            if create.auto_remove && !failure.started {
                // The agent removes it, too; the first of both wins, and the error that is told is that of the start.
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
    cidfile: Option<PathBuf>,
) -> Result<u8> {
    let id_file = cidfile.map(IdFile::create).transpose()?;
    let id = connect.await?.containers().create_container(request).await?.into_inner().id;
    if let Some(file) = id_file {
        file.keep(&id)?;
    }
    output::line(&id)?;
    Ok(0)
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
