//! Runs inside containers and tells what it sees and what it may do.
//!
//! Without arguments (or with `report`) it writes a [`hull_probe::Report`] as JSON. The other commands are in `COMMANDS`.

mod hunt;
mod load;
mod report;
mod sys;

use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::from(99)
        }
    }
}

type Outcome = Result<u8, Box<dyn std::error::Error>>;

fn run(words: &[&str]) -> Outcome {
    match words {
        // `report` may be followed by anything, to test arguments.
        [] | ["report", ..] => println!("{}", serde_json::to_string(&report::collect())?),
        ["exit", code] => return Ok(code.parse()?),
        ["burn", millis] => burn(Duration::from_millis(millis.parse()?)),
        ["burn-exactly", millis] => load::burn_exactly(Duration::from_millis(millis.parse()?)),
        ["write-synced", path, bytes] => load::write_synced(path, bytes.parse()?)?,
        ["send", packets, bytes] => load::send(packets.parse()?, bytes.parse()?)?,
        ["alloc", megabytes] => alloc(megabytes.parse()?),
        ["fork", count] => fork(count.parse()?),
        ["write", path, bytes] => write(path, bytes.parse()?)?,
        ["lines", count] => lines(count.parse()?)?,
        ["long-line", bytes] => long_line(bytes.parse()?)?,
        ["syscalls", names @ ..] => syscalls(names),
        ["mknod", path, kind, major, minor] => {
            told(sys::mknod(&CString::new(*path)?, *kind == "b", major.parse()?, minor.parse()?));
        }
        // Two names change places for ever.
        ["exchange", one, other] => {
            let (one, other) = (CString::new(*one)?, CString::new(*other)?);
            println!("ready");
            loop {
                sys::exchange(&one, &other).map_err(std::io::Error::from_raw_os_error)?;
            }
        }
        ["open", mode, path] => open(mode, path),
        ["sigwait"] => sigwait(),
        ["ignore-term"] => {
            let mut next = sys::block_and_take(&[libc::SIGTERM, libc::SIGHUP]);
            println!("ready");
            while next().is_some() {}
        }
        ["tty"] => tty(),
        ["tty-watch"] => tty_watch(),
        ["cat"] => cat()?,
        ["count"] => count()?,
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["background"] => background()?,
        ["hunt"] => hunt::hunt(),
        ["hunt", "trace"] => hunt::trace(),
        ["own-exe"] => own_exe(),
        ["clock"] => println!("{} {}", sys::clock(libc::CLOCK_MONOTONIC), sys::clock(libc::CLOCK_BOOTTIME)),
        _ => return Err(format!("unknown command: {words:?}").into()),
    }
    Ok(0)
}

/// Prints "0" or an errno by number.
fn told<T>(result: Result<T, i32>) {
    println!("{}", result.err().unwrap_or(0));
}

/// Uses the processor.
fn burn(time: Duration) {
    let end = Instant::now() + time;
    let mut value = 1_u64;
    while Instant::now() < end {
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    println!("burnt");
}

/// Touches memory, then waits.
fn alloc(megabytes: usize) {
    let mut held = Vec::new();
    for _ in 0..megabytes {
        held.push(vec![1_u8; 1 << 20]);
    }
    println!("allocated {}", held.len());
    std::thread::sleep(Duration::from_secs(3600));
}

/// Starts children that sleep; tells how many it got and the errno of the failure; waits.
fn fork(count: u32) {
    let mut made = 0;
    let mut errno = 0;
    while made < count {
        match sys::fork_sleeper() {
            Ok(_) => made += 1,
            Err(error) => {
                errno = error;
                break;
            }
        }
    }
    println!("forked {made} {errno}");
    std::thread::sleep(Duration::from_secs(3600));
}

/// Writes a file of zeroes and tells the errno.
fn write(path: &str, bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let result = fs::File::create(path).and_then(|mut file| {
        let chunk = vec![0_u8; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            left -= file.write(&chunk[..left.min(chunk.len())])?;
        }
        Ok(())
    });
    told(result.map_err(|error| error.raw_os_error().unwrap_or(-1)));
    Ok(())
}

/// Numbered lines on standard output.
fn lines(count: u64) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for number in 0..count {
        writeln!(out, "line {number}")?;
    }
    out.flush()
}

/// One long line, then a short one.
fn long_line(bytes: usize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let text: Vec<u8> = (0..bytes).map(|at| b'a' + u8::try_from(at % 26).unwrap_or(0)).collect();
    out.write_all(&text)?;
    out.write_all(b"\nend\n")
}

/// Tries system calls; a line "NAME ERRNO" for each, 0 where it was let through.
fn syscalls(names: &[&str]) {
    for name in names {
        match sys::attempt(name) {
            Some(result) => println!("{name} {}", result.err().unwrap_or(0)),
            None => println!("{name} unknown"),
        }
    }
}

/// Opens a file for reading ("r") or writing ("w") and tells the errno.
fn open(mode: &str, path: &str) {
    let result = fs::OpenOptions::new().read(mode.contains('r')).write(mode.contains('w')).open(path);
    told(result.map_err(|error| error.raw_os_error().unwrap_or(-1)));
}

/// Prints each signal that comes; SIGTERM ends it with code 7.
fn sigwait() {
    let signals =
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM, libc::SIGWINCH];
    let mut next = sys::block_and_take(&signals);
    println!("ready");
    while let Some(signal) = next() {
        println!("signal {signal}");
        if signal == libc::SIGTERM {
            std::process::exit(7);
        }
    }
}

/// For each standard stream: its terminal's size, or "none".
fn tty() {
    for fd in 0..3 {
        match sys::window(fd) {
            Some((rows, columns)) => println!("{fd} {rows} {columns}"),
            None => println!("{fd} none"),
        }
    }
}

/// Prints the terminal's size at first and after each SIGWINCH.
fn tty_watch() {
    let mut next = sys::block_and_take(&[libc::SIGWINCH]);
    loop {
        if let Some((rows, columns)) = sys::window(0) {
            println!("size {rows} {columns}");
        }
        if next().is_none() {
            return;
        }
    }
}

/// Copies standard input to standard output and tells length and digest on standard error.
fn cat() -> std::io::Result<()> {
    let told = digest_to(&mut std::io::stdout().lock())?;
    eprintln!("{told}");
    Ok(())
}

/// Reads standard input to its end and tells its length and digest.
fn count() -> std::io::Result<()> {
    println!("{}", digest_to(&mut std::io::sink())?);
    Ok(())
}

fn digest_to(to: &mut dyn Write) -> std::io::Result<String> {
    let mut from = std::io::stdin().lock();
    let mut digest = Sha256::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut total = 0_u64;
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
        total += length as u64;
        to.write_all(&buffer[..length])?;
    }
    to.flush()?;
    Ok(format!("{total} {}", hex::encode(digest.finalize())))
}

/// Leaves a child behind that holds standard output and error.
fn background() -> std::io::Result<()> {
    let child = Command::new("/proc/self/exe").arg("sleep").stdin(Stdio::null()).spawn()?;
    println!("left {}", child.id());
    Ok(())
}

/// Tries what CVE-2019-5736 did: to open, for writing, the program that set this process up, through /proc. Prints a line for each
/// process that can be seen: its id, its program, and the errno of the attempt.
fn own_exe() {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for id in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let path = format!("/proc/{id}/exe");
        let program = fs::read_link(&path).map(|path| path.display().to_string()).unwrap_or_default();
        let opened = fs::OpenOptions::new().write(true).open(&path);
        println!("{id} {program} {}", opened.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
    }
}
