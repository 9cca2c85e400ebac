//! The steps of a start, and how one fails.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// A step between request and running process, in the order in which they come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl Step {
            /// What the runtime does in this step, as shown to users ("mounting the root file system").
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

steps! {
    /// Decoding what the agent sent.
    Plan => "reading the plan",
    /// Socket, log and exit file.
    RunDir => "preparing the run directory",
    /// Creating and limiting control groups (the agent's step).
    Cgroup => "creating the control group",
    /// Mounting layers (the agent's step).
    Layers => "mounting the image layers",
    /// Starting a shim (the agent's step).
    Shim => "starting the shim",
    /// Pipes or pseudo-terminal.
    Stdio => "setting up standard streams",
    /// A user namespace and its id maps.
    UserNamespace => "setting up the user namespace",
    /// Joining or making the other namespaces.
    Namespaces => "setting up namespaces",
    /// Offsets of the clocks.
    TimeNamespace => "setting clock offsets",
    /// clone3.
    Clone => "creating the process",
    /// Entering control groups.
    EnterCgroup => "entering the control group",
    /// The device filter.
    DeviceFilter => "loading the device filter",
    /// Overlay of the layers.
    Rootfs => "mounting the root file system",
    /// One of the mounts.
    Mount => "mounting",
    /// Device nodes and links.
    Devices => "creating devices",
    /// Generated files such as /etc/hosts.
    Files => "writing generated files",
    /// pivot_root.
    Pivot => "changing the root",
    /// Masked paths.
    Mask => "masking paths",
    /// Read-only paths.
    Readonly => "making paths read-only",
    /// Host and domain name.
    Hostname => "setting the host name",
    /// Loopback.
    Loopback => "bringing up the loopback interface",
    /// Kernel parameters.
    Sysctl => "setting a kernel parameter",
    /// Name to ids.
    User => "looking up the user",
    /// Resource limits.
    Rlimits => "setting resource limits",
    /// OOM adjustment.
    OomScore => "setting oom_score_adj",
    /// Capabilities and ids.
    Credentials => "setting user and capabilities",
    /// The system call filter.
    Seccomp => "loading the seccomp filter",
    /// Working directory.
    Cwd => "changing to the working directory",
    /// execve.
    Exec => "executing",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// During which step.
    pub step: Step,
    /// What the kernel said, see errno(3); 0 where it was not the kernel.
    pub errno: i32,
    /// What the step was about (a path, a parameter) or what is wrong, without the errno's text; may be empty.
    pub detail: String,
}

/// How long one step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step.
    pub step: Step,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub nanos: u64,
}
