//! Network interfaces.

use super::{decimal, lines, split, words};
use crate::stats::sample::{Interface, InterfaceName, NetworkStats};

/// Most interfaces that are listed: a container may make as many as it likes.
const MAX_INTERFACES: usize = 256;

/// `/proc/PID/net/dev`, see proc_pid_net(5): two lines of headings, then "NAME:" with eight numbers received and eight sent.
pub(in crate::stats) fn interfaces(text: &[u8], network: &mut NetworkStats) {
    network.interfaces.clear();
    for interface in lines(text).filter_map(interface).take(MAX_INTERFACES) {
        // Most have one or two: no room for more, of which there would be as many as containers.
        network.interfaces.reserve_exact(1);
        network.interfaces.push(interface);
    }
}

fn interface(line: &[u8]) -> Option<Interface> {
    let (name, numbers) = split(line, b':')?;
    let name = InterfaceName::new(name.trim_ascii())?;
    let mut values = [0; 16];
    let mut words = words(numbers);
    for value in &mut values {
        *value = decimal(words.next()?)?;
    }
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        values;
    Some(Interface { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface() {
        let text = b"Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo: 17919543827  447871    0    0    0     0          0         0 17919543827  447871    0    0    0     0       0          0\n  eth0: 983138286   27888    1    2    3     4          5         6  1458697   16450    7    8    9    10      11         12\nveth0123456789a:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let mut network = NetworkStats::default();
        interfaces(text, &mut network);
        let names: Vec<_> = network.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0", "veth0123456789a"]);
        let eth0 = Interface {
            name: InterfaceName::new(b"eth0").unwrap(),
            rx_bytes: 983_138_286,
            rx_packets: 27_888,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 1_458_697,
            tx_packets: 16_450,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(network.interfaces[1], eth0);
        assert_eq!(network.interfaces[2].tx_dropped, 12);
    }

    #[test]
    fn names_are_bounded() {
        assert!(InterfaceName::new(b"0123456789abcde").is_some());
        for wrong in [&b""[..], b"0123456789abcdefg", b"\xff"] {
            assert_eq!(InterfaceName::new(wrong), None);
        }
        let mut network = NetworkStats::default();
        interfaces(&b"a:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n".repeat(1000), &mut network);
        assert_eq!(network.interfaces.len(), MAX_INTERFACES);
    }
}
