//! Numbers in tar headers: octal text, or GNU's base-256.

/// Reads a numeric field; `None` if it is neither form or does not fit.
///
/// Octal: spaces, digits, then spaces or NULs; nothing at all is 0. Base-256 (GNU tar, "Other numeric formats"): the top
/// bit of the first byte is set, the rest is a big-endian two's complement number.
pub(super) fn parse(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80.. => base256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return None;
    }
    digits.iter().try_fold(0i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    // The marker bit goes; the sign bit below it is spread over it.
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let fill = if negative { 0xff } else { 0 };
    let (high, low) = field.split_at(field.len().saturating_sub(8));
    if high.iter().enumerate().any(|(at, byte)| if at == 0 { first != fill } else { *byte != fill }) {
        return None;
    }
    let mut bytes = [fill; 8];
    bytes[8 - low.len()..].copy_from_slice(low);
    if high.is_empty() {
        bytes[8 - low.len()] = first;
    }
    let number = i64::from_be_bytes(bytes);
    ((number < 0) == negative).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn octal_and_base256() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"644x\0\0\0\0", None),
            (b"64 4\0\0\0\0", None),
            (b"-644\0\0\0\0", None),
            (b"0x1ff\0\0\0", None),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(parse(field), expected, "{field:x?}");
        }
    }
}
