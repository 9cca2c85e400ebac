//! File and flags -> checked configuration. Reading it changes nothing on the node.

mod logs;
mod metrics;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::images::RegistryConfig;
use crate::lifecycle::config::LogLimits;
pub(crate) use metrics::MetricsConfig;

/// Read if it exists and no other is named.
const DEFAULT_FILE: &str = "/etc/hull/hulld.toml";
/// Where the shim is if it is not beside hulld.
const INSTALLED_SHIM: &str = "/usr/libexec/hull/hull-shim";
/// Host ids of one user namespace.
pub(crate) const USERNS_SIZE: u32 = 65_536;
/// Most bytes of a unix socket's path, see unix(7).
const MAX_SOCKET_PATH: usize = 107;
/// Most bytes of the path of a socket that is listened on: for a moment it has another name with ".PID~" at its end.
const MAX_LISTEN_PATH: usize = MAX_SOCKET_PATH - 9;
/// What hull puts below the run directory for a container's socket at most: "/containers/", 32 digits, "/shim.sock".
const LONGEST_SOCKET_BELOW: usize = 12 + 32 + 10;
/// Most bytes of the configuration file.
const MAX_FILE: u64 = 1024 * 1024;
/// Most shims that wait for containers.
const MAX_WARM_SHIMS: u32 = 64;
/// Bounds of the time without a byte after which a connection to a registry counts as lost.
const MIN_STALL_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_STALL_TIMEOUT: Duration = Duration::from_secs(3600);

/// The hull node agent. Flags override the configuration file, whose keys are named like them.
#[derive(Debug, Default, Parser)]
#[command(name = "hulld", version, about, max_term_width = 120)]
pub(crate) struct Flags {
    /// Configuration file, TOML [default: /etc/hull/hulld.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration, print nothing if it is right, and end
    #[arg(long)]
    pub(crate) check_config: bool,
    #[command(flatten)]
    settings: Settings,
}

/// What file and flags can say.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Directory for images, records, writable layers and logs [default: /var/lib/hull]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory for sockets, mounts and what else ends with a boot [default: /run/hull]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Control group below which those of containers are made [default: /hull]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Address to listen on: unix://PATH or tcp://IP:PORT; repeatable [default: unix://RUN_DIR/hull.sock]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Certificate chain for tcp addresses, PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Certificates of the authorities whose clients are let in, PEM
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// The shim's executable [default: hull-shim beside hulld, else /usr/libexec/hull/hull-shim]
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    /// First host id of the ranges for user namespaces [default: 524288]
    #[arg(long, value_name = "ID")]
    userns_base: Option<u32>,
    /// Ranges of 65536 host ids for user namespaces [default: 4096]
    #[arg(long, value_name = "N")]
    userns_count: Option<u32>,
    /// Directory with HOST/hosts.toml: mirrors, certificates and plain http of registries [default: /etc/hull/certs.d]
    #[arg(long, value_name = "DIR")]
    registry_config: Option<PathBuf>,
    /// Docker config.json with credentials of registries, for pulls and pushes that bring none [default: none]
    #[arg(long, value_name = "FILE")]
    registry_auth_file: Option<PathBuf>,
    /// Time without a byte after which a connection to a registry counts as lost [default: 30s]
    #[arg(long, value_name = "TIME")]
    registry_stall_timeout: Option<String>,
    /// Shims that are started before a container needs them [default: 2]
    #[arg(long, value_name = "N")]
    warm_shims: Option<u32>,
    /// Most bytes of one file of a container's log that does not have its own limit, such as 16m [default: 16m]
    #[arg(long, value_name = "SIZE")]
    container_log_max_size: Option<String>,
    /// Most files of such a log [default: 5]
    #[arg(long, value_name = "N")]
    container_log_max_files: Option<u32>,
    /// What to log: a level (error, warn, info, debug, trace) or directives such as "info,hulld=debug" [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How to log [default: text]
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// Address at which metrics are told over HTTP: IP:PORT [default: none]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// Let the address of metrics be one that others than this node reach: whoever does needs no password
    #[arg(long)]
    metrics_open: bool,
    /// Label of containers that metrics carry as container_label_KEY; repeatable [default: none]
    #[arg(long, value_name = "KEY")]
    metrics_label: Vec<String>,
    /// Mode of unix sockets, octal [default: 0660]
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<String>,
    /// Group of unix sockets, by name or id [default: the agent's]
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
}

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Files for mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: PathBuf,
}

