//! Mounts and devices.

use std::path::Path;

use hull_proto::v1::{Device, Mount, MountType};

use super::units::size;
use crate::cli::FilesystemFlags;
use crate::error::{Error, Result};

/// All mounts: volumes, then mounts, then tmpfs.
pub(crate) fn mounts(flags: &FilesystemFlags) -> Result<Vec<Mount>> {
    let volumes = flags.volumes.iter().map(|text| volume(text));
    let mounts = flags.mounts.iter().map(|text| mount(text));
    let tmpfs = flags.tmpfs.iter().map(|text| tmpfs(text));
    volumes.chain(mounts).chain(tmpfs).collect()
}

/// SOURCE:TARGET[:OPTIONS].
fn volume(text: &str) -> Result<Mount> {
    let wrong = |problem: &str| Err(Error::new(format!("--volume {text}: {problem}")));
    let mut parts = text.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return wrong("expected SOURCE:TARGET[:OPTIONS]; volumes without a source are not offered");
    };
    if !source.starts_with(['/', '.']) {
        return wrong("the source must be a path (/… or ./…); named volumes are not offered");
    }
    let mut mount = bind(&absolute(source)?, target);
    mount_options(&mut mount, parts.next().unwrap_or_default());
    Ok(mount)
}

/// TARGET[:OPTIONS].
fn tmpfs(text: &str) -> Result<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if target.is_empty() {
        return Err(Error::new(format!("--tmpfs {text}: expected TARGET[:OPTIONS]")));
    }
    let mut mount = Mount { r#type: MountType::Tmpfs.into(), target: target.to_owned(), ..Mount::default() };
    mount_options(&mut mount, options);
    Ok(mount)
}

/// type=…,source=…,target=…,….
fn mount(text: &str) -> Result<Mount> {
    let wrong = |problem: String| Error::new(format!("--mount {text}: {problem}"));
    let mut mount = Mount { r#type: MountType::Bind.into(), ..Mount::default() };
    for field in fields(text) {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let needed = || value.filter(|value| !value.is_empty()).ok_or_else(|| wrong(format!("{key} needs a value")));
        match key {
            "type" => match needed()? {
                "bind" => mount.r#type = MountType::Bind.into(),
                "tmpfs" => mount.r#type = MountType::Tmpfs.into(),
                other => return Err(wrong(format!("type {other} is not offered: bind and tmpfs are"))),
            },
            "source" | "src" => mount.source = absolute(needed()?)?,
            "target" | "destination" | "dst" => mount.target = needed()?.to_owned(),
            "readonly" | "ro" => {
                mount.read_only = match value {
                    None | Some("true" | "1") => true,
                    Some("false" | "0") => false,
                    Some(other) => return Err(wrong(format!("{key}={other}: expected true or false"))),
                }
            }
            "bind-propagation" => mount.options.push(needed()?.to_owned()),
            "tmpfs-size" => mount.options.push(format!("size={}", size("--mount tmpfs-size", needed()?)?)),
            "tmpfs-mode" => mount.options.push(format!("mode={}", needed()?)),
            other => return Err(wrong(format!("{other} is not known"))),
        }
    }
    let is_bind = mount.r#type() == MountType::Bind;
    if mount.target.is_empty() {
        return Err(wrong("target is missing".to_owned()));
    }
    if is_bind == mount.source.is_empty() {
        let problem = if is_bind { "source is missing" } else { "a tmpfs has no source" };
        return Err(wrong(problem.to_owned()));
    }
    Ok(mount)
}

fn bind(source: &str, target: &str) -> Mount {
    let (source, target) = (source.to_owned(), target.to_owned());
    Mount { r#type: MountType::Bind.into(), source, target, ..Mount::default() }
}

/// The agent knows which options there are, and refuses others; only ro and rw have a field of their own.
fn mount_options(mount: &mut Mount, options: &str) {
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            other => mount.options.push(other.to_owned()),
        }
    }
}

