//! Work of a known amount, to compare with what statistics tell.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::sys;

/// Uses so much processor time, however long that takes, tells how much it was, and waits.
pub fn burn_exactly(time: Duration) {
    let end = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut value = 1_u64;
    let used = loop {
        let used = sys::processor_nanos();
        if used >= end {
            break used;
        }
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    };
    println!("burnt {used}");
    std::thread::sleep(Duration::from_secs(3600));
}

/// Writes a file of noise to the disk, and waits.
pub fn write_synced(path: &str, bytes: usize) -> io::Result<()> {
    let noise: Vec<u8> =
        (0_u64..).flat_map(|word| (word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).take(bytes).collect();
    let mut file = fs::File::create(path)?;
    file.write_all(&noise)?;
    file.sync_all()?;
    println!("written {bytes}");
    std::thread::sleep(Duration::from_secs(3600));
    Ok(())
}

/// Sends packets of so many bytes of payload to itself over the loopback interface, one after the other, and waits.
pub fn send(packets: u32, bytes: usize) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(socket.local_addr()?)?;
    let payload = vec![7; bytes];
    let mut buffer = vec![0; bytes];
    for _ in 0..packets {
        socket.send(&payload)?;
        socket.recv(&mut buffer)?;
    }
    println!("sent {packets}");
    std::thread::sleep(Duration::from_secs(3600));
    Ok(())
}
