//! Names of block devices.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::space::Space;

/// The devices that are told of.
#[derive(Debug)]
pub(super) struct Devices {
    by_number: HashMap<(u32, u32), Device>,
    /// That of the data directory's file system, and what that has.
    pub(super) data: Option<(String, Space)>,
}

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    /// "/dev/vda", or its numbers where it has no name.
    pub(super) name: String,
    pub(super) major: String,
    pub(super) minor: String,
}

impl Devices {
    pub(super) fn new(data_dir: &Path) -> Self {
        let device = rustix::fs::stat(data_dir).ok().map(|stat| stat.st_dev);
        let name = device.map(|device| name(rustix::fs::major(device), rustix::fs::minor(device)));
        Self { by_number: HashMap::new(), data: name.zip(Space::of(data_dir).ok()) }
    }

    /// Looks a device up.
    pub(super) fn add(&mut self, major: u32, minor: u32) {
        self.by_number.entry((major, minor)).or_insert_with(|| Device {
            name: name(major, minor),
            major: major.to_string(),
            minor: minor.to_string(),
        });
    }

    pub(super) fn get(&self, major: u32, minor: u32) -> Option<&Device> {
        self.by_number.get(&(major, minor))
    }
}

/// As the kernel names it in sysfs.
fn name(major: u32, minor: u32) -> String {
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok();
    let name = link.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    // A slash in a name is an exclamation mark there.
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{}", name.replace('!', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_name_has_its_numbers() {
        assert_eq!(name(0, 4_000_000), "0:4000000");
        for entry in fs::read_dir("/sys/dev/block").into_iter().flatten().flatten() {
            let numbers = entry.file_name().into_string().unwrap();
            let (major, minor) = numbers.split_once(':').unwrap();
            let name = name(major.parse().unwrap(), minor.parse().unwrap());
            assert!(name.starts_with("/dev/") && !name.contains('!'), "{name}");
        }
    }
}