/// Fields between commas; one in double quotes may hold commas, and a doubled quote stands for one (RFC 4180).
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => fields[last].extend(chars.next()),
            '"' if quoted || fields[last].is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields
}

/// The path seen from the caller's directory: the agent has another.
fn absolute(path: &str) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|error| Error::file(Path::new(path), &error))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_| Error::new(format!("{path}: the current directory is not UTF-8")))
}

/// All devices.
pub(crate) fn devices(flags: &FilesystemFlags) -> Result<Vec<Device>> {
    flags.devices.iter().map(|text| device(text)).collect()
}

/// PATH[:TARGET][:PERMISSIONS].
fn device(text: &str) -> Result<Device> {
    let wrong =
        || Error::new(format!("--device {text}: expected PATH[:TARGET][:PERMISSIONS], e.g. /dev/fuse:/dev/fuse:rw"));
    let permissions = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, allowed) = match parts[..] {
        [host] => (host, "", ""),
        [host, allowed] if permissions(allowed) => (host, "", allowed),
        [host, container] => (host, container, ""),
        [host, container, allowed] if permissions(allowed) => (host, container, allowed),
        _ => return Err(wrong()),
    };
    if !host.starts_with('/') || !(container.is_empty() || container.starts_with('/')) {
        return Err(wrong());
    }
    Ok(Device { host_path: host.into(), container_path: container.into(), permissions: allowed.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let mount = volume("/srv/site:/www:ro,noexec").unwrap();
        assert_eq!((mount.source.as_str(), mount.target.as_str(), mount.read_only), ("/srv/site", "/www", true));
        assert_eq!(mount.options, ["noexec"]);
        let here = std::env::current_dir().unwrap();
        assert_eq!(volume("./a:/b").unwrap().source, here.join("a").to_str().unwrap());
        for wrong in ["/only", "named:/x", ":/x"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mounts_by_fields() {
        let got = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert_eq!((got.source.as_str(), got.target.as_str(), got.read_only), ("/a", "/b", true));
        assert_eq!(got.options, ["rslave"]);
        let got = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777,ro=false").unwrap();
        assert_eq!((got.r#type(), got.read_only), (MountType::Tmpfs, false));
        assert_eq!(got.options, ["size=1048576", "mode=1777"]);
        assert_eq!(mount("\"source=/a,b\",target=/c").unwrap().source, "/a,b");
        for wrong in [
            "type=volume,target=/x",
            "target=/x",
            "source=/x",
            "type=tmpfs,source=/a,target=/x",
            "source=/a,target=/x,frob=1",
            "source=,target=/x",
            "source=/a,target=/x,readonly=maybe",
        ] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tmpfs_options_go_to_the_agent() {
        let got = tmpfs("/tmp:rw,noexec,size=64m").unwrap();
        assert_eq!((got.target.as_str(), got.options), ("/tmp", vec!["noexec".to_owned(), "size=64m".to_owned()]));
        assert!(tmpfs("/tmp:ro").unwrap().read_only);
        assert!(tmpfs(":size=1m").is_err());
    }

    #[test]
    fn devices_with_and_without_target_and_permissions() {
        let parts = |text| device(text).map(|d| [d.host_path, d.container_path, d.permissions]).unwrap();
        assert_eq!(parts("/dev/fuse"), ["/dev/fuse", "", ""]);
        assert_eq!(parts("/dev/fuse:rw"), ["/dev/fuse", "", "rw"]);
        assert_eq!(parts("/dev/a:/dev/b"), ["/dev/a", "/dev/b", ""]);
        assert_eq!(parts("/dev/a:/dev/b:r"), ["/dev/a", "/dev/b", "r"]);
        for wrong in ["fuse", "/dev/a:b:r", "/dev/a:/dev/b:x", "/dev/a:/dev/b:r:w", "/dev/a:/dev/b:"] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
