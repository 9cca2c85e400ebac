//! Goes through a writable layer, a directory before what is in it, in the order of names.

use std::collections::{BTreeSet, VecDeque};

use rustix::fs::{FileType, Stat};

use super::WritableLayer;
use super::lower::{Below, Lower, Merged};
use super::owners::Owners;
use super::root::{Found, Root};
use crate::error::{Error, Reason, Result};
use crate::images::limits::{DEPTH_MAX, ENTRIES_MAX};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What changed. A directory that is there for what is in it is passed over if nothing in it is told.
    Diff,
    /// What is to be kept.
    Layer,
}

/// Something that differs from the lower layers.
#[derive(Debug)]
pub(super) struct Entry {
    /// Without a leading "/"; "" for the root.
    pub(super) path: Vec<u8>,
    pub(super) what: What,
    /// Whether lower layers have something by that path.
    pub(super) existed: bool,
}

#[derive(Debug)]
pub(super) enum What {
    /// It is in the writable layer.
    Here(Found),
    /// A directory that is in the writable layer and hides what lower layers have in it.
    Opaque(Found),
    /// A whiteout hides it.
    Whiteout,
    /// A directory above it hides it.
    Hidden,
}

/// A directory being gone through.
#[derive(Debug)]
struct Frame {
    path: Vec<u8>,
    names: std::vec::IntoIter<Box<[u8]>>,
    merged: Merged,
    /// Whether lower layers are hidden here.
    opaque: bool,
    /// Whether its own entry waits for one in it.
    waits: bool,
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    upper: Root,
    lower: Lower,
    owners: Owners,
    purpose: Purpose,
    /// Targets of mounts, and the directories above them, as paths of entries.
    targets: BTreeSet<Vec<u8>>,
    above_targets: BTreeSet<Vec<u8>>,
    frames: Vec<Frame>,
    /// Directories that wait: the outermost first.
    waiting: Vec<Entry>,
    ready: VecDeque<Entry>,
    count: u64,
}

impl Walk {
    /// Begins at the root; `None` if there is no writable layer yet.
    pub(super) fn begin(layer: &WritableLayer, purpose: Purpose) -> Result<Option<Self>> {
        let Some(upper) = layer.upper.as_ref().map(Root::new).transpose()? else { return Ok(None) };
        let targets: BTreeSet<_> = layer.targets.iter().map(|path| path.as_bytes()[1..].to_vec()).collect();
        let above = targets.iter().flat_map(|path| parents(path)).map(<[u8]>::to_vec).collect();
        let mut walk = Self {
            upper,
            lower: Lower::open(&layer.lower)?,
            owners: layer.owners,
            purpose,
            targets,
            above_targets: above,
            frames: Vec::new(),
            waiting: Vec::new(),
            ready: VecDeque::new(),
            count: 0,
        };
        let below = walk.lower.root()?;
        if let Some(found) = walk.upper.find(b"")? {
            walk.enter(Vec::new(), found, below, false)?;
        }
        Ok(Some(walk))
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            match frame.names.next() {
                Some(name) => {
                    let path = join(&frame.path, &name);
                    self.look(path)?;
                }
                None => {
                    if self.frames.pop().is_some_and(|frame| frame.waits) {
                        self.waiting.pop();
                    }
                }
            }
        }
    }

    fn look(&mut self, path: Vec<u8>) -> Result<()> {
        self.count += 1;
        if self.count > ENTRIES_MAX {
            return Err(Error::new(Reason::LimitExceeded, format!("more than {ENTRIES_MAX} paths are changed")));
        }
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let opaque = frame.opaque;
        let below = self.lower.find(&frame.merged, &path)?;
        let existed = below.found.is_some();
        let Some(found) = self.upper.find(&path)? else {
            if opaque && existed {
                self.tell(Entry { path, what: What::Hidden, existed });
            }
            return Ok(());
        };
        if found.is_whiteout()? {
            if existed {
                self.tell(Entry { path, what: if opaque { What::Hidden } else { What::Whiteout }, existed });
            }
            return Ok(());
        }
        found.check_in_place()?;
        if found.kind() == FileType::Directory {
            return self.enter(path, found, below, opaque);
        }
        let target = !existed && self.targets.contains(&path) && is_empty_file(&found.stat);
        if !target {
            self.tell(Entry { path, what: What::Here(found), existed });
        }
        Ok(())
    }

    /// Goes into a directory of the writable layer. `hidden`: one above it is opaque.
    fn enter(&mut self, path: Vec<u8>, found: Found, below: Below, hidden: bool) -> Result<()> {
        if self.frames.len() > DEPTH_MAX {
            let line = format!("there are more than {DEPTH_MAX} directories within one another");
            return Err(Error::new(Reason::LimitExceeded, line));
        }
        let own_mark = found.is_opaque()?;
        let opaque = hidden || own_mark;
        let mut names = self.upper.names(&path)?;
        let existed = below.found.is_some();
        if !existed && names.is_empty() && self.targets.contains(&path) {
            return Ok(());
        }
        if opaque && self.purpose == Purpose::Diff {
            let mut all = self.lower.names(&below.merged, &path)?;
            all.extend(names);
            names = all.into_iter().collect();
        }
        let waits = self.waits(&path, &found, &below, own_mark)?;
        let what = if own_mark { What::Opaque(found) } else { What::Here(found) };
        let entry = Entry { path: path.clone(), what, existed };
        if waits {
            self.waiting.push(entry);
        } else {
            self.tell(entry);
        }
        self.frames.push(Frame { path, names: names.into_iter(), merged: below.merged, opaque, waits });
        Ok(())
    }

    /// Whether a directory may be in the writable layer only for something in it.
    fn waits(&self, path: &[u8], found: &Found, below: &Below, opaque: bool) -> Result<bool> {
        let for_target = self.above_targets.contains(path);
        match below.found.as_ref().filter(|below| below.kind() == FileType::Directory) {
            _ if opaque => Ok(false),
            Some(below) if self.purpose == Purpose::Diff || for_target => self.same_attributes(found, below),
            Some(_) => Ok(false),
            None => Ok(for_target && below.found.is_none()),
        }
    }

    /// Whether a directory's own attributes are those of the layer below. Its time is not asked: it changes with what is in it.
    fn same_attributes(&self, upper: &Found, below: &Found) -> Result<bool> {
        let (own, other) = (&upper.stat, &below.stat);
        Ok(own.st_mode == other.st_mode
            && self.owners.inside(own.st_uid) == other.st_uid
            && self.owners.inside(own.st_gid) == other.st_gid
            && upper.xattrs(self.owners)? == below.xattrs(Owners::Host)?)
    }

    /// Yields an entry, after the directories that waited for one in them.
    fn tell(&mut self, entry: Entry) {
        for frame in &mut self.frames {
            frame.waits = false;
        }
        self.ready.extend(self.waiting.drain(..));
        self.ready.push_back(entry);
    }
}

fn is_empty_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
}

/// A path with a name below it; the root is the empty path.
pub(in crate::images) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// The directories above a path, the root included.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::once(&path[..0])
        .chain(path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]))
}
