//! The messages. Descriptors that come with one are listed in its documentation, in their order.

use serde::{Deserialize, Serialize};

use crate::{ExitRecord, Failure, StepTime};

/// Most bytes of one packet. What may be larger (plans) comes as a memfd.
pub const MAX_PACKET: usize = 64 * 1024;

/// Most descriptors with one packet.
pub const MAX_FDS: usize = 8;

/// A message of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the reply; never 0.
    pub seq: u64,
    /// What to do.
    pub body: RequestBody,
}

/// What the agent asks for. Each is answered by one [`Report::Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Set the container up and start its init. Descriptors: a memfd with the encoded [`crate::Plan`], the listening socket
    /// at [`crate::SHIM_SOCKET`] (made by the agent, so that from before the shim has it a connection tells whether a
    /// shim lives), then those of `attach`. Answer: [`Outcome::Started`]. The attachment is in place before init runs, so it sees every byte.
    Setup {
        /// First attachment, if any.
        attach: Option<AttachPipes>,
    },
    /// Start a further process. Descriptors: a memfd with the encoded [`crate::ProcessPlan`], then, unless it has a
    /// terminal, its standard input, output and error, which become the process's own.
    /// Answer: [`Outcome::ExecStarted`] and, with a terminal, the descriptor of its master side; later [`Event::ExecExited`].
    /// [`Outcome::Ended`] if init ended before the process could run.
    Exec {
        /// Chosen by the agent, unique in the life of the shim.
        exec_id: u64,
    },
    /// Send a signal. Answer: [`Outcome::Done`]; ESRCH if the target has ended.
    Signal {
        /// To whom.
        target: Target,
        /// Signal number.
        signal: i32,
    },
    /// Set the size of init's terminal. Answer: [`Outcome::Done`]; ENOTTY without one.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Connect pipes to init's standard streams. Descriptors: those of `pipes`. Answer: [`Outcome::Done`].
    /// The attachment ends when the agent closes its ends or when the container ends.
    Attach {
        /// Which streams.
        pipes: AttachPipes,
    },
    /// Tell the state. Answer: [`Outcome::Status`].
    Status,
    /// Hand over the root of the container as it is mounted. Answer: [`Outcome::Root`] and its descriptor.
    Root,
    /// In place of Setup, to a shim that has no container: mount the root of one that does not run, where nobody else sees it.
    /// Descriptor: a memfd with the encoded [`crate::ViewPlan`]. Answer: [`Outcome::Root`] and its descriptor. The shim ends,
    /// and with it what is mounted in that root, when the agent closes the connection.
    View,
}

/// Which descriptors come with an attachment, in this order: read end for input, write ends for output and error.
/// End of file on the input closes init's standard input where [`crate::Stdin::Open`] says `once`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPipes {
    /// A pipe that the shim copies to init's standard input (or terminal).
    pub stdin: bool,
    /// A pipe to which the shim copies standard output (or what the terminal shows).
    pub stdout: bool,
    /// A pipe to which the shim copies standard error.
    pub stderr: bool,
}

impl AttachPipes {
    /// How many descriptors these are.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(self.stdin) + usize::from(self.stdout) + usize::from(self.stderr)
    }
}

/// A process of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Its init.
    Init,
    /// The process of an exec.
    Exec(u64),
}

/// A message of the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Answer to the request with this number.
    Reply {
        /// Number of the request.
        seq: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something happened.
    Event(Event),
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Init runs the user's program.
    Started {
        /// Process id of init in the shim's pid namespace.
        pid: i32,
        /// The steps and how long each took.
        times: Vec<StepTime>,
    },
    /// The exec'd process runs its program.
    ExecStarted {
        /// Process id in the shim's original pid namespace.
        pid: i32,
    },
    /// Done.
    Done,
    /// State of the container.
    Status {
        /// Version of the shim's protocol.
        protocol: u32,
        /// Process id of init.
        pid: i32,
    },
    /// Not done.
    Failed(Failure),
    /// Not done: init has ended, and with it the container. [`Event::Exited`] follows.
    Ended,
    /// Its descriptor comes with this.
    Root,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An exec'd process has ended.
    ExecExited {
        /// Which.
        exec_id: u64,
        /// How.
        exit: ExitRecord,
    },
    /// Init has ended, its output is in the log, the exit file is written. The shim ends.
    Exited(ExitRecord),
}
