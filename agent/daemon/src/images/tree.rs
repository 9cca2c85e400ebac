//! The tree of one layer, in memory: what its entries add up to.
//!
//! No path of a layer ever touches the host's file system: names are keys of maps here and bytes in an EROFS file later.
//!
//! - Leading "/" and "./" go. A ".." in an entry's own name is refused; readers differ on it and no layer needs it.
//! - A symbolic link above the last component is followed within the layer, as a chroot would (".." stops at the root).
//! - Missing directories above an entry are made: mode 0755, root's, with the time of that entry.
//! - A later entry replaces an earlier one of the same name; a directory that comes again keeps its contents.
//! - Whiteouts hide what lower layers have and nothing of this one: ".wh.NAME" becomes a character device 0:0, or makes
//!   NAME opaque if this layer has such a directory; ".wh..wh..opq" makes its directory opaque.

use std::collections::{BTreeMap, BTreeSet};

use super::erofs::Data;
use super::limits::{DEPTH_MAX, METADATA_MAX, NAME_MAX, PATH_MAX, SYMLINK_MAX, XATTR_VALUE_MAX, XATTRS_MAX};
use super::tar::{Time, Xattr, invalid, shown};
use crate::error::{Error, Reason, Result};

pub(super) const WHITEOUT: &[u8] = b".wh.";
pub(super) const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";
/// Symbolic links followed for one name (MAXSYMLINKS of Linux).
const HOPS_MAX: usize = 40;

/// Index of a node; the root is 0.
pub(super) type NodeId = usize;

/// An inode. One that was replaced stays in the list without a name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Attributes,
    pub(super) content: Content,
}

/// What all kinds of inode have.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Permission, setuid, setgid and sticky bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Sorted by name, none twice.
    pub(super) xattrs: Vec<Xattr>,
}

