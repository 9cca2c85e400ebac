//! Pressure stall information.

use super::{decimal, hundredths, lines, split, words};
use crate::stats::sample::{Pressure, Stall};

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same for "full", which the kernel leaves out where it makes no sense.
pub(in crate::stats) fn pressure(text: &[u8], pressure: &mut Pressure) {
    for line in lines(text) {
        let mut words = words(line);
        match words.next() {
            Some(b"some") => pressure.some = stall(words),
            Some(b"full") => pressure.full = stall(words),
            _ => {}
        }
    }
}

/// `None` unless all four are there.
fn stall<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Stall> {
    let (mut avg10, mut avg60, mut avg300, mut total) = (None, None, None, None);
    for word in words {
        let (key, value) = split(word, b'=')?;
        match key {
            b"avg10" => avg10 = hundredths(value),
            b"avg60" => avg60 = hundredths(value),
            b"avg300" => avg300 = hundredths(value),
            b"total" => total = decimal(value).and_then(|micros| micros.checked_mul(1000)),
            _ => {}
        }
    }
    Some(Stall { avg10: avg10?, avg60: avg60?, avg300: avg300?, total_nanos: total? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_and_full() {
        let mut found = Pressure::default();
        pressure(
            b"some avg10=56.38 avg60=64.48 avg300=50.05 total=6173250224\nfull avg10=0.00 avg60=0.02 avg300=100.00 total=7\n",
            &mut found,
        );
        let some = Stall { avg10: 5638, avg60: 6448, avg300: 5005, total_nanos: 6_173_250_224_000 };
        let full = Stall { avg10: 0, avg60: 2, avg300: 10_000, total_nanos: 7_000 };
        assert_eq!(found, Pressure { some: Some(some), full: Some(full) });
    }

    #[test]
    fn what_is_not_told_is_absent() {
        // Linux before 5.13 has no "full" of the processor.
        let mut found = Pressure::default();
        pressure(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", &mut found);
        assert!(found.some.is_some() && found.full.is_none());
        for text in [&b""[..], b"some\n", b"some avg10=1 avg60=0.00 avg300=0.00 total=x\n", b"some avg10=0.00\n"] {
            let mut found = Pressure::default();
            pressure(text, &mut found);
            assert_eq!(found, Pressure::default());
        }
    }
}
