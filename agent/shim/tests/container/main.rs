//! Black box: the real shim on the real kernel, the tests in the agent's place. See `driver` for what is needed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod driver;
mod host;
mod life;
mod setup;
