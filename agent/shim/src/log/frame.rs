//! Output as lines.

use memchr::memchr;

/// Most bytes of content in one line of the log; a longer line of output is cut into parts, all but the last tagged P.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) content: &'a [u8],
    /// It ends where a line of output does; otherwise more of that follows.
    pub(super) full: bool,
}

/// Cuts output into entries, and returns how much was cut. What remains is the beginning of a line, shorter than [`MAX_LINE`].
pub(super) fn frame<'a>(output: &'a [u8], mut entry: impl FnMut(Entry<'a>)) -> usize {
    let mut start = 0;
    while start < output.len() {
        let window = &output[start..output.len().min(start + MAX_LINE + 1)];
        match memchr(b'\n', window) {
            Some(end) => {
                entry(Entry { content: &window[..end], full: true });
                start += end + 1;
            }
            None if window.len() > MAX_LINE => {
                entry(Entry { content: &window[..MAX_LINE], full: false });
                start += MAX_LINE;
            }
            None => break,
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(output: &[u8]) -> (Vec<(usize, bool)>, usize) {
        let mut entries = Vec::new();
        let cut = frame(output, |entry| entries.push((entry.content.len(), entry.full)));
        (entries, output.len() - cut)
    }

    #[test]
    fn lines_are_framed() {
        assert_eq!(framed(b""), (vec![], 0));
        assert_eq!(framed(b"\n"), (vec![(0, true)], 0));
        assert_eq!(framed(b"a\nbc\nd"), (vec![(1, true), (2, true)], 1));
        assert_eq!(framed(b"a\0b\x1b[0m\r\n"), (vec![(8, true)], 0));
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let of = |length: usize, end: &[u8]| [vec![b'x'; length], end.to_vec()].concat();
        assert_eq!(framed(&of(MAX_LINE, b"\n")), (vec![(MAX_LINE, true)], 0));
        assert_eq!(framed(&of(MAX_LINE, b"")), (vec![], MAX_LINE));
        assert_eq!(framed(&of(MAX_LINE + 1, b"\n")), (vec![(MAX_LINE, false), (1, true)], 0));
        assert_eq!(framed(&of(2 * MAX_LINE + 5, b"")), (vec![(MAX_LINE, false), (MAX_LINE, false)], 5));
    }

    #[test]
    fn what_is_framed_piece_by_piece_is_the_output() {
        let output: Vec<u8> =
            (0..200_000_u32).map(|n| if n % 977 == 0 { b'\n' } else { b'a' + (n % 26) as u8 }).collect();
        for step in [1, 7, 4096, 65_536] {
            let (mut pending, mut seen) = (Vec::new(), Vec::new());
            for chunk in output.chunks(step) {
                pending.extend_from_slice(chunk);
                let cut = frame(&pending, |entry| {
                    seen.extend_from_slice(entry.content);
                    seen.extend(entry.full.then_some(b'\n'));
                });
                pending.drain(..cut);
            }
            seen.extend_from_slice(&pending);
            assert!(seen == output, "in steps of {step}");
        }
    }
}
