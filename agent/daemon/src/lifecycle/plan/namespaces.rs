//! Namespaces: one that the spec does not list is the host's.

use std::path::Path;

use hull_wire::{IdMap, Namespace, Namespaces, TimeOffsets, UserNamespace};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType as Type};

use super::unsupported;
use crate::error::Result;

pub(super) fn compile(linux: &Linux) -> Result<Namespaces> {
    let listed = linux.namespaces().as_deref().unwrap_or_default();
    let find = |kind: Type| listed.iter().find(|namespace| namespace.typ() == kind);
    if let Some(twice) = listed.iter().enumerate().find_map(|(index, namespace)| {
        listed.iter().take(index).any(|other| other.typ() == namespace.typ()).then(|| namespace.typ())
    }) {
        return Err(unsupported("linux.namespaces", &format!("the {twice} namespace is listed twice")));
    }
    if find(Type::Mount).is_none_or(|namespace| namespace.path().is_some()) {
        return Err(unsupported("linux.namespaces", "the mount namespace must be a new one"));
    }
    for kind in [Type::User, Type::Time] {
        if find(kind).is_some_and(|namespace| namespace.path().is_some()) {
            return Err(unsupported("linux.namespaces", &format!("a {kind} namespace cannot be joined")));
        }
    }
    Ok(Namespaces {
        pid: namespace(find(Type::Pid))?,
        network: namespace(find(Type::Network))?,
        ipc: namespace(find(Type::Ipc))?,
        uts: namespace(find(Type::Uts))?,
        cgroup: namespace(find(Type::Cgroup))?,
        user: find(Type::User).map(|_| user(linux)).transpose()?,
        time: find(Type::Time).map(|_| time(linux)).transpose()?,
    })
}

fn namespace(listed: Option<&LinuxNamespace>) -> Result<Namespace> {
    let Some(listed) = listed else {
        return Ok(Namespace::Host);
    };
    match listed.path().as_deref().map(Path::to_str) {
        None => Ok(Namespace::New),
        Some(Some(path)) if path.starts_with('/') => Ok(Namespace::Path(path.to_owned())),
        Some(_) => Err(unsupported("linux.namespaces", "a path is not absolute or not UTF-8")),
    }
}

fn user(linux: &Linux) -> Result<UserNamespace> {
    let maps = |place: &str, mappings: &Option<Vec<LinuxIdMapping>>| {
        let maps: Vec<IdMap> = mappings
            .iter()
            .flatten()
            .map(|map| IdMap { container: map.container_id(), host: map.host_id(), size: map.size() })
            .collect();
        if maps.is_empty() { Err(unsupported(place, "is empty, but there is a new user namespace")) } else { Ok(maps) }
    };
    Ok(UserNamespace {
        uid_maps: maps("linux.uidMappings", linux.uid_mappings())?,
        gid_maps: maps("linux.gidMappings", linux.gid_mappings())?,
    })
}

fn time(linux: &Linux) -> Result<TimeOffsets> {
    let nanos = |clock: &str| {
        let offset = linux.time_offsets().as_ref().and_then(|offsets| offsets.get(clock));
        let (secs, nanos) =
            offset.map_or((0, 0), |offset| (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)));
        secs.checked_mul(1_000_000_000)
            .and_then(|total| total.checked_add(i64::from(nanos)))
            .ok_or_else(|| unsupported("linux.timeOffsets", &format!("the offset of {clock} is out of range")))
    };
    Ok(TimeOffsets { monotonic_nanos: nanos("monotonic")?, boottime_nanos: nanos("boottime")? })
}
