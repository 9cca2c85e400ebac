//! What `inspect` shows of a container. What hull has not is not there, so that a template that asks for it is told.

use hull_proto::v1::{self, Container, ContainerState, Mount, MountType, Namespace, NamespaceMode};
use serde_json::{Map, Value, json};

use super::container::{network_name, state_word};
use super::rfc3339;
use crate::output::moment;

/// A container as Docker shows it.
pub(crate) fn container_details(container: &Container) -> Value {
    let config = container.config.clone().unwrap_or_default();
    let mut command = config.entrypoint.iter().chain(&config.args);
    let path = command.next().cloned().unwrap_or_default();
    json!({
        "Id": container.id,
        "Created": rfc3339(moment(container.created_at.as_ref())),
        "Path": path,
        "Args": command.collect::<Vec<_>>(),
        "State": state(container),
        "Image": container.image_digest,
        "LogPath": container.log_path,
        "Name": format!("/{}", container.name),
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": host_config(&config),
        "Mounts": config.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": own_config(&config, &container.id),
        "NetworkSettings": network_settings(&config),
    })
}

fn state(container: &Container) -> Value {
    let state = container.state();
    let exit = container.exit.clone().unwrap_or_default();
    let alive = matches!(state, ContainerState::Running | ContainerState::Paused | ContainerState::Stopping);
    json!({
        "Status": state_word(state),
        "Running": alive,
        "Paused": state == ContainerState::Paused,
        "Restarting": false,
        "OOMKilled": exit.oom_killed,
        "Dead": false,
        "Pid": container.pid,
        "ExitCode": exit.code,
        "Error": exit.error,
        "StartedAt": rfc3339(moment(container.started_at.as_ref())),
        "FinishedAt": rfc3339(moment(exit.finished_at.as_ref())),
    })
}

fn own_config(config: &v1::ContainerConfig, id: &str) -> Value {
    let hostname = if config.hostname.is_empty() { id.get(..12).unwrap_or(id) } else { &config.hostname };
    json!({
        "Hostname": hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "Tty": config.terminal,
        "OpenStdin": config.stdin_open,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": config.args,
        "Image": config.image,
        "WorkingDir": config.cwd,
        "Entrypoint": config.entrypoint,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout.map(|timeout| timeout.seconds),
    })
}

