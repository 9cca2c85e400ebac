//! The container's root by descriptor. Every path in it is resolved inside it, with openat2(2), never by string from the host's side.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

/// How often a lookup is tried again that a rename elsewhere disturbed (EAGAIN, see openat2(2)).
const ATTEMPTS: u32 = 64;
/// Most symbolic links on the way to a path that is being made, as in the kernel.
const MAX_LINKS: u32 = 40;

/// The root directory.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// What a mount target has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

impl Kind {
    /// Which one an open file is.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> nix::Result<Self> {
        Ok(if file_type(&fstat(fd)?) == SFlag::S_IFDIR { Self::Directory } else { Self::File })
    }
}

/// Type bits of a file's mode.
pub(crate) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

impl Root {
    /// Takes a descriptor of the root directory.
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what is there, following links inside the root.
    pub(crate) fn open(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        self.resolve(OsStr::new(path), flags, ResolveFlag::empty())
    }

    /// A path descriptor of what is there, following links inside the root.
    pub(crate) fn find(&self, path: &str) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// A path descriptor of what is there, which may be a symbolic link itself.
    pub(crate) fn find_link(&self, path: &str) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)
    }

    /// A path descriptor of what is there; where nothing is, an empty file or directory (and its parents) is made.
    pub(crate) fn find_or_make(&self, path: &str, kind: Kind) -> nix::Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::ENOENT) => self.make(path, kind),
            found => found,
        }
    }

    /// Makes an empty file or directory where nothing is, with its parents.
    pub(crate) fn make(&self, path: &str, kind: Kind) -> nix::Result<OwnedFd> {
        if let Ok((parent, name)) = split(path) {
            let made = self
                .open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)
                .and_then(|parent| make_one(parent.as_fd(), name.as_bytes(), kind));
            // ENOENT: a parent is missing. EEXIST: a link that leads nowhere is there.
            if !matches!(made, Err(Errno::ENOENT | Errno::EEXIST)) {
                return made;
            }
        }
        self.make_all(path, kind)
    }

    fn resolve(&self, path: &OsStr, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | resolve);
        for _ in 0..ATTEMPTS {
            match openat2(&self.0, path, how) {
                Err(Errno::EAGAIN) => {}
                opened => return opened,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Makes what is missing of `path`, one component after the other, each by the descriptor of its parent. A link that leads
    /// nowhere is followed inside the root, so that what it says comes to be.
    fn make_all(&self, path: &str, kind: Kind) -> nix::Result<OwnedFd> {
        // Components still to go, the next one last.
        let mut todo: Vec<Vec<u8>> = components(path.as_bytes()).rev().collect();
        // The way so far: real directories only.
        let mut way: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut current = self.at(&way)?;
        while let Some(name) = todo.pop() {
            if name == b".." {
                way.pop();
                current = self.at(&way)?;
                continue;
            }
            way.push(name);
            current = match self.at(&way) {
                Ok(found) if file_type(&fstat(&found)?) == SFlag::S_IFLNK => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    let target = readlinkat(&found, "")?.into_vec();
                    way.pop();
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    todo.extend(components(&target).rev());
                    self.at(&way)?
                }
                Err(Errno::ENOENT) => {
                    let kind = if todo.is_empty() { kind } else { Kind::Directory };
                    make_one(current.as_fd(), way.last().map_or(&[], Vec::as_slice), kind)?
                }
                found => found?,
            };
        }
        Ok(current)
    }

    /// A path descriptor of a way in which no component but the last may be a link.
    fn at(&self, way: &[Vec<u8>]) -> nix::Result<OwnedFd> {
        let path = if way.is_empty() { b".".to_vec() } else { way.join(&b'/') };
        self.resolve(OsStr::from_bytes(&path), OFlag::O_PATH | OFlag::O_NOFOLLOW, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The parent of an absolute path, and its last component, which has to be a name.
pub(crate) fn split(path: &str) -> nix::Result<(&str, &str)> {
    let (parent, name) = path.trim_end_matches('/').rsplit_once('/').ok_or(Errno::EINVAL)?;
    match name {
        "" | "." | ".." => Err(Errno::EINVAL),
        name => Ok((if parent.is_empty() { "/" } else { parent }, name)),
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

fn make_one(parent: BorrowedFd<'_>, name: &[u8], kind: Kind) -> nix::Result<OwnedFd> {
    let nofollow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match kind {
        Kind::Directory => {
            mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
            openat(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY | nofollow, Mode::empty())
        }
        Kind::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | nofollow;
            openat(parent, name, flags, Mode::from_bits_truncate(0o644))?;
            openat(parent, name, OFlag::O_PATH | nofollow, Mode::empty())
        }
    }
}

/// Whether an open file is the null device, character device 1:3.
pub(crate) fn is_null_device(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFCHR && stat.st_rdev == libc::makedev(1, 3))
}
