//! Those who ask an agent for its metrics: a client that says what it is told to, and Debian's `prometheus`; and what they got, in
//! parts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{AgentOptions, Network, host, wait};

/// Where an agent of [`metered`] tells its metrics.
pub const METRICS_PORT: u16 = 9471;

/// What Prometheus says it understands.
pub const ACCEPT_OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;\
                                      version=0.0.4;q=0.5,*/*;q=0.1";

/// Options of an agent in a network of its own that tells metrics there.
pub fn metered(network: &Arc<Network>, arguments: &[&str]) -> AgentOptions {
    let mut all = vec!["--metrics-listen".to_owned(), format!("127.0.0.1:{METRICS_PORT}")];
    all.extend(arguments.iter().map(|word| (*word).to_owned()));
    AgentOptions { arguments: all, network: Some(Arc::clone(network)), ..AgentOptions::default() }
}

/// An answer over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

/// A connection to a port of a network's loopback.
///
/// # Panics
/// If nobody listens.
pub fn dial(network: &Network, port: u16) -> TcpStream {
    let connect = move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connecting");
    let stream = network.spawn(connect).join().expect("a thread");
    stream.set_read_timeout(Some(wait::soon())).expect("a timeout");
    stream
}

/// Sends a request as it stands, and reads until the other side closes.
///
/// # Panics
/// If there is no whole answer in time.
pub fn ask(network: &Network, port: u16, request: &str) -> Answer {
    let mut stream = dial(network, port);
    stream.write_all(request.as_bytes()).expect("sending");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("reading the answer");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

/// The metrics of an agent, in the format that `accept` asks for.
///
/// # Panics
/// If it tells none.
pub fn scrape(network: &Network, accept: &str) -> Answer {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let answer = ask(network, METRICS_PORT, &request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// One line of an exposition.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name.
    pub name: String,
    /// Labels, without escapes.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// The samples of an exposition, read as strictly as its grammar is.
///
/// # Panics
/// If a line is none.
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| sample(line).unwrap_or_else(|| panic!("{line}")))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, behind) = rest.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            if labels.insert(key.to_owned(), value).is_some() {
                return None;
            }
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// What stands before the closing quote, without escapes, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut letters) = (String::new(), text.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                letter @ ('"' | '\\') => letter,
                _ => return None,
            }),
            letter => value.push(letter),
        }
    }
    None
}

/// The values of a metric whose labels have all of these.
pub fn values(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    let fits = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(key, value)| sample.labels.get(*key).map_or("", String::as_str) == *value)
    };
    samples.iter().filter(fits).map(|sample| sample.value).collect()
}

/// The one value of a metric.
///
/// # Panics
/// If there is not exactly one.
pub fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    match values(samples, name, labels)[..] {
        [value] => value,
        ref others => panic!("{name} {labels:?}: {others:?}"),
    }
}

/// The names of all metrics.
pub fn names(samples: &[Sample]) -> BTreeSet<String> {
    samples.iter().map(|sample| sample.name.clone()).collect()
}

/// Runs `promtool`, with a text for its standard input; what it said, an error if it was not content.
///
/// # Errors
/// What promtool complained of.
///
/// # Panics
/// If it is not installed.
pub fn promtool(words: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("promtool")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: run `make deps`");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("writing to promtool");
    let output = child.wait_with_output().expect("promtool");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// A running Prometheus. It and what it keeps go when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    network: Arc<Network>,
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Prometheus {
    /// Starts one that scrapes an agent's metrics every second, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(network: &Arc<Network>) -> Self {
        let dir = tempfile::Builder::new().prefix("hull-prometheus-").tempdir().expect("a directory");
        let config = dir.path().join("config.json");
        let targets = json!([{"targets": [format!("127.0.0.1:{METRICS_PORT}")]}]);
        // JSON is YAML, too.
        let text = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "hull", "static_configs": targets}],
        });
        std::fs::write(&config, text.to_string()).expect("writing");
        let (port, log) = (network.port(), std::fs::File::create(dir.path().join("log")).expect("creating the log"));
        let child = network
            .command("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting nsenter");
        let mut prometheus = Self { network: Arc::clone(network), dir, port, child };
        wait::until("Prometheus listens", || {
            let ended = prometheus.child.try_wait().expect("waiting for Prometheus");
            assert!(ended.is_none(), "prometheus ended: run `make deps`?\n{}", prometheus.log());
            prometheus.network.is_open("127.0.0.1", port).then_some(())
        });
        // It listens before it can answer.
        wait::until("Prometheus is ready", || (prometheus.ask("/-/ready").status == 200).then_some(()));
        prometheus
    }

    /// What it said.
    pub fn log(&self) -> String {
        host::text(self.dir.path().join("log"))
    }

    /// What an expression is now: the labels and the value of each series.
    ///
    /// # Panics
    /// If Prometheus does not understand it.
    pub fn query(&self, expression: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={escaped}"));
        let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        let series = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).expect("labels");
            let value = series["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a value");
            (labels, value)
        };
        result.iter().map(series).collect()
    }

    /// An answer of its API.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.ask(path).body).expect("JSON of Prometheus")
    }

    fn ask(&self, path: &str) -> Answer {
        ask(&self.network, self.port, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of Prometheus:\n{}", self.log());
        }
    }
}
