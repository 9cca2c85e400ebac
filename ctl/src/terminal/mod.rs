//! The caller's side of a program that runs in a container: its terminal, its signals, its standard streams.

mod ask;
mod detach;
mod raw;
mod screen;
mod session;
mod signals;
mod stdio;

pub(crate) use ask::{ask, ask_secretly};
pub(crate) use detach::DetachKeys;
pub(crate) use raw::{RawMode, stdin_is_terminal, terminal_size};
pub(crate) use screen::Screen;
pub(crate) use session::{Ending, Input, Output, Peer, Session, Shown, Streams};
pub(crate) use signals::{Signals, WindowChanges};
