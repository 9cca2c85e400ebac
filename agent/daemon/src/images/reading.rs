//! Reading files of images again, from the disk and not from the page cache.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};

use super::limits::read_error;
use crate::error::{Error, Reason, Result};

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// Opens a file and drops what memory has of it, so that reading it finds what the disk has.
pub(super) fn open_cold(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // Only advice: where it is not taken, what is read is what a container would get.
    let _advice = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(file)
}

/// Reads a blob and says what is wrong with it, if anything is. `read` is told how many bytes each time and may stop it.
pub(super) fn blob_problem(
    path: &Path,
    digest: &str,
    read: &mut dyn FnMut(usize) -> io::Result<()>,
) -> Result<Option<String>> {
    let mut file = match open_cold(path) {
        Ok(file) => file,
        Err(error) => return Ok(Some(unreadable(&error))),
    };
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut buffer).and_then(|length| read(length).map(|()| length)) {
            Ok(0) => break,
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return read_problem("reading a blob", error).map(Some),
        }
    }
    let found = format!("sha256:{}", hex::encode(hash.finalize()));
    Ok((found != digest).then(|| format!("its digest is {found}")))
}

/// Why a file cannot be opened, as a problem of that file.
pub(super) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it is missing".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// The same of a read that failed, unless that was not the file's fault.
pub(super) fn read_problem(what: &str, error: io::Error) -> Result<String> {
    match error.raw_os_error() {
        Some(_) => Ok(unreadable(&error)),
        None => Err(read_error(what, error)),
    }
}

/// What stops a reader that nobody waits for any more.
pub(super) fn stopped() -> io::Error {
    io::Error::other(Error::new(Reason::DeadlineExceeded, "the verification was cancelled"))
}
