//! Packets with descriptors on a SOCK_SEQPACKET socket, see unix(7).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use hull_wire::MAX_FDS;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg, sendmsg};

/// Receives one packet into `buffer`: its length (0: the other side has closed) and descriptors, which execve closes.
///
/// # Errors
/// Those of recvmsg(2); EMSGSIZE if the packet or its descriptors do not fit.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut ancillary = nix::cmsg_space!([libc::c_int; MAX_FDS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut ancillary), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for ancillary in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = ancillary {
            // SAFETY: the kernel just installed them for us.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((message.bytes, fds))
}

/// Sends one packet with at most one descriptor; never raises SIGPIPE. `wait`: block while the socket is full.
pub(crate) fn send(socket: BorrowedFd<'_>, packet: &[u8], fd: Option<BorrowedFd<'_>>, wait: bool) -> nix::Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let ancillary: Vec<ControlMessage<'_>> = raw.iter().map(|raw| ControlMessage::ScmRights(raw)).collect();
    let mut flags = MsgFlags::MSG_NOSIGNAL;
    if !wait {
        flags |= MsgFlags::MSG_DONTWAIT;
    }
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], &ancillary, flags, None).map(drop)
}

/// Takes a connection, which execve closes.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
