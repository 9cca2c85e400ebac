//! Shims started ahead: executing a program costs as much as half of a container's set-up, so it is done before it is asked for.
//! A waiting shim ends by itself when the agent does.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hull_wire::Step;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{ShimBinary, ShimClient};
use crate::error::{Error, Result};

/// How long a start is left alone before the next shim is started.
const MOMENT: Duration = Duration::from_millis(20);

/// A started shim that has nothing to do yet.
#[derive(Debug)]
pub(crate) struct WarmShim {
    pub(crate) client: Arc<ShimClient>,
}

/// Where starts get their shim.
#[derive(Clone, Debug)]
pub(crate) struct ShimPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    binary: ShimBinary,
    size: usize,
    warm: Mutex<Vec<WarmShim>>,
    /// Whether a task is at it already.
    refilling: AtomicBool,
}

impl ShimPool {
    /// A pool that keeps `size` shims warm, once [`Self::refill`] was called.
    pub(crate) fn new(binary: ShimBinary, size: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                binary,
                size,
                warm: Mutex::new(Vec::with_capacity(size)),
                refilling: AtomicBool::new(false),
            }),
        }
    }

    /// A shim: a warm one, else a new one.
    pub(crate) async fn take(&self) -> Result<WarmShim> {
        let warm = self.warm().pop();
        match warm {
            Some(shim) => Ok(shim),
            None => self.spawn().await,
        }
    }

    /// Starts what is missing, in the background, so as not to compete with the start that was: at once where none is left,
    /// otherwise after a moment, which is all that many a container lives.
    pub(crate) fn refill(&self) {
        if self.warm().len() >= self.inner.size || self.inner.refilling.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            while pool.warm().len() < pool.inner.size {
                if !pool.warm().is_empty() {
                    tokio::time::sleep(MOMENT).await;
                }
                match pool.spawn().await {
                    Ok(shim) => pool.warm().push(shim),
                    Err(error) => {
                        tracing::warn!(%error, "cannot start a shim ahead");
                        break;
                    }
                }
            }
            pool.inner.refilling.store(false, Ordering::Release);
        });
    }

    /// How many shims wait for a container.
    pub(crate) fn waiting(&self) -> usize {
        self.warm().len()
    }

    /// How many are to wait.
    pub(crate) fn wanted(&self) -> usize {
        self.inner.size
    }

    fn warm(&self) -> std::sync::MutexGuard<'_, Vec<WarmShim>> {
        self.inner.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn spawn(&self) -> Result<WarmShim> {
        let path = self.inner.binary.path();
        let handle = tokio::runtime::Handle::current();
        let spawned = tokio::task::spawn_blocking(move || {
            let _runtime = handle.enter();
            spawn_process(&path)
        });
        let socket = spawned
            .await
            .map_err(|error| Error::io("starting the shim", &io::Error::other(error)))?
            .map_err(|error| Error::io("", &error).step(Step::Shim))?;
        Ok(WarmShim { client: ShimClient::new(socket)? })
    }
}

/// Starts the program with one end of a socket as descriptor 0, and returns the other end.
fn spawn_process(path: &str) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut child = tokio::process::Command::new(path)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    // Only to reap it: the shim outlives the agent if the agent goes first.
    tokio::spawn(async move {
        let _ = child.wait().await;
    });
    Ok(ours)
}
