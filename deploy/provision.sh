#!/usr/bin/env bash
# Makes a Debian machine a hull node out of the tree that `deploy/install` laid out. Run as root; may be run again.
#
#   provision.sh TREE
set -euo pipefail

tree=${1:?usage: provision.sh TREE}
[[ -x $tree/usr/local/bin/hulld ]] || { echo "provision.sh: $tree holds no hulld: run 'make build' on the host first" >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends busybox-static kmod procps

systemctl stop hulld.service 2>/dev/null || true
cp -a --no-preserve=ownership "$tree/." /
/usr/local/bin/hulld --version || { echo "provision.sh: hulld does not run here: build it on this Debian release or an older one" >&2; exit 1; }

systemd-sysusers
# Whoever logs in by `vagrant ssh` may use the agent.
if id vagrant >/dev/null 2>&1; then usermod --append --groups hull vagrant; fi
systemctl daemon-reload
systemctl enable --now hulld.service
for _ in $(seq 100); do hullctl info >/dev/null 2>&1 && break; sleep 0.1; done
hullctl info

# An image to start with.
if ! hullctl image inspect demo/busybox:1 >/dev/null 2>&1; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/rootfs/bin" "$work/rootfs/etc" "$work/rootfs/tmp"
    cp "$(command -v busybox)" "$work/rootfs/bin/busybox"
    chroot "$work/rootfs" /bin/busybox --install -s /bin
    tar -C "$work/rootfs" -cf "$work/rootfs.tar" .
    hullctl image import "$work/rootfs.tar" --tag demo/busybox:1
fi
