//! What a container takes from the host's file system, looked at before its spec is built: the only part of spec and plan that touches
//! the kernel. It may block (a bind source on a network file system), so it belongs on a blocking thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat, StatxFlags, major, minor, stat, statx};

use super::linux;
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{ContainerConfig, MountKind};

/// Most device nodes of the host that are looked for, and how deep.
const MAX_NODES: usize = 4096;
const MAX_DEPTH: usize = 8;

/// What a path of the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostFileKind {
    /// A character device.
    Char { major: u32, minor: u32 },
    /// A block device.
    Block { major: u32, minor: u32 },
    /// Anything else.
    Other,
}

/// A file of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostFile {
    pub(crate) kind: HostFileKind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Files of the host by path, as the configuration names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostFiles {
    named: BTreeMap<String, HostFile>,
    /// All device nodes, for a privileged container.
    nodes: BTreeMap<String, HostFile>,
}

impl HostFiles {
    /// The file that the configuration names so.
    pub(crate) fn get(&self, path: &str) -> Option<&HostFile> {
        self.named.get(path)
    }

    /// All device nodes of the host.
    pub(crate) fn device_nodes(&self) -> impl Iterator<Item = (&String, &HostFile)> {
        self.nodes.iter()
    }

    #[cfg(test)]
    pub(crate) fn with(named: &[(&str, HostFile)], nodes: &[(&str, HostFile)]) -> Self {
        let table = |list: &[(&str, HostFile)]| list.iter().map(|(path, file)| ((*path).to_owned(), *file)).collect();
        Self { named: table(named), nodes: table(nodes) }
    }
}

/// Looks at everything of the host that a container names. Blocks.
///
/// # Errors
/// `InvalidArgument` with the field, where a path does not exist or is not what it must be.
pub(crate) fn probe(config: &ContainerConfig) -> Result<HostFiles> {
    let mut files = HostFiles::default();
    let mut look = |field: String, path: &str| -> Result<HostFile> {
        let file = stat(path).map(|stat| HostFile::new(&stat)).map_err(|errno| {
            let errno = nix::errno::Errno::from_raw(errno.raw_os_error());
            Error::new(Reason::InvalidArgument, format!("{field}: {path}")).errno(errno)
        })?;
        files.named.insert(path.to_owned(), file);
        Ok(file)
    };
    for (index, mount) in config.mounts.iter().enumerate() {
        if let MountKind::Bind { source } = &mount.kind {
            look(format!("config.mounts[{index}].source"), source)?;
            check_propagation(&format!("config.mounts[{index}].options"), source, &mount.options)?;
        }
    }
    for (index, device) in config.devices.iter().enumerate() {
        let field = format!("config.devices[{index}].host_path");
        if look(field.clone(), &device.host_path)?.kind == HostFileKind::Other {
            return Err(Error::invalid(&field, format_args!("{} is no device", device.host_path)));
        }
    }
    for (index, limit) in config.resources.io_max.iter().enumerate() {
        let field = format!("config.resources.io_max[{index}].device");
        if !matches!(look(field.clone(), &limit.device)?.kind, HostFileKind::Block { .. }) {
            return Err(Error::invalid(&field, format_args!("{} is no block device", limit.device)));
        }
    }
    if config.security.privileged {
        files.nodes = device_nodes()?;
    }
    Ok(files)
}

/// Refuses a propagation that would silently be none: from a mount of the host that takes part in none.
fn check_propagation(field: &str, source: &str, options: &[String]) -> Result<()> {
    let asked = |names: [&str; 2]| options.iter().any(|option| names.contains(&option.as_str()));
    let (shared, slave) = (asked(["shared", "rshared"]), asked(["slave", "rslave"]));
    if !shared && !slave {
        return Ok(());
    }
    let system = |errno: rustix::io::Errno| Error::os(source, nix::errno::Errno::from_raw(errno.raw_os_error()));
    let id = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID).map_err(system)?.stx_mnt_id;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::io("reading /proc/self/mountinfo", &error))?;
    let (place, propagation) = propagation(&table, id).unwrap_or_default();
    let takes_part = |kind: &str| propagation.iter().any(|tag| tag.starts_with(kind));
    if takes_part("shared:") || (slave && takes_part("master:")) {
        return Ok(());
    }
    Err(Error::new(
        Reason::UnsupportedFeature,
        format!("{field}: {source} lies on the mount {place}, which is not shared"),
    )
    .hint(format!("mount --make-shared {place}")))
}