/// What an inode is and holds.
#[derive(Debug)]
pub(super) enum Content {
    Directory(Directory),
    File(Data),
    /// The target, and where it was written if it is too long to stand beside its inode.
    Symlink(Vec<u8>, Option<Data>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// Names of a directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Box<[u8]>, NodeId>,
    whiteouts: BTreeSet<Box<[u8]>>,
    opaque: bool,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    metadata: usize,
}

/// A place in the tree: a directory and a name in it. `None`: the root itself.
pub(super) type Place = Option<(NodeId, Box<[u8]>)>;

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![new_directory(Time::default())], metadata: 0 }
    }

    /// Finds where `path` is, making the directories above it.
    pub(super) fn place(&mut self, path: &[u8], mtime: Time) -> Result<Place> {
        let components = components(path)?;
        let Some((name, above)) = components.split_last() else { return Ok(None) };
        if name.len() > NAME_MAX {
            return Err(invalid(format_args!("entry {}: a name is longer than {NAME_MAX} bytes", shown(path))));
        }
        let parent = self.walk(above, path, Some(mtime))?;
        Ok(Some((parent, (*name).into())))
    }

    /// Walks to a directory as a chroot would; makes what is missing if `make` says with which time.
    fn walk(&mut self, above: &[&[u8]], path: &[u8], make: Option<Time>) -> Result<NodeId> {
        let refused = |problem: &str| invalid(format_args!("entry {}: {problem}", shown(path)));
        let mut pending: Vec<Vec<u8>> = above.iter().rev().map(|component| component.to_vec()).collect();
        let mut stack = vec![0];
        let mut hops = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                stack.truncate(stack.len().max(2) - 1);
                continue;
            }
            let top = stack.last().copied().unwrap_or_default();
            let Content::Directory(directory) = &self.nodes[top].content else {
                return Err(refused("something above it is no directory"));
            };
            let next = match directory.children.get(component.as_slice()) {
                Some(next) => *next,
                None if component.len() > NAME_MAX => return Err(refused("a name is longer than 255 bytes")),
                None => {
                    let mtime = make.ok_or_else(|| refused("a directory above it is missing"))?;
                    self.count(component.len())?;
                    self.insert(top, component.into(), new_directory(mtime))?
                }
            };
            match &self.nodes[next].content {
                Content::Directory(_) => stack.push(next),
                Content::Symlink(target, _) => {
                    hops += 1;
                    if hops > HOPS_MAX {
                        return Err(refused("too many symbolic links above it"));
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    let parts = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
                    pending.extend(parts.map(<[u8]>::to_vec).rev());
                }
                _ => return Err(refused("something above it is no directory")),
            }
            if stack.len() > DEPTH_MAX {
                return Err(refused("too many directories above it"));
            }
        }
        Ok(stack.last().copied().unwrap_or_default())
    }

    /// Puts a node at a place, replacing what was there; a directory keeps its contents.
    pub(super) fn put(&mut self, place: Place, mut node: Node) -> Result<()> {
        self.count_node(&node)?;
        let Some((parent, name)) = place else {
            if !matches!(node.content, Content::Directory(_)) {
                return Err(invalid("the root of the layer is no directory"));
            }
            return self.set_directory(0, node.attributes);
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(parent, &name, &node.content);
        }
        if matches!(node.content, Content::Directory(_))
            && let Some(old) = self.child(parent, &name)
            && matches!(self.nodes[old].content, Content::Directory(_))
        {
            return self.set_directory(old, node.attributes);
        }
        if let Content::Directory(directory) = &mut node.content {
            directory.opaque = take_opaque(&mut node.attributes)?;
        }
        check_xattrs(&mut node.attributes)?;
        self.insert(parent, name, node).map(drop)
    }

    /// Makes `place` another name of what `target` names.
    pub(super) fn hard_link(&mut self, place: Place, target: &[u8], path: &[u8]) -> Result<()> {
        let missing =
            || invalid(format_args!("entry {}: hard link to {}, which is not there", shown(path), shown(target)));
        let Some((parent, name)) = place else { return Err(missing()) };
        let components = components(target)?;
        let Some((last, above)) = components.split_last() else { return Err(missing()) };
        let above = self.walk(above, target, None).map_err(|_| missing())?;
        let found = self.child(above, last).ok_or_else(missing)?;
        if matches!(self.nodes[found].content, Content::Directory(_)) || name.starts_with(WHITEOUT) {
            return Err(invalid(format_args!("entry {}: hard link to or as what cannot have one", shown(path))));
        }
        self.count(name.len())?;
        if let Content::Directory(directory) = &mut self.nodes[parent].content {
            directory.children.insert(name, found);
        }
        Ok(())
    }

    /// Turns the whiteouts into what overlayfs understands. Call once, after the last entry.
    pub(super) fn finish(&mut self) {
        for id in 0..self.nodes.len() {
            let Content::Directory(directory) = &mut self.nodes[id].content else { continue };
            let opaque = directory.opaque;
            let whiteouts = std::mem::take(&mut directory.whiteouts);
            if opaque {
                let xattrs = &mut self.nodes[id].attributes.xattrs;
                xattrs.push(Xattr { name: OPAQUE_XATTR.into(), value: b"y"[..].into() });
                xattrs.sort_by(|a, b| a.name.cmp(&b.name));
                continue;
            }
            for name in whiteouts {
                match self.child(id, &name) {
                    Some(child) => {
                        // Named by a whiteout in the same layer: hides what is below it, not itself. Children come
                        // after their parents in the list, except where a hard link does, which is no directory.
                        if let Content::Directory(child) = &mut self.nodes[child].content {
                            child.opaque = true;
                        }
                    }
                    None => {
                        let attributes = Attributes { mtime: self.nodes[id].attributes.mtime, ..Attributes::default() };
                        let node = Node { attributes, content: Content::CharDevice(0, 0) };
                        self.nodes.push(node);
                        let new = self.nodes.len() - 1;
                        if let Content::Directory(directory) = &mut self.nodes[id].content {
                            directory.children.insert(name, new);
                        }
                    }
                }
            }
        }
    }

    fn whiteout(&mut self, parent: NodeId, name: &[u8], content: &Content) -> Result<()> {
        let refused = |problem: &str| Err(invalid(format_args!("whiteout {}: {problem}", shown(name))));
        let empty = match content {
            Content::File(data) => data.size == 0,
            _ => false,
        };
        if !empty {
            return refused("it is no empty file");
        }
        let Content::Directory(directory) = &mut self.nodes[parent].content else {
            return refused("its parent is no directory");
        };
        if name == WHITEOUT_OPAQUE {
            directory.opaque = true;
            return Ok(());
        }
        if name.starts_with(WHITEOUT_META) {
            return refused("aufs metadata is not supported");
        }
        match &name[WHITEOUT.len()..] {
            b"" | b"." | b".." => refused("it hides nothing that has a name"),
            hidden => {
                directory.whiteouts.insert(hidden.into());
                Ok(())
            }
        }
    }

    fn set_directory(&mut self, id: NodeId, mut attributes: Attributes) -> Result<()> {
        let opaque = take_opaque(&mut attributes)?;
        check_xattrs(&mut attributes)?;
        let node = &mut self.nodes[id];
        node.attributes = attributes;
        if let Content::Directory(directory) = &mut node.content {
            directory.opaque |= opaque;
        }
        Ok(())
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[parent].content {
            Content::Directory(directory) => directory.children.get(name).copied(),
            _ => None,
        }
    }

    fn insert(&mut self, parent: NodeId, name: Box<[u8]>, node: Node) -> Result<NodeId> {
        let id = self.nodes.len();
        let Content::Directory(directory) = &mut self.nodes[parent].content else {
            return Err(invalid("an entry below something that is no directory"));
        };
        directory.children.insert(name, id);
        self.nodes.push(node);
        Ok(id)
    }

    fn count_node(&mut self, node: &Node) -> Result<()> {
        let xattrs: usize = node.attributes.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        let target = if let Content::Symlink(target, _) = &node.content { target.len() } else { 0 };
        if target > SYMLINK_MAX {
            return Err(limit(format!("the target of a symbolic link is longer than {SYMLINK_MAX} bytes")));
        }
        self.count(xattrs + target + NAME_MAX / 8)
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.metadata += bytes;
        if self.metadata > METADATA_MAX {
            return Err(limit(format!("names and attributes of a layer take more than {METADATA_MAX} bytes")));
        }
        Ok(())
    }
}

