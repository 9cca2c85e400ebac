//! `cp` and `export`.

mod receive;
mod send;

use futures_util::stream;
use hull_proto::v1::export_container_response::Message as ExportMessage;
use hull_proto::v1::{ExportContainerRequest, PathKind, PathStat, StatPathRequest, TarDone};

use super::archive;
use crate::cli::{CopyFlags, ExportFlags};
use crate::client::Client;
use crate::error::{Error, Result, one_line};
use crate::output::{self, bytes_decimal};

/// Bytes of one message.
const PIECE: usize = 256 << 10;
/// Messages that wait for the connection or for the disk.
const QUEUE: usize = 8;
/// Links to nowhere that are followed for the target of a copy.
const LINKS_MAX: usize = 16;

/// A side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side<'a> {
    /// Standard input or output.
    Stream,
    Local(&'a str),
    Container(&'a str, &'a str),
}

impl<'a> Side<'a> {
    /// CONTAINER:PATH; what begins with "/" or "." is a path here.
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            _ if text.starts_with(['/', '.']) => Self::Local(text),
            Some((container, "")) => Self::Container(container, "/"),
            Some((container, path)) => Self::Container(container, path),
            None => Self::Local(text),
        }
    }
}

/// Copies files from or to a container.
pub(crate) async fn copy(connect: impl Future<Output = Result<Client>>, flags: CopyFlags) -> Result<u8> {
    if flags.source.is_empty() || flags.target.is_empty() {
        return Err(Error::new("source and target cannot be empty"));
    }
    let (source, target) = (Side::parse(&flags.source), Side::parse(&flags.target));
    let bytes = match (source, target) {
        (Side::Container(..), Side::Container(..)) => {
            Err(Error::new("nothing is copied from one container to another; copy here and then there"))
        }
        (Side::Container(container, path), Side::Stream) => {
            archive::refuse_terminal("a directory")?;
            return receive::to_stdout(&connect.await?, container, path, flags.follow_link).await;
        }
        (Side::Container(container, path), Side::Local(local)) => {
            receive::to_directory(&connect.await?, container, path, local, &flags).await
        }
        (Side::Stream, Side::Container(container, path)) => {
            send::from_stdin(&connect.await?, container, path, &flags).await
        }
        (Side::Local(local), Side::Container(container, path)) => {
            send::from_path(&connect.await?, local, container, path, &flags).await
        }
        _ => Err(Error::new("one of source and target must be CONTAINER:PATH")),
    }?;
    if !flags.quiet && output::is_terminal() {
        output::line(&format!("Successfully copied {} to {}", bytes_decimal(bytes), one_line(&flags.target)))?;
    }
    Ok(0)
}

/// Writes a container's file system to an archive.
pub(crate) async fn export(connect: impl Future<Output = Result<Client>>, flags: ExportFlags) -> Result<u8> {
    if flags.output.is_none() {
        archive::refuse_terminal("-o FILE")?;
    }
    let request = ExportContainerRequest { container: flags.container };
    let answers = connect.await?.containers().export_container(request).await?.into_inner();
    let pieces = stream::try_unfold(answers, |mut answers| async {
        match answers.message().await?.and_then(|answer| answer.message) {
            Some(ExportMessage::Data(data)) => Ok(Some((data, answers))),
            Some(ExportMessage::Done(done)) => {
                warn_of_shrunk(&done);
                Ok(None)
            }
            None => Err(cut_short()),
        }
    });
    archive::write(pieces, flags.output).await?;
    Ok(0)
}

/// What is at a path of a container; `None` if nothing is.
async fn stat(client: &Client, container: &str, path: &str, follow_link: bool) -> Result<Option<PathStat>> {
    let request = StatPathRequest { container: container.to_owned(), path: path.to_owned(), follow_link };
    match client.containers().stat_path(request).await {
        Ok(answer) => Ok(answer.into_inner().stat),
        Err(status) => match Error::from(status) {
            error if error.is_path_not_found() => Ok(None),
            error => Err(error),
        },
    }
}

fn is_directory(stat: &PathStat) -> bool {
    stat.kind() == PathKind::Directory
}

fn warn_of_shrunk(done: &TarDone) {
    if done.shrunk > 0 {
        let first = one_line(&done.first_shrunk);
        output::warn(&format!(
            "{} files became shorter while they were read and end in zeros, {first} first",
            done.shrunk
        ));
    }
}

fn cut_short() -> Error {
    Error::new("the agent ended the archive before it was whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        for (text, side) in [
            ("-", Side::Stream),
            ("web:/etc", Side::Container("web", "/etc")),
            ("web:etc/x:y", Side::Container("web", "etc/x:y")),
            ("web:", Side::Container("web", "/")),
            ("./web:/etc", Side::Local("./web:/etc")),
            ("/a:b", Side::Local("/a:b")),
            ("file", Side::Local("file")),
            ("..", Side::Local("..")),
        ] {
            assert_eq!(Side::parse(text), side);
        }
    }
}