/// Mount point and optional fields of a mount, see proc_pid_mountinfo(5).
fn propagation(table: &str, id: u64) -> Option<(&str, Vec<&str>)> {
    let mut lines = table.lines().map(|line| line.split(' '));
    let mut fields = lines.find(|line| line.clone().next().and_then(|field| field.parse().ok()) == Some(id))?;
    let place = fields.nth(4)?;
    Some((place, fields.skip(1).take_while(|field| *field != "-").collect()))
}

impl HostFile {
    fn new(stat: &Stat) -> Self {
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => HostFileKind::Char { major, minor },
            FileType::BlockDevice => HostFileKind::Block { major, minor },
            _ => HostFileKind::Other,
        };
        Self { kind, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
    }
}

/// The device nodes below /dev that a container does not have already. Links are not followed; what vanishes meanwhile is no error.
fn device_nodes() -> Result<BTreeMap<String, HostFile>> {
    let mut nodes = BTreeMap::new();
    let mut pending = vec![(PathBuf::from("/dev"), 0)];
    while let Some((directory, depth)) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(text) = path.to_str().filter(|text| !linux::is_default_node(text)) else { continue };
            let Some(file) = look_at_link(&path) else { continue };
            if file.kind != HostFileKind::Other {
                nodes.insert(text.to_owned(), file);
            } else if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push((path, depth + 1));
            }
            if nodes.len() > MAX_NODES {
                return Err(Error::new(
                    Reason::LimitExceeded,
                    format!("/dev holds more than {MAX_NODES} device nodes"),
                ));
            }
        }
    }
    Ok(nodes)
}

fn look_at_link(path: &Path) -> Option<HostFile> {
    rustix::fs::lstat(path).ok().map(|stat| HostFile::new(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::config::{Device, IoMax, Mount};

    fn device(path: &str) -> ContainerConfig {
        let device = Device { host_path: path.to_owned(), container_path: String::new(), permissions: String::new() };
        ContainerConfig { devices: vec![device], ..ContainerConfig::default() }
    }

    #[test]
    fn a_device() {
        let files = probe(&device("/dev/null")).unwrap();
        assert_eq!(files.get("/dev/null").unwrap().kind, HostFileKind::Char { major: 1, minor: 3 });
    }

    #[test]
    fn refusals_name_the_field() {
        let error = probe(&device("/dev/nothing-there")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config.devices[0].host_path: /dev/nothing-there: ENOENT (No such file or directory)"
        );
        assert!(probe(&device("/etc")).unwrap_err().message.contains("is no device"));
        let mut config = ContainerConfig::default();
        config.resources.io_max = vec![IoMax { device: "/dev/null".to_owned(), ..IoMax::default() }];
        assert!(probe(&config).unwrap_err().message.contains("is no block device"));
        let kind = MountKind::Bind { source: "/nothing-there".to_owned() };
        let mount = Mount { kind, target: "/x".to_owned(), read_only: false, options: Vec::new() };
        let config = ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() };
        assert!(probe(&config).unwrap_err().message.starts_with("config.mounts[0].source: /nothing-there"));
    }

    #[test]
    fn propagation_is_read() {
        let table = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/a rw\n23 22 0:5 / /a rw shared:7 master:3 - tmpfs t rw\n\
                     24 22 0:6 /x /b\\040c ro - tmpfs t rw\n";
        assert_eq!(propagation(table, 22), Some(("/", vec!["shared:1"])));
        assert_eq!(propagation(table, 23), Some(("/a", vec!["shared:7", "master:3"])));
        assert_eq!(propagation(table, 24), Some(("/b\\040c", vec![])));
        assert_eq!(propagation(table, 2), None);
    }

    #[test]
    fn only_propagation_that_is_asked_for_is_looked_at() {
        assert!(check_propagation("f", "/nothing-there", &["rprivate".to_owned()]).is_ok());
        assert!(check_propagation("f", "/nothing-there", &["rshared".to_owned()]).is_err());
    }

    #[test]
    fn nodes_of_the_host() {
        let nodes = device_nodes().unwrap();
        assert!(!nodes.contains_key("/dev/null"));
        assert!(nodes.keys().all(|path| !path.starts_with("/dev/pts/")));
    }
}
