//! The connection to one shim: requests with answers, events as they come.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hull_wire::{Event, ExitRecord, MAX_PACKET, Outcome, Report, Request, RequestBody};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};
use tokio::sync::{oneshot, watch};

use super::packet;
use crate::error::{Error, Reason, Result};
use crate::runtime::watched::{Watched, watch};

/// What a shim answered, and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) fds: Vec<OwnedFd>,
}

/// How a connection ended, or that it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// It stands.
    Up,
    /// The container ended, then the shim.
    Exited(ExitRecord),
    /// The shim went without a word; the exit file may tell.
    Lost,
}

/// A connected shim. Dropping the last one closes the connection; the shim goes on.
#[derive(Debug)]
pub(crate) struct ShimClient {
    socket: Arc<Watched>,
    next_seq: AtomicU64,
    waiting: Arc<Waiting>,
    link: watch::Receiver<Link>,
    reader: tokio::task::JoinHandle<()>,
}

/// Who waits for what. Plain locks: held for a map operation only.
#[derive(Debug, Default)]
struct Waiting {
    replies: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    execs: Mutex<HashMap<u64, oneshot::Sender<ExitRecord>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShimClient {
    /// Takes a connected socket over. Must be called within the runtime.
    pub(crate) fn new(socket: OwnedFd) -> Result<Arc<Self>> {
        let socket = watch(socket).map_err(|error| Error::io("watching the shim's socket", &error))?;
        let socket = Arc::new(socket);
        let waiting = Arc::new(Waiting::default());
        let (link_sender, link) = watch::channel(Link::Up);
        let reader = tokio::spawn(read_reports(Arc::clone(&socket), Arc::downgrade(&waiting), link_sender));
        Ok(Arc::new(Self { socket, next_seq: AtomicU64::new(1), waiting, link, reader }))
    }

    /// Connects to the shim that listens at `path`. `None` if none does.
    pub(crate) fn connect(path: &Path) -> Result<Option<Arc<Self>>> {
        let socket = seqpacket_socket()?;
        let address = address(path)?;
        match connect(&socket, &address) {
            Ok(()) => Self::new(socket).map(Some),
            Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io(format!("connecting to {}", path.display()), &io::Error::from(errno))),
        }
    }

    /// Asks and waits for the answer, `deadline` at most.
    pub(crate) async fn call(&self, body: RequestBody, fds: &[BorrowedFd<'_>], deadline: Duration) -> Result<Answer> {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let bytes = hull_wire::encode(&Request { seq, body })
            .map_err(|error| Error::new(Reason::Internal, error.to_string()))?;
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting.replies).insert(seq, sender);
        let forget = Forget { waiting: &self.waiting, seq };
        let exchange = async {
            let answer = async {
                packet::send(&self.socket, &bytes, fds).await.ok()?;
                receiver.await.ok()
            };
            tokio::select! {
                biased;
                Some(answer) = answer => Ok(answer),
                // Also where the request went out: a shim that has told of the end reads nothing any more.
                link = self.ended() => Err(match link {
                    Link::Exited(_) => Self::ended_error(),
                    Link::Up | Link::Lost => Error::new(Reason::ShimLost, "the container's shim is gone"),
                }),
            }
        };
        let answer = tokio::time::timeout(deadline, exchange).await.map_err(|_| {
            Error::new(Reason::ShimLost, format!("the shim did not answer within {deadline:?}"))
                .hint("see the process state of the shim; `hullctl rm -f` ends the container")
        });
        drop(forget);
        answer?
    }

    /// Asks for something that is done or not. A refusal becomes an error with `reason`.
    pub(crate) async fn command(&self, body: RequestBody, fds: &[BorrowedFd<'_>], reason: Reason) -> Result<()> {
        match self.call(body, fds, COMMAND_DEADLINE).await?.outcome {
            Outcome::Failed(failure) => Err(Error::from_failure(reason, &failure)),
            _ => Ok(()),
        }
    }

    /// Announces an exec, so that its exit cannot be missed.
    pub(crate) fn expect_exec(&self, exec_id: u64) -> oneshot::Receiver<ExitRecord> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting.execs).insert(exec_id, sender);
        receiver
    }

    /// Takes [`Self::expect_exec`] back.
    pub(crate) fn forget_exec(&self, exec_id: u64) {
        lock(&self.waiting.execs).remove(&exec_id);
    }

    /// What is said to a request that came too late.
    pub(crate) fn ended_error() -> Error {
        Error::new(Reason::InvalidState, "the container has ended")
    }

    /// Waits until the connection has ended, and says how.
    pub(crate) async fn ended(&self) -> Link {
        let mut link = self.link.clone();
        link.wait_for(|link| *link != Link::Up).await.map_or(Link::Lost, |link| link.clone())
    }
}

