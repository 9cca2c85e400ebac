//! The black-box suite: one program, so that it is built and linked once and its tests share agents. `cargo test -p hull-tests
//! lifecycle::` runs one file's tests.

mod api_errors;
mod architecture;
mod attach_logs;
mod cgroups;
mod cli;
mod commit;
mod disk;
mod exec;
mod image_crash;
mod image_export;
mod image_keep;
mod images;
mod isolation_kernel;
mod isolation_namespaces;
mod isolation_privileges;
mod isolation_process;
mod isolation_rootfs;
mod layers_real;
mod lifecycle;
mod metrics;
mod node;
mod pull;
mod pull_cli;
mod pull_faults;
mod push;
mod registry_auth;
mod registry_hosts;
mod restart;
mod tls;
