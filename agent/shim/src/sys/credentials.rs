//! Ids, capabilities, privileges and the system call filter of the calling thread, which is the whole process.

use nix::unistd::{Gid, Uid};

use super::check;

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capset(2) with 64 bits each.
pub(crate) fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> nix::Result<()> {
    let header = CapabilityHeader { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapabilityData {
        effective: low(effective >> shift),
        permitted: low(permitted >> shift),
        inheritable: low(inheritable >> shift),
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads a header and two data structures, which these are.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

fn low(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default()
}

/// PR_CAPBSET_DROP, see capabilities(7). EINVAL: the kernel knows no such capability.
pub(crate) fn drop_bounding(capability: u32) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0)
}

/// PR_CAP_AMBIENT_CLEAR_ALL.
pub(crate) fn clear_ambient() -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
}

/// PR_CAP_AMBIENT_RAISE.
pub(crate) fn raise_ambient(capability: u32) -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability))
}

fn prctl(option: libc::c_int, first: u64, second: u64) -> nix::Result<()> {
    // SAFETY: these options take numbers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, first, second, 0, 0) }).map(drop)
}

/// setgroups(2), setresgid(2), setresuid(2), in the order in which they are permitted. By system call: glibc's functions would
/// tell other threads, and there are none.
pub(crate) fn set_ids(uid: Uid, gid: Gid, groups: &[Gid]) -> nix::Result<()> {
    let groups: Vec<libc::gid_t> = groups.iter().map(|gid| gid.as_raw()).collect();
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    // SAFETY: the array lives during the call; the others take numbers only.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER with an array of struct sock_filter.
pub(crate) fn set_filter(program: &[u8], flags: u32) -> nix::Result<()> {
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|chunk| libc::sock_filter {
            code: u16::from_ne_bytes([chunk[0], chunk[1]]),
            jt: chunk[2],
            jf: chunk[3],
            k: u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
        })
        .collect();
    let len = u16::try_from(filter.len()).map_err(|_| nix::errno::Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program lives during the call, and the kernel only reads it.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
        .map(drop)
}
