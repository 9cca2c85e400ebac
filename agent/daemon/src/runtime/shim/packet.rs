//! One message per packet, with descriptors, over a SOCK_SEQPACKET socket. By rustix, whose received descriptors are owned.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use hull_wire::MAX_FDS;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::runtime::watched::Watched;

/// Sends one packet, waiting while the peer's queue is full.
pub(super) async fn send(socket: &Watched, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    loop {
        let mut guard = socket.writable().await?;
        let sent = guard.try_io(|inner| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(inner.get_ref(), &[IoSlice::new(bytes)], &mut control, flags)?)
        });
        if let Ok(result) = sent {
            return result.map(|_| ());
        }
    }
}

/// Receives one packet into `buffer`: its length (0: the peer is gone) and its descriptors, at most [`MAX_FDS`].
pub(super) async fn receive(socket: &Watched, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    loop {
        let mut guard = socket.readable().await?;
        let received = guard.try_io(|inner| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let message = recvmsg(inner.get_ref(), &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
            let fds = control
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect();
            Ok((message.bytes, fds))
        });
        if let Ok(result) = received {
            return result;
        }
    }
}
