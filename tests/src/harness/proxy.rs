//! An HTTP proxy before a registry that does what networks and registries do on bad days: it cuts, stalls, slows down, answers with
//! errors, spoils bytes; and it writes down what was asked of it.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Network, Registry};

/// Bytes that are passed on at once.
const PIECE: usize = 16 << 10;
/// How often one that stands still looks whether it may go.
const TICK: Duration = Duration::from_millis(10);

/// What is done to an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after this many bytes of the body.
    Cut(u64),
    /// Nothing comes after this many bytes of the body, and the connection stays.
    Stall(u64),
    /// Bytes of the body per second.
    Throttle(u64),
    /// The byte at this place of the body is another.
    Corrupt(u64),
    /// A Range is not seen: all of it comes.
    IgnoreRange,
    /// The registry is not asked; this is the answer: status, headers, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// The registry is not asked unless the request has this header as it is here; else as `Answer`.
    Unless(&'static str, String, u16, Vec<(String, String)>, Vec<u8>),
}

impl Fault {
    /// An answer without headers or body.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }
}

/// To which requests a fault is done, and how often.
#[derive(Debug)]
struct Rule {
    method: &'static str,
    path: String,
    times: u64,
    fault: Fault,
}

/// A request that came, and what became of it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Its headers, the names in lower case.
    pub headers: Vec<(String, String)>,
    /// Status of the answer; 0 while there is none.
    pub status: u16,
    /// Bytes of the answer's body that were passed on.
    pub sent: u64,
}

impl Asked {
    /// A header of the request; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    network: Arc<Network>,
    upstream: u16,
    ended: AtomicBool,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Asked>>,
}

impl Proxy {
    /// A proxy before a registry, in its network.
    pub fn before(registry: &Registry) -> Self {
        Self::start(registry.network(), registry.port())
    }