/// Components of an entry's name, without empty ones and ".".
fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.len() > PATH_MAX {
        return Err(limit(format!("a path is longer than {PATH_MAX} bytes")));
    }
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<_> = parts.collect();
    if parts.contains(&&b".."[..]) {
        return Err(invalid(format_args!("entry {}: \"..\" in a name", shown(path))));
    }
    Ok(parts)
}

/// Sorts the attributes and checks that each can be kept.
fn check_xattrs(attributes: &mut Attributes) -> Result<()> {
    attributes.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    let mut total = 0;
    for xattr in &attributes.xattrs {
        let refused = |problem: &str| invalid(format_args!("extended attribute {}: {problem}", shown(&xattr.name)));
        let kept = [&b"user."[..], b"trusted.", b"security."].iter().any(|prefix| {
            xattr.name.strip_prefix(*prefix).is_some_and(|rest| !rest.is_empty() && rest.len() <= NAME_MAX)
        });
        let acl = matches!(&*xattr.name, b"system.posix_acl_access" | b"system.posix_acl_default");
        if !kept && !acl || xattr.name.contains(&0) {
            return Err(refused("not of user, trusted, security or an access control list"));
        }
        if xattr.name.starts_with(b"trusted.overlay.") {
            return Err(refused("it would steer overlayfs"));
        }
        total += xattr.name.len() + xattr.value.len();
        if xattr.value.len() > XATTR_VALUE_MAX || total > XATTRS_MAX {
            return Err(limit(format!("extended attributes of a file are larger than {XATTRS_MAX} bytes")));
        }
    }
    if attributes.xattrs.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(invalid("an extended attribute comes twice on one entry"));
    }
    Ok(())
}

/// Takes overlayfs's own mark of an opaque directory out of the attributes.
fn take_opaque(attributes: &mut Attributes) -> Result<bool> {
    let Some(at) = attributes.xattrs.iter().position(|xattr| *xattr.name == *OPAQUE_XATTR) else { return Ok(false) };
    match &*attributes.xattrs.remove(at).value {
        b"y" => Ok(true),
        _ => Err(invalid("trusted.overlay.opaque is not \"y\"")),
    }
}

fn new_directory(mtime: Time) -> Node {
    let attributes = Attributes { mode: 0o755, mtime, ..Attributes::default() };
    Node { attributes, content: Content::Directory(Directory::default()) }
}

fn limit(line: String) -> Error {
    Error::new(Reason::LimitExceeded, line)
}
