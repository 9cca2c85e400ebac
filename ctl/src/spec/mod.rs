//! Flags to what the API calls them: no flag is dropped, what cannot be said is refused.

mod env;
mod log;
mod mounts;
mod namespaces;
mod resources;
mod units;
mod words;

use std::collections::HashMap;
use std::path::Path;

use hull_proto::v1::{ContainerConfig, Rlimit, Seccomp, Security, seccomp};

use crate::cli::{CreateFlags, SecurityFlags};
use crate::error::{Error, Result};

pub(crate) use env::{environment, labels};
pub(crate) use resources::resources;
pub(crate) use units::{duration, nanos, unix_nanos};
pub(crate) use words::words;

/// A container as the flags describe it.
pub(crate) fn container(flags: &CreateFlags) -> Result<ContainerConfig> {
    let Some((image, args)) = flags.command.split_first() else {
        return Err(Error::new("an image is needed"));
    };
    let entrypoint = flags.entrypoint.as_deref();
    Ok(ContainerConfig {
        image: image.clone(),
        name: flags.name.clone().unwrap_or_default(),
        labels: labels(&flags.label_files, &flags.labels)?,
        entrypoint: entrypoint.filter(|program| !program.is_empty()).map(str::to_owned).into_iter().collect(),
        args: args.to_vec(),
        clear_entrypoint: entrypoint == Some(""),
        env: environment(&flags.env_files, &flags.env)?,
        cwd: flags.workdir.clone().unwrap_or_default(),
        user: flags.user.clone().unwrap_or_default(),
        additional_groups: flags.groups.clone(),
        umask: flags.umask.as_deref().map(umask).transpose()?,
        terminal: flags.tty,
        stdin_open: flags.interactive,
        stdin_once: flags.interactive,
        stop_signal: flags.stop_signal.clone().unwrap_or_default(),
        stop_timeout: flags.stop_timeout.map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 }),
        auto_remove: flags.auto_remove,
        hostname: flags.namespaces.hostname.clone().unwrap_or_default(),
        domainname: flags.namespaces.domainname.clone().unwrap_or_default(),
        extra_hosts: namespaces::hosts(&flags.namespaces)?,
        dns: namespaces::dns(&flags.namespaces),
        namespaces: Some(namespaces::namespaces(&flags.namespaces)?),
        resources: Some(resources(&flags.resources)?),
        mounts: mounts::mounts(&flags.filesystem)?,
        read_only_rootfs: flags.filesystem.read_only,
        masked_paths: flags.filesystem.masked_paths.clone(),
        readonly_paths: flags.filesystem.readonly_paths.clone(),
        devices: mounts::devices(&flags.filesystem)?,
        security: Some(security(&flags.security)?),
        sysctls: sysctls(&flags.namespaces.sysctls)?,
        rlimits: flags.ulimits.iter().map(|text| rlimit(text)).collect::<Result<_>>()?,
        oom_score_adj: flags.oom_score_adj,
        shm_size: flags.filesystem.shm_size.as_deref().map(|text| units::size("--shm-size", text)).transpose()?,
        init: flags.init,
        log: log::log(flags.log_driver.as_deref(), &flags.log_options)?,
    })
}

fn umask(text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && !text.starts_with('+') => Ok(mask),
        _ => Err(Error::new(format!("--umask {text}: expected an octal number of at most 0777"))),
    }
}

fn sysctls(texts: &[String]) -> Result<HashMap<String, String>> {
    let sysctl = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::new(format!("--sysctl {text}: expected NAME=VALUE"))),
    };
    texts.iter().map(sysctl).collect()
}

/// NAME=SOFT[:HARD]; the hard limit is the soft one where it is not given.
fn rlimit(text: &str) -> Result<Rlimit> {
    let wrong = || Error::new(format!("--ulimit {text}: expected NAME=SOFT[:HARD], e.g. nofile=1024:4096"));
    let bound = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text if text.starts_with('+') => Err(wrong()),
        text => text.parse().map_err(|_| wrong()),
    };
    let (name, bounds) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let (soft, hard) = bounds.split_once(':').unwrap_or((bounds, bounds));
    let limit = Rlimit { r#type: name.to_owned(), soft: bound(soft)?, hard: bound(hard)? };
    if limit.soft > limit.hard {
        return Err(Error::new(format!("--ulimit {text}: the soft limit is above the hard one")));
    }
    Ok(limit)
}