/// Time for a shim to do what takes no time. Generous: a loaded node is slow, a hung shim is rare.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

impl Drop for ShimClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Forgets a request that nobody waits for any more.
struct Forget<'a> {
    waiting: &'a Waiting,
    seq: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.waiting.replies).remove(&self.seq);
    }
}

async fn read_reports(socket: Arc<Watched>, waiting: Weak<Waiting>, link: watch::Sender<Link>) {
    let mut buffer = vec![0; 4096];
    let mut last = Link::Lost;
    loop {
        let (length, fds) = match packet::receive(&socket, &mut buffer).await {
            // The shim went with a request unread. The kernel says so once, and before what the shim had said.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Ok((0, _)) | Err(_) => break,
            Ok(received) => received,
        };
        let Some(waiting) = waiting.upgrade() else { break };
        match hull_wire::decode::<Report>(&buffer[..length]) {
            Ok(Report::Reply { seq, outcome }) => {
                if let Some(sender) = lock(&waiting.replies).remove(&seq) {
                    // The caller may have given up.
                    let _ = sender.send(Answer { outcome, fds });
                }
            }
            Ok(Report::Event(Event::ExecExited { exec_id, exit })) => {
                if let Some(sender) = lock(&waiting.execs).remove(&exec_id) {
                    let _ = sender.send(exit);
                }
            }
            Ok(Report::Event(Event::Exited(exit))) => {
                last = Link::Exited(exit);
                break;
            }
            Err(error) => {
                tracing::error!(%error, "a shim sent nonsense; its connection is closed");
                break;
            }
        }
    }
    if let Some(waiting) = waiting.upgrade() {
        lock(&waiting.replies).clear();
        lock(&waiting.execs).clear();
    }
    link.send_replace(last);
}

/// Largest message of a shim fits: reports are small, but failures carry text.
const _: () = assert!(MAX_PACKET >= 4096);

fn seqpacket_socket() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
        .map_err(|errno| Error::io("making a socket", &io::Error::from(errno)))
}

fn address(path: &Path) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|_| {
        Error::new(Reason::System, format!("the path {} is too long for a socket", path.display()))
            .hint("choose a shorter --run-dir")
    })
}

/// Makes the socket at `path` at which a shim is going to listen. It exists before the shim has it, so that an agent
/// that comes back finds out without guessing whether a shim lives: a refused connection means that none does. Blocking.
pub(crate) fn listen(path: &Path) -> Result<OwnedFd> {
    let what = || format!("listening on {}", path.display());
    let socket = seqpacket_socket()?;
    bind(&socket, &address(path)?).map_err(|errno| Error::io(what(), &io::Error::from(errno)))?;
    rustix::net::listen(&socket, 4).map_err(|errno| Error::io(what(), &io::Error::from(errno)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_words_are_heard_though_a_request_was_left_unread() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let client = ShimClient::new(ours).unwrap();
        packet::send(&client.socket, b"unread", &[]).await.unwrap();
        let exit = ExitRecord { code: 7, signal: 0, oom_killed: false, finished_at_nanos: 1 };
        let words = hull_wire::encode(&Report::Event(Event::Exited(exit.clone()))).unwrap();
        rustix::net::send(&theirs, &words, rustix::net::SendFlags::empty()).unwrap();
        drop(theirs);
        assert_eq!(client.ended().await, Link::Exited(exit));
    }

    #[tokio::test]
    async fn a_request_after_the_last_words_is_too_late_at_once() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let client = ShimClient::new(ours).unwrap();
        let exit = ExitRecord { code: 7, signal: 0, oom_killed: false, finished_at_nanos: 1 };
        let words = hull_wire::encode(&Report::Event(Event::Exited(exit))).unwrap();
        rustix::net::send(&theirs, &words, rustix::net::SendFlags::empty()).unwrap();
        client.ended().await;
        // Still open: the shim lingers, but reads nothing.
        let answer = client.call(RequestBody::Status, &[], Duration::MAX).await;
        assert_eq!(answer.err(), Some(ShimClient::ended_error()));
        drop(theirs);
    }
}