/// Host ids for user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsernsRanges {
    /// First host id.
    pub(crate) base: u32,
    /// How many ranges of [`USERNS_SIZE`] ids.
    pub(crate) count: u32,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Permission bits of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketMode(pub(crate) u32);

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    /// Absolute, without a slash at its end.
    pub(crate) cgroup_parent: String,
    pub(crate) listen: Vec<Listen>,
    pub(crate) tls: Option<Tls>,
    pub(crate) shim: PathBuf,
    pub(crate) userns: UsernsRanges,
    pub(crate) registries: RegistryConfig,
    pub(crate) warm_shims: u32,
    /// Limits of containers' logs.
    pub(crate) logs: LogLimits,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// `None`: metrics are told to nobody.
    pub(crate) metrics: Option<MetricsConfig>,
    pub(crate) socket_mode: SocketMode,
    /// Group's name or id; `None`: the agent's own.
    pub(crate) socket_group: Option<String>,
}

impl Config {
    /// Reads the file that the flags name, lays the flags over it and checks the outcome.
    ///
    /// # Errors
    /// One line that names the key and what is wrong with it.
    pub(crate) fn load(flags: Flags) -> Result<Self> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
            None => Settings::default(),
        };
        check(flags.settings.over(file))
    }
}

fn read(path: &Path) -> Result<Settings> {
    let failed = |error| Error::io(format_args!("reading {}", path.display()), &error);
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(Error::invalid("config", format!("{} is larger than {MAX_FILE} bytes", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        Error::invalid(&format!("{} line {line}", path.display()), error.message())
    })
}

impl Settings {
    /// These settings, and `under` where they say nothing.
    fn over(self, under: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(under.data_dir),
            run_dir: self.run_dir.or(under.run_dir),
            cgroup_parent: self.cgroup_parent.or(under.cgroup_parent),
            listen: if self.listen.is_empty() { under.listen } else { self.listen },
            tls_cert: self.tls_cert.or(under.tls_cert),
            tls_key: self.tls_key.or(under.tls_key),
            tls_client_ca: self.tls_client_ca.or(under.tls_client_ca),
            shim: self.shim.or(under.shim),
            userns_base: self.userns_base.or(under.userns_base),
            userns_count: self.userns_count.or(under.userns_count),
            registry_config: self.registry_config.or(under.registry_config),
            registry_auth_file: self.registry_auth_file.or(under.registry_auth_file),
            registry_stall_timeout: self.registry_stall_timeout.or(under.registry_stall_timeout),
            warm_shims: self.warm_shims.or(under.warm_shims),
            container_log_max_size: self.container_log_max_size.or(under.container_log_max_size),
            container_log_max_files: self.container_log_max_files.or(under.container_log_max_files),
            log_level: self.log_level.or(under.log_level),
            log_format: self.log_format.or(under.log_format),
            metrics_listen: self.metrics_listen.or(under.metrics_listen),
            metrics_open: self.metrics_open || under.metrics_open,
            metrics_label: if self.metrics_label.is_empty() { under.metrics_label } else { self.metrics_label },
            socket_mode: self.socket_mode.or(under.socket_mode),
            socket_group: self.socket_group.or(under.socket_group),
        }
    }
}

fn check(settings: Settings) -> Result<Config> {
    let data_dir = absolute("data-dir", settings.data_dir.unwrap_or_else(|| "/var/lib/hull".into()))?;
    let run_dir = absolute("run-dir", settings.run_dir.unwrap_or_else(|| "/run/hull".into()))?;
    let room = MAX_SOCKET_PATH - LONGEST_SOCKET_BELOW;
    if run_dir.as_os_str().len() > room {
        let problem =
            format!("is longer than {room} bytes: the sockets below it would be longer than a socket's path may be");
        return Err(Error::invalid("run-dir", problem));
    }
    if data_dir == run_dir {
        return Err(Error::invalid("run-dir", "is the same directory as data-dir"));
    }
    let listen = if settings.listen.is_empty() {
        vec![Listen::Unix(run_dir.join("hull.sock"))]
    } else {
        settings.listen.iter().map(|address| listen(address)).collect::<Result<_>>()?
    };
    let tls = tls(&listen, settings.tls_cert, settings.tls_key, settings.tls_client_ca)?;
    Ok(Config {
        data_dir,
        run_dir,
        cgroup_parent: cgroup_parent(settings.cgroup_parent)?,
        listen,
        tls,
        shim: absolute("shim", settings.shim.unwrap_or_else(default_shim))?,
        userns: userns(settings.userns_base.unwrap_or(524_288), settings.userns_count.unwrap_or(4096))?,
        registries: registries(
            settings.registry_config,
            settings.registry_auth_file,
            settings.registry_stall_timeout.as_deref(),
        )?,
        warm_shims: match settings.warm_shims.unwrap_or(2) {
            shims if shims <= MAX_WARM_SHIMS => shims,
            _ => return Err(Error::invalid("warm-shims", format!("must be between 0 and {MAX_WARM_SHIMS}"))),
        },
        logs: logs::check(settings.container_log_max_size.as_deref(), settings.container_log_max_files)?,
        log_level: log_level(settings.log_level)?,
        log_format: match settings.log_format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(Error::invalid("log-format", format!("{other:?} is neither text nor json"))),
        },
        metrics: metrics::check(settings.metrics_listen.as_deref(), settings.metrics_open, settings.metrics_label)?,
        socket_mode: socket_mode(settings.socket_mode.as_deref().unwrap_or("0660"))?,
        socket_group: settings.socket_group,
    })
}

