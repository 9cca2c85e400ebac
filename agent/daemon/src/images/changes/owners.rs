//! Ids of the host in a writable layer, and those of the container that they stand for.

use crate::error::Result;
use crate::images::tar::{Xattr, invalid};

/// Who an id without a mapping seems to be inside a user namespace (/proc/sys/kernel/overflowuid).
const OVERFLOW: u32 = 65534;
/// linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id.
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
/// Tags whose entries name a user or a group.
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;
/// linux/capability.h: revision 3 is revision 2 and the root of the user namespace that it is for.
const CAP_REVISION_2: u32 = 0x0200_0000;
const CAP_REVISION_3: u32 = 0x0300_0000;
const CAP_REVISION_MASK: u32 = 0xff00_0000;
const CAP_SIZE_2: usize = 20;
const CAP_SIZE_3: usize = 24;

/// How the ids of a container's files are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// As they are: it shares the host's ids.
    Host,
    /// It has a user namespace, whose ids are the host's `base` to `base + size`.
    Mapped { base: u32, size: u32 },
}

impl Owners {
    /// The container's id of an id of the host.
    pub(super) fn inside(self, id: u32) -> u32 {
        match self {
            Self::Host => id,
            Self::Mapped { base, size } => id.checked_sub(base).filter(|id| *id < size).unwrap_or(OVERFLOW),
        }
    }

    /// The host's id of an id of the container.
    pub(in crate::images) fn outside(self, id: u32) -> Result<u32> {
        match self {
            Self::Host => Ok(id),
            Self::Mapped { base, size } => {
                let outside = base.checked_add(id).filter(|_| id < size);
                outside.ok_or_else(|| invalid(format_args!("the id {id} is not among the container's {size}")))
            }
        }
    }

    /// An extended attribute as the host keeps it, from one as the container sees it.
    pub(in crate::images) fn xattr_outside(self, xattr: Xattr) -> Result<Xattr> {
        let Self::Mapped { base, .. } = self else { return Ok(xattr) };
        let value = match &*xattr.name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => map_acl(&xattr.value, |id| self.outside(id))?,
            b"security.capability" => self.capability_outside(&xattr.value, base)?,
            _ => return Ok(xattr),
        };
        Ok(Xattr { value: value.into(), ..xattr })
    }

    /// What has capabilities in the container has none outside of its user namespace.
    fn capability_outside(self, value: &[u8], base: u32) -> Result<Vec<u8>> {
        let damaged = || invalid("the capabilities of a file are damaged");
        let magic = word(value, 0).ok_or_else(damaged)?;
        let (root, length) = match magic & CAP_REVISION_MASK {
            CAP_REVISION_2 => (base, CAP_SIZE_2),
            CAP_REVISION_3 => (self.outside(word(value, CAP_SIZE_2).ok_or_else(damaged)?)?, CAP_SIZE_3),
            _ => return Err(damaged()),
        };
        if value.len() != length {
            return Err(damaged());
        }
        let magic = magic & !CAP_REVISION_MASK | CAP_REVISION_3;
        Ok([&magic.to_le_bytes(), &value[4..CAP_SIZE_2], &root.to_le_bytes()].concat())
    }

    /// An extended attribute as the container sees it: access control lists and capabilities hold ids, too.
    pub(super) fn xattr_inside(self, xattr: Xattr) -> Result<Xattr> {
        if self == Self::Host {
            return Ok(xattr);
        }
        let value = match &*xattr.name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => {
                map_acl(&xattr.value, |id| Ok(self.inside(id)))?
            }
            b"security.capability" => self.capability_inside(&xattr.value)?,
            _ => return Ok(xattr),
        };
        Ok(Xattr { value: value.into(), ..xattr })
    }

    /// A program that has capabilities in the container's user namespace has them in whatever container it is in later.
    fn capability_inside(self, value: &[u8]) -> Result<Vec<u8>> {
        let magic = word(value, 0).unwrap_or_default();
        if magic & CAP_REVISION_MASK != CAP_REVISION_3 {
            return Ok(value.to_vec());
        }
        let root = word(value, CAP_SIZE_2).filter(|_| value.len() == CAP_SIZE_3);
        let root = self.inside(root.ok_or_else(|| invalid("the capabilities of a file are damaged"))?);
        let mut value = value.to_vec();
        if root == 0 {
            value[..4].copy_from_slice(&(magic & !CAP_REVISION_MASK | CAP_REVISION_2).to_le_bytes());
            value.truncate(CAP_SIZE_2);
        } else {
            value[CAP_SIZE_2..].copy_from_slice(&root.to_le_bytes());
        }
        Ok(value)
    }
}

