//! Mounts, devices and paths in the container.

use super::{check_count, no_effect};
use crate::error::{Error, Result};
use crate::lifecycle::config::{ContainerConfig, Mount, MountKind, NamespaceMode};
use crate::lifecycle::spec::mounts::{self, MountOption};
use crate::lifecycle::spec::{linux, path};

/// Most mounts, devices and paths of each kind.
const MAX_ENTRIES: usize = 512;

/// Targets that hull mounts itself and that nothing of the user's can take the place of, with what is below.
const RESERVED_TREES: [&str; 2] = ["/proc", "/dev/pts"];

pub(super) fn validate(config: &ContainerConfig) -> Result<()> {
    check_count("config.mounts", config.mounts.len(), MAX_ENTRIES)?;
    let mut targets: Vec<String> = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        let target = check_mount(&format!("config.mounts[{index}]"), mount)?;
        if targets.contains(&target) {
            return Err(Error::invalid(
                &format!("config.mounts[{index}].target"),
                format_args!("{target} is the target of another mount"),
            ));
        }
        targets.push(target);
    }
    shm_size(config, &targets)?;
    devices(config, &targets)?;
    for (field, paths) in
        [("config.masked_paths", &config.masked_paths), ("config.readonly_paths", &config.readonly_paths)]
    {
        check_count(field, paths.len(), MAX_ENTRIES)?;
        for (index, text) in paths.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if path::absolute(&field, text)? == "/" {
                return Err(Error::invalid(&field, "is the root; give config.read_only_rootfs instead"));
            }
        }
    }
    Ok(())
}

/// Checks one mount and returns its plain target.
fn check_mount(field: &str, mount: &Mount) -> Result<String> {
    let target_field = format!("{field}.target");
    let target = path::absolute(&target_field, &mount.target)?;
    if target == "/" || target == "/dev" || RESERVED_TREES.iter().any(|tree| path::is_within(&target, tree)) {
        return Err(Error::invalid(&target_field, format_args!("nothing can be mounted at {target}")));
    }
    if let MountKind::Bind { source } = &mount.kind {
        path::absolute(&format!("{field}.source"), source)?;
    }
    let bind = matches!(mount.kind, MountKind::Bind { .. });
    let mut seen: Vec<MountOption<'_>> = Vec::new();
    for (index, text) in mount.options.iter().enumerate() {
        let option_field = format!("{field}.options[{index}]");
        let option = MountOption::parse(text, bind).map_err(|problem| Error::invalid(&option_field, problem))?;
        if let Some(other) = seen.iter().find(|other| other.group() == option.group()) {
            return Err(Error::invalid(&option_field, format_args!("{text:?} comes after {:?}", other.text())));
        }
        seen.push(option);
    }
    Ok(target)
}

fn shm_size(config: &ContainerConfig, targets: &[String]) -> Result<()> {
    match config.shm_size {
        None => Ok(()),
        Some(0) => Err(Error::invalid("config.shm_size", "is 0")),
        Some(size) if i64::try_from(size).is_err() => Err(Error::invalid("config.shm_size", "is above 2^63 - 1")),
        Some(_) if config.namespaces.ipc == NamespaceMode::Host => {
            Err(no_effect("config.shm_size", "where the ipc namespace is the host's, and /dev/shm with it"))
        }
        Some(_) if targets.iter().any(|target| target == mounts::SHM) => {
            Err(no_effect("config.shm_size", "where config.mounts has a mount at /dev/shm"))
        }
        Some(_) => Ok(()),
    }
}

fn devices(config: &ContainerConfig, targets: &[String]) -> Result<()> {
    check_count("config.devices", config.devices.len(), MAX_ENTRIES)?;
    let mut seen: Vec<String> = Vec::new();
    for (index, device) in config.devices.iter().enumerate() {
        let field = format!("config.devices[{index}]");
        path::absolute(&format!("{field}.host_path"), &device.host_path)?;
        let path_field = format!("{field}.container_path");
        let place = path::absolute(&path_field, linux::container_path(device))?;
        let problem = if place == "/" || place == "/dev" {
            format!("no device can be made at {place}")
        } else if linux::is_default_node(&place) || seen.contains(&place) {
            format!("{place} is there already")
        } else if let Some(target) = targets.iter().find(|target| path::is_within(&place, target)) {
            format!("{place} lies in the mount at {target}")
        } else {
            String::new()
        };
        if !problem.is_empty() {
            return Err(Error::invalid(&path_field, problem));
        }
        seen.push(place);
        permissions(&format!("{field}.permissions"), &device.permissions)?;
    }
    Ok(())
}

/// A non-empty subset of "rwm".
fn permissions(field: &str, text: &str) -> Result<()> {
    let once = |letter: char| text.matches(letter).count() <= 1;
    if !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter) && once(letter)) {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("{text:?} is not made of r, w and m")))
}