fn absolute(key: &str, path: PathBuf) -> Result<PathBuf> {
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && plain {
        // Without doubled or trailing slashes, so that lengths and comparisons mean something.
        return Ok(path.components().collect());
    }
    Err(Error::invalid(key, format!("{} is not an absolute path without \"..\"", path.display())))
}

fn cgroup_parent(given: Option<String>) -> Result<String> {
    let path = absolute("cgroup-parent", given.unwrap_or_else(|| "/hull".to_owned()).into())?;
    match path.to_str() {
        Some("/") => Err(Error::invalid("cgroup-parent", "is the root; hull needs a group of its own")),
        Some(path) => Ok(path.to_owned()),
        None => Err(Error::invalid("cgroup-parent", "is not UTF-8")),
    }
}

fn listen(address: &str) -> Result<Listen> {
    let wrong = |problem: &str| Error::invalid("listen", format!("{address}: {problem}"));
    if let Some(path) = address.strip_prefix("unix://") {
        let path = absolute("listen", path.into())?;
        if path.as_os_str().len() > MAX_LISTEN_PATH {
            return Err(wrong(&format!("the path is longer than {MAX_LISTEN_PATH} bytes")));
        }
        return Ok(Listen::Unix(path));
    }
    let Some(address) = address.strip_prefix("tcp://") else {
        return Err(wrong("must begin with unix:// or tcp://"));
    };
    SocketAddr::from_str(address).map(Listen::Tcp).map_err(|_| wrong("is not IP:PORT"))
}

fn tls(
    listen: &[Listen],
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<Tls>> {
    let tcp = listen.iter().any(|listen| matches!(listen, Listen::Tcp(_)));
    if !tcp && certificate.is_none() && key.is_none() && client_ca.is_none() {
        return Ok(None);
    }
    let file = |name: &str, path: Option<PathBuf>| match path {
        Some(path) => absolute(name, path),
        None => Err(Error::invalid(name, "is required: a tcp address is served with mutual TLS or not at all")),
    };
    Ok(Some(Tls {
        certificate: file("tls-cert", certificate)?,
        key: file("tls-key", key)?,
        client_ca: file("tls-client-ca", client_ca)?,
    }))
}

fn default_shim() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|hulld| hulld.with_file_name("hull-shim"));
    beside.filter(|shim| shim.exists()).unwrap_or_else(|| INSTALLED_SHIM.into())
}

/// The last id of all, 2^32 - 1, means "none" to the kernel.
fn userns(base: u32, count: u32) -> Result<UsernsRanges> {
    if base < USERNS_SIZE {
        return Err(Error::invalid(
            "userns-base",
            format!("must be at least {USERNS_SIZE}: ids below belong to the host"),
        ));
    }
    let end = u64::from(base) + u64::from(count) * u64::from(USERNS_SIZE);
    if count == 0 || end > u64::from(u32::MAX) {
        return Err(Error::invalid("userns-count", "must be at least 1, and base + count * 65536 below 2^32"));
    }
    Ok(UsernsRanges { base, count })
}

fn registries(
    hosts: Option<PathBuf>,
    auth_file: Option<PathBuf>,
    stall_timeout: Option<&str>,
) -> Result<RegistryConfig> {
    let default = RegistryConfig::default();
    let stall_timeout = match stall_timeout.map(humantime::parse_duration).transpose() {
        Ok(given) => given.unwrap_or(default.stall_timeout),
        Err(error) => return Err(Error::invalid("registry-stall-timeout", error)),
    };
    if !(MIN_STALL_TIMEOUT..=MAX_STALL_TIMEOUT).contains(&stall_timeout) {
        return Err(Error::invalid("registry-stall-timeout", "must be between 100ms and 1h"));
    }
    Ok(RegistryConfig {
        hosts: hosts.map_or(Ok(default.hosts), |hosts| absolute("registry-config", hosts))?,
        auth_file: auth_file.map(|file| absolute("registry-auth-file", file)).transpose()?,
        stall_timeout,
    })
}

fn log_level(given: Option<String>) -> Result<String> {
    let level = given.unwrap_or_else(|| "info".to_owned());
    match tracing_subscriber::EnvFilter::try_new(&level) {
        Ok(_) => Ok(level),
        Err(error) => Err(Error::invalid("log-level", format!("{level:?}: {error}"))),
    }
}

fn socket_mode(text: &str) -> Result<SocketMode> {
    match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
        Ok(mode) if mode <= 0o777 => Ok(SocketMode(mode)),
        _ => Err(Error::invalid("socket-mode", format!("{text:?} is not an octal mode up to 0777"))),
    }
}

#[cfg(test)]
mod tests;