fn security(flags: &SecurityFlags) -> Result<Security> {
    let mut security = Security {
        privileged: flags.privileged,
        cap_add: flags.cap_add.clone(),
        cap_drop: flags.cap_drop.clone(),
        ..Security::default()
    };
    for option in &flags.options {
        let (name, value) = match option.split_once(['=', ':']) {
            Some((name, value)) => (name, Some(value)),
            None => (option.as_str(), None),
        };
        match (name, value) {
            ("no-new-privileges", None | Some("true")) => security.allow_new_privileges = false,
            ("no-new-privileges", Some("false")) => security.allow_new_privileges = true,
            ("seccomp", Some("unconfined")) => security.seccomp = profile(seccomp::Profile::Unconfined(true)),
            ("seccomp", Some(file)) if !file.is_empty() => {
                security.seccomp = profile(seccomp::Profile::Json(env::read(Path::new(file))?));
            }
            _ => {
                let expected = "seccomp=unconfined, seccomp=FILE or no-new-privileges[=BOOL]";
                return Err(Error::new(format!("--security-opt {option}: not offered; expected {expected}")));
            }
        }
    }
    Ok(security)
}

fn profile(profile: seccomp::Profile) -> Option<Seccomp> {
    Some(Seccomp { profile: Some(profile) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(command: &[&str]) -> CreateFlags {
        CreateFlags { command: command.iter().map(|&word| word.to_owned()).collect(), ..CreateFlags::default() }
    }

    #[test]
    fn a_bare_image_asks_for_nothing() {
        let config = container(&flags(&["img"])).unwrap();
        let asked = ContainerConfig {
            image: "img".into(),
            namespaces: Some(Default::default()),
            resources: Some(Default::default()),
            security: Some(Default::default()),
            ..ContainerConfig::default()
        };
        assert_eq!(config, asked);
    }

    #[test]
    fn entry_points() {
        let with = |program: &str| CreateFlags { entrypoint: Some(program.into()), ..flags(&["img", "a"]) };
        let config = container(&with("/bin/x")).unwrap();
        assert_eq!(
            (config.entrypoint, config.args, config.clear_entrypoint),
            (vec!["/bin/x".into()], vec!["a".into()], false)
        );
        let config = container(&with("")).unwrap();
        assert_eq!((config.entrypoint, config.clear_entrypoint), (vec![], true));
    }

    #[test]
    fn standard_input_closes_with_its_first_attachment() {
        let config = container(&CreateFlags { interactive: true, tty: true, ..flags(&["img"]) }).unwrap();
        assert!(config.stdin_open && config.stdin_once && config.terminal);
    }

    #[test]
    fn resource_limits() {
        let parts = |text| rlimit(text).map(|limit| (limit.r#type, limit.soft, limit.hard));
        assert_eq!(parts("nofile=1024:4096").unwrap(), ("nofile".into(), 1024, 4096));
        assert_eq!(parts("core=-1").unwrap(), ("core".into(), u64::MAX, u64::MAX));
        for wrong in ["nofile", "=1", "nofile=", "nofile=2:1", "nofile=x", "nofile=-2", "nofile=+1"] {
            assert!(rlimit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn masks_are_octal() {
        assert_eq!(umask("027").unwrap(), 0o27);
        for wrong in ["8", "1000", "", "+7", "-1"] {
            assert!(umask(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn security_options() {
        let given = |options: &[&str]| {
            let options = options.iter().map(|&option| option.to_owned()).collect();
            security(&SecurityFlags { options, ..SecurityFlags::default() })
        };
        assert!(given(&["no-new-privileges=false"]).unwrap().allow_new_privileges);
        assert!(given(&["no-new-privileges:false"]).unwrap().allow_new_privileges);
        assert!(!given(&["no-new-privileges"]).unwrap().allow_new_privileges);
        assert_eq!(given(&["seccomp=unconfined"]).unwrap().seccomp, profile(seccomp::Profile::Unconfined(true)));
        for wrong in ["apparmor=x", "label=disable", "seccomp=/nonexistent", "seccomp", "no-new-privileges=2"] {
            assert!(given(&[wrong]).is_err(), "{wrong}");
        }
    }
}