    /// A proxy before a port of loopback.
    pub fn start(network: &Arc<Network>, upstream: u16) -> Self {
        let port = network.port();
        let listener = network.listen(port);
        let shared = Arc::new(Shared {
            network: Arc::clone(network),
            upstream,
            ended: AtomicBool::new(false),
            rules: Mutex::default(),
            asked: Mutex::default(),
        });
        let server = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.ended.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&server);
                // A connection that breaks off is what it is here for.
                server.network.spawn(move || drop(shared.serve(&stream)));
            }
        });
        Self { shared, port, accepting: Some(accepting) }
    }

    /// Its host and port, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A reference to the registry, through it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Does this to the next `times` requests with this method (any if empty) whose path contains a text. Of several such faults the
    /// first one told that is not used up is done.
    pub fn fault(&self, method: &'static str, path: &str, times: u64, fault: Fault) {
        lock(&self.shared.rules).push(Rule { method, path: path.to_owned(), times, fault });
    }

    /// Forgets all faults that were told.
    pub fn mend(&self) {
        lock(&self.shared.rules).clear();
    }

    /// What was asked, in the order in which it came.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// What was asked with this method (any if empty) and a path that contains a text.
    pub fn asked_for(&self, method: &str, path: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| matches(method, path, asked)).collect()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        lock(&self.shared.asked).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // So that it is seen: the listener waits for someone.
        self.shared.network.is_open("127.0.0.1", self.port);
        if let Some(accepting) = self.accepting.take() {
            let _ended = accepting.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn matches(method: &str, path: &str, asked: &Asked) -> bool {
    (method.is_empty() || method == asked.method) && asked.path.contains(path)
}

/// The start of a message: its first line and its headers.
#[derive(Debug, Default)]
struct Head {
    line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one; nothing at the end of the connection.
    fn read(from: &mut impl io::BufRead) -> io::Result<Option<Self>> {
        let mut head = Self::default();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            if head.line.is_empty() {
                line.clone_into(&mut head.line);
            } else if let Some((name, value)) = line.split_once(':') {
                head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            } else {
                return Ok(Some(head));
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    /// Writes it, with the headers that are of this connection alone replaced.
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "connection") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("connection: close\r\n\r\n");
        to.write_all(text.as_bytes())
    }
}

impl Shared {
    /// Serves one request; the connection ends with it.
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut from_client = BufReader::new(client);
        let Some(mut head) = Head::read(&mut from_client)? else { return Ok(()) };
        let mut words = head.line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let asked = Asked { method, path, headers: head.headers.clone(), ..Asked::default() };
        let (number, fault) = self.note(asked);
        match &fault {
            Some(Fault::Answer(status, headers, body)) => {
                discard(&mut from_client, &head)?;
                return self.answer(client, number, *status, headers, body);
            }
            Some(Fault::Unless(name, value, status, headers, body)) if head.header(name) != Some(value) => {
                discard(&mut from_client, &head)?;
                return self.answer(client, number, *status, headers, body);
            }
            Some(Fault::IgnoreRange) => head.headers.retain(|(name, _)| name != "range"),
            _ => {}
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.upstream))?;
        head.write(&mut &server)?;
        // The answer may come before the request's body was taken, and then the body is not wanted.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = body(&mut from_client, &head, |piece| (&server).write_all(piece).map(|()| true));
            });
            let passed = self.pass(&server, client, number, head.line.starts_with("HEAD "), fault);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
            passed
        })
    }

    /// Writes a request down; its number, and what is to be done to its answer.
    fn note(&self, asked: Asked) -> (usize, Option<Fault>) {
        let fault = lock(&self.rules).iter_mut().find_map(|rule| {
            let applies = rule.times > 0 && matches(rule.method, &rule.path, &asked);
            applies.then(|| {
                rule.times -= 1;
                rule.fault.clone()
            })
        });
        let mut all = lock(&self.asked);
        all.push(asked);
        (all.len() - 1, fault)
    }

    fn update(&self, number: usize, change: impl FnOnce(&mut Asked)) {
        // It may have been forgotten meanwhile.
        if let Some(asked) = lock(&self.asked).get_mut(number) {
            change(asked);
        }
    }

    fn answer(
        &self,
        mut client: &TcpStream,
        number: usize,
        status: u16,
        headers: &[(String, String)],
        body: &[u8],
    ) -> io::Result<()> {
        self.update(number, |asked| asked.status = status);
        let mut head = Head { line: format!("HTTP/1.1 {status} As Told"), headers: headers.to_vec() };
        head.headers.push(("content-length".into(), body.len().to_string()));
        head.write(&mut client)?;
        client.write_all(body)
    }

    /// Passes an answer on, with a fault done to it.
    fn pass(
        &self,
        server: &TcpStream,
        mut client: &TcpStream,
        number: usize,
        is_head: bool,
        fault: Option<Fault>,
    ) -> io::Result<()> {
        let mut from_server = BufReader::new(server);
        let Some(head) = Head::read(&mut from_server)? else { return Ok(()) };
        let status = head.line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        self.update(number, |asked| asked.status = status);
        head.write(&mut client)?;
        if is_head {
            return Ok(());
        }
        let (mut sent, start) = (0_u64, Instant::now());
        body(&mut from_server, &head, |piece| {
            let (piece, goes_on) = self.spoil(piece.to_vec(), sent, start, fault.as_ref());
            client.write_all(&piece)?;
            sent += piece.len() as u64;
            self.update(number, |asked| asked.sent = sent);
            if !goes_on && matches!(fault, Some(Fault::Stall(_))) {
                self.stand_still(client);
            }
            Ok(goes_on)
        })
    }

    /// A piece of a body as it is passed on, and whether more of it is.
    fn spoil(&self, mut piece: Vec<u8>, sent: u64, start: Instant, fault: Option<&Fault>) -> (Vec<u8>, bool) {
        let end = sent + piece.len() as u64;
        match fault {
            Some(Fault::Cut(after) | Fault::Stall(after)) if end > *after => {
                piece.truncate(usize::try_from(after - sent).expect("a part of a piece"));
                return (piece, false);
            }
            Some(Fault::Throttle(rate)) => {
                let due = Duration::from_secs_f64(end as f64 / *rate as f64);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
            Some(Fault::Corrupt(at)) if (sent..end).contains(at) => {
                piece[usize::try_from(at - sent).expect("a place in a piece")] ^= 1;
            }
            _ => {}
        }
        (piece, true)
    }

    /// Waits until the client goes or the proxy ends.
    fn stand_still(&self, client: &TcpStream) {
        let _ = client.set_read_timeout(Some(TICK));
        let mut byte = [0];
        while !self.ended.load(Ordering::Relaxed) {
            match (&mut &*client).read(&mut byte) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                _ => return,
            }
        }
    }
}

/// Reads a body as it is framed, and hands it on in pieces until it is told to stop. Chunks are handed on with their frames.
fn body(from: &mut impl io::BufRead, head: &Head, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<()> {
    if head.is_chunked() {
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim_end().split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(|_| io::Error::other("a wrong chunk"))?;
            let mut chunk = line.into_bytes();
            from.take(size + 2).read_to_end(&mut chunk)?;
            if !take(&chunk)? || size == 0 {
                return Ok(());
            }
        }
    }
    let bodiless = head.line.contains(" HTTP/") || head.line.contains(" 204 ") || head.line.contains(" 304 ");
    let mut left = head.length().unwrap_or(if bodiless { 0 } else { u64::MAX });
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let count = from.read(&mut buffer[..most])?;
        if count == 0 || !take(&buffer[..count])? {
            return Ok(());
        }
        left -= count as u64;
    }
    Ok(())
}

fn discard(from: &mut impl io::BufRead, head: &Head) -> io::Result<()> {
    body(from, head, |_| Ok(true))
}
