//! What of the host's kernel a container reaches: devices and kernel parameters.

use hull_proto::v1::{ContainerConfig, Device, Namespace, NamespaceMode, Namespaces};
use hull_tests::harness::{Session, assert_error, host};
use tonic::Code;

const EPERM: &str = "1";

#[tokio::test]
async fn sysctls_of_the_container_s_namespaces_are_set_and_others_refused() {
    let hull = Session::shared().await;
    let sysctls =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config = ContainerConfig {
        sysctls: sysctls(&[("net.ipv4.ip_forward", "1"), ("net.ipv4.ping_group_range", "0 1000"), ("kernel.shmmax", "123456"), ("fs.mqueue.msg_max", "77")]),
        ..hull.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max")
    };
    assert_eq!(
        hull.output(config).await.text().split_whitespace().collect::<Vec<_>>(),
        ["1", "0", "1000", "123456", "77"]
    );
    let core_pattern = host::text("/proc/sys/kernel/core_pattern");
    for name in [
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel/core_pattern",
        "net.ipv4.../../kernel.panic",
        "kernel",
        "",
        "kernel.hostname\n",
        "fs.file-max",
    ] {
        let config = ContainerConfig { sysctls: sysctls(&[(name, "1")]), ..hull.probe(&[]) };
        let status = hull.try_create(config).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}: {status:?}");
    }
    let host_network = Some(Namespaces {
        network: Some(Namespace { mode: NamespaceMode::Host.into(), container: String::new() }),
        ..Namespaces::default()
    });
    let config = ContainerConfig {
        sysctls: sysctls(&[("net.ipv4.ip_forward", "1")]),
        namespaces: host_network,
        ..hull.probe(&[])
    };
    assert_error(hull.try_create(config).await, Code::InvalidArgument, "INVALID_ARGUMENT", "net.ipv4.ip_forward");
    assert_eq!(host::text("/proc/sys/kernel/core_pattern"), core_pattern);
    let missing = ContainerConfig { sysctls: sysctls(&[("net.ipv4.no_such_thing", "1")]), ..hull.probe(&[]) };
    let status = hull.try_run(missing).await.expect_err("no such parameter");
    assert!(status.message().contains("no_such_thing"), "{status:?}");
}

#[tokio::test]
async fn devices_outside_the_list_cannot_be_opened() {
    let hull = Session::shared().await;
    // Loop control (10:237) is on every host; the node can be made, but not opened.
    let line = "/probe mknod /tmp/loop-control c 10 237; /probe open rw /tmp/loop-control; /probe open r /dev/null; /probe open r /dev/zero; \
                /probe open rw /dev/full; /probe open r /dev/urandom; /probe mknod /tmp/mem c 1 1; /probe open r /tmp/mem";
    assert_eq!(hull.output(hull.shell(line)).await.lines(), ["0", EPERM, "0", "0", "0", "0", "0", EPERM]);
}

#[tokio::test]
async fn a_device_that_was_given_can_be_used_as_it_was_given() {
    let hull = Session::shared().await;
    let device = |permissions: &str| Device {
        host_path: "/dev/loop-control".into(),
        container_path: "/dev/given/ctl".into(),
        permissions: permissions.into(),
    };
    let line = "stat -c '%F %t:%T' /dev/given/ctl; /probe open r /dev/given/ctl; /probe open rw /dev/given/ctl";
    let full = hull.output(ContainerConfig { devices: vec![device("")], ..hull.shell(line) }).await.lines();
    assert_eq!(full, ["character special file a:ed", "0", "0"]);
    let read = hull.output(ContainerConfig { devices: vec![device("r")], ..hull.shell(line) }).await.lines();
    assert_eq!(read, ["character special file a:ed", "0", EPERM]);
    for wrong in [
        Device { host_path: "/no/such".into(), ..device("") },
        Device { host_path: "/etc/passwd".into(), ..device("") },
        Device { permissions: "x".into(), ..device("") },
        Device { container_path: "relative".into(), ..device("") },
    ] {
        let config = ContainerConfig { devices: vec![wrong.clone()], ..hull.probe(&[]) };
        let status = hull.try_run(config).await.expect_err("refused");
        assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{wrong:?}: {status:?}");
    }
}