fn host_config(config: &v1::ContainerConfig) -> Value {
    let (namespaces, resources) = (config.namespaces.clone().unwrap_or_default(), config.resources.clone());
    let security = config.security.clone().unwrap_or_default();
    let user = if namespaces.user() == v1::UserNamespaceMode::Auto { "auto" } else { "host" };
    let own = json!({
        "Binds": config.mounts.iter().filter(|mount| mount.r#type() == MountType::Bind).map(bind).collect::<Vec<_>>(),
        "NetworkMode": network_name(namespaces.network.as_ref()),
        "PidMode": mode(namespaces.pid.as_ref()),
        "IpcMode": mode(namespaces.ipc.as_ref()),
        "UTSMode": mode(namespaces.uts.as_ref()),
        "CgroupnsMode": mode(namespaces.cgroup.as_ref()),
        "UsernsMode": user,
        "AutoRemove": config.auto_remove,
        "CapAdd": security.cap_add,
        "CapDrop": security.cap_drop,
        "Privileged": security.privileged,
        "ReadonlyRootfs": config.read_only_rootfs,
        "GroupAdd": config.additional_groups,
        "OomScoreAdj": config.oom_score_adj.unwrap_or_default(),
        "ShmSize": config.shm_size.unwrap_or(64 << 20),
        "Sysctls": config.sysctls,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Ulimits": config.rlimits.iter().map(ulimit).collect::<Vec<_>>(),
    });
    merged(own, limits(&resources.unwrap_or_default()))
}

/// Limits; 0 is none, as Docker has it.
fn limits(resources: &v1::Resources) -> Value {
    let memory = resources.memory_max.unwrap_or_default().max(0);
    let swap = resources.memory_swap_max.map_or(0, |swap| if swap < 0 { swap } else { memory.saturating_add(swap) });
    json!({
        "Memory": memory,
        "MemoryReservation": resources.memory_low.unwrap_or_default(),
        "MemorySwap": swap,
        "CpuQuota": resources.cpu_quota.unwrap_or_default(),
        "CpuPeriod": resources.cpu_period.unwrap_or_default(),
        "CpusetCpus": resources.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": resources.pids_max,
    })
}

fn merged(mut one: Value, mut other: Value) -> Value {
    if let (Some(one), Some(other)) = (one.as_object_mut(), other.as_object_mut()) {
        one.append(other);
    }
    one
}

/// A namespace as the flag says it.
fn mode(namespace: Option<&Namespace>) -> String {
    match namespace.map(|namespace| (namespace.mode(), &namespace.container)) {
        Some((NamespaceMode::Host, _)) => "host".to_owned(),
        Some((NamespaceMode::Container, other)) => format!("container:{other}"),
        _ => "private".to_owned(),
    }
}

fn bind(mount: &Mount) -> String {
    let read_only = if mount.read_only { ":ro" } else { "" };
    format!("{}:{}{read_only}", mount.source, mount.target)
}

fn mount(mount: &Mount) -> Value {
    let kind = if mount.r#type() == MountType::Bind { "bind" } else { "tmpfs" };
    json!({
        "Type": kind,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": mount.options.join(","),
        "RW": !mount.read_only,
    })
}

fn ulimit(limit: &v1::Rlimit) -> Value {
    json!({"Name": limit.r#type, "Soft": limit.soft, "Hard": limit.hard})
}

/// No container of hull has an address of its own: its network is none, the host's or another container's.
fn network_settings(config: &v1::ContainerConfig) -> Value {
    let network = config.namespaces.as_ref().and_then(|namespaces| namespaces.network.as_ref());
    let mut networks = Map::new();
    if network.is_none_or(|network| network.mode() != NamespaceMode::Container) {
        let none = json!({"IPAddress": "", "Gateway": "", "MacAddress": ""});
        networks.insert(network_name(network), none);
    }
    json!({"IPAddress": "", "Gateway": "", "MacAddress": "", "Ports": {}, "Networks": networks})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_as_docker_s_scripts_read_them() {
        let resources = v1::Resources {
            memory_max: Some(64 << 20),
            memory_swap_max: Some(1 << 20),
            pids_max: Some(9),
            ..Default::default()
        };
        let mount = Mount {
            r#type: MountType::Bind.into(),
            source: "/a".into(),
            target: "/b".into(),
            read_only: true,
            ..Default::default()
        };
        let config = v1::ContainerConfig {
            resources: Some(resources),
            mounts: vec![mount],
            entrypoint: vec!["/init".into()],
            args: vec!["serve".into()],
            ..Default::default()
        };
        let exit = Some(v1::ExitStatus { code: 3, ..Default::default() });
        let (id, name) = ("0123456789abcdef".repeat(4), "web".to_owned());
        let container = Container {
            id,
            name,
            exit,
            config: Some(config),
            state: ContainerState::Exited.into(),
            ..Default::default()
        };
        let details = container_details(&container);
        assert_eq!(details["State"]["Status"], "exited");
        assert_eq!((&details["State"]["Running"], &details["State"]["ExitCode"]), (&json!(false), &json!(3)));
        assert_eq!(details["Name"], "/web");
        assert_eq!((&details["Path"], &details["Args"]), (&json!("/init"), &json!(["serve"])));
        assert_eq!(details["HostConfig"]["MemorySwap"], 65 << 20);
        assert_eq!(
            (&details["HostConfig"]["Binds"], &details["HostConfig"]["PidsLimit"]),
            (&json!(["/a:/b:ro"]), &json!(9))
        );
        assert_eq!(details["Config"]["Hostname"], "0123456789ab");
        assert_eq!(details["NetworkSettings"]["Networks"]["none"]["IPAddress"], "");
        assert_eq!(details["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    }
}
