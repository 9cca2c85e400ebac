//! What is in /dev: the nodes that every program expects, those of the spec, and the usual links.

use std::path::Path;

use hull_wire::{DeviceNode, Symlink};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};

use super::unsupported;
use crate::error::Result;
use crate::lifecycle::config::ContainerConfig;
use crate::lifecycle::spec::linux::container_path;
use crate::lifecycle::spec::path;

/// Path, major and minor number; all of them character devices with mode 0666. /dev/console is the shim's: the terminal, where
/// there is one, never the host's console.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
];

pub(super) fn nodes(linux: &Linux, config: &ContainerConfig) -> Result<Vec<DeviceNode>> {
    let default = DEFAULT.iter().map(|(path, major, minor)| {
        Ok(DeviceNode {
            path: (*path).to_owned(),
            host_path: (*path).to_owned(),
            block: false,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
    });
    let given = linux.devices().iter().flatten().enumerate();
    default.chain(given.map(|(index, device)| node(&format!("linux.devices[{index}]"), device, config))).collect()
}

pub(super) fn links() -> Vec<Symlink> {
    LINKS.iter().map(|(path, target)| Symlink { path: (*path).to_owned(), target: (*target).to_owned() }).collect()
}

/// The runtime spec has no path on the host: that is in the configuration, and the same as in the container for all other nodes.
fn node(place: &str, device: &LinuxDevice, config: &ContainerConfig) -> Result<DeviceNode> {
    let block = match device.typ() {
        LinuxDeviceType::B => true,
        LinuxDeviceType::C | LinuxDeviceType::U => false,
        _ => return Err(unsupported(&format!("{place}.type"), "only b and c are made")),
    };
    let number = |name: &str, number: i64| {
        u32::try_from(number).map_err(|_| unsupported(&format!("{place}.{name}"), "is out of range"))
    };
    let path = Path::to_str(device.path()).filter(|path| path.starts_with('/'));
    let path = path.ok_or_else(|| unsupported(&format!("{place}.path"), "is not absolute or not UTF-8"))?;
    let asked = config.devices.iter().find(|asked| {
        path::absolute("container_path", container_path(asked)).is_ok_and(|container_path| container_path == path)
    });
    Ok(DeviceNode {
        path: path.to_owned(),
        host_path: asked.map_or(path, |asked| &asked.host_path).to_owned(),
        block,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