fn map_acl(value: &[u8], map: impl Fn(u32) -> Result<u32>) -> Result<Vec<u8>> {
    if value.len() < ACL_HEADER || !(value.len() - ACL_HEADER).is_multiple_of(ACL_ENTRY) {
        return Err(invalid("an access control list is damaged"));
    }
    let mut value = value.to_vec();
    for entry in value[ACL_HEADER..].chunks_exact_mut(ACL_ENTRY) {
        if matches!(u16::from_le_bytes([entry[0], entry[1]]), ACL_USER | ACL_GROUP) {
            let id = map(u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]))?;
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
    }
    Ok(value)
}

fn word(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPED: Owners = Owners::Mapped { base: 1_000_000, size: 65536 };

    fn inside(name: &str, value: &[u8]) -> Vec<u8> {
        let xattr = Xattr { name: name.as_bytes().into(), value: value.into() };
        MAPPED.xattr_inside(xattr).unwrap().value.into_vec()
    }

    #[test]
    fn ids_are_shifted_back_and_strangers_are_nobody() {
        assert_eq!(
            [1_000_000, 1_065_535, 1_065_536, 0, 999_999].map(|id| MAPPED.inside(id)),
            [0, 65535, 65534, 65534, 65534]
        );
        assert_eq!(Owners::Host.inside(7), 7);
    }

    #[test]
    fn access_control_lists_name_the_container_s_users() {
        let list = |user: u32, group: u32| {
            let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &id.to_le_bytes()].concat();
            [2u32.to_le_bytes().to_vec(), entry(1, u32::MAX), entry(2, user), entry(8, group), entry(32, u32::MAX)]
                .concat()
        };
        assert_eq!(inside("system.posix_acl_access", &list(1_001_000, 1_000_005)), list(1000, 5));
        assert!(map_acl(&[2, 0, 0, 0, 1], Ok).is_err());
    }

    #[test]
    fn capabilities_of_the_namespace_s_root_are_capabilities() {
        let caps = |revision: u32, root: Option<u32>| {
            let mut value = (revision | 1).to_le_bytes().to_vec();
            value.extend([0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            value.extend(root.into_iter().flat_map(u32::to_le_bytes));
            value
        };
        let (two, three) = (CAP_REVISION_2, CAP_REVISION_3);
        assert_eq!(inside("security.capability", &caps(three, Some(1_000_000))), caps(two, None));
        assert_eq!(inside("security.capability", &caps(three, Some(1_000_007))), caps(three, Some(7)));
        assert_eq!(inside("security.capability", &caps(two, None)), caps(two, None));
        assert!(MAPPED.capability_inside(&caps(three, None)).is_err());
        let outside = |value: &[u8]| {
            let xattr = Xattr { name: b"security.capability"[..].into(), value: value.into() };
            MAPPED.xattr_outside(xattr).map(|xattr| xattr.value.into_vec())
        };
        assert_eq!(outside(&caps(two, None)).unwrap(), caps(three, Some(1_000_000)));
        assert_eq!(outside(&caps(three, Some(7))).unwrap(), caps(three, Some(1_000_007)));
        assert!(outside(&caps(three, Some(70_000))).is_err());
        assert!(outside(&caps(three, None)).is_err());
        assert_eq!(MAPPED.outside(65_535), Ok(1_065_535));
        assert!(MAPPED.outside(65_536).is_err());
    }
}
