//! `logs`.

use std::io::{self, BufWriter, Write};

use hull_proto::v1::{LogEntry, LogStream, StreamLogsRequest};
use jiff::Timestamp;

use crate::cli::LogsFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{fixed_width, moment, parse_moment, stdout};

/// Shows what a container wrote: its standard output here on standard output, its standard error on standard error.
pub(crate) async fn logs(connect: impl Future<Output = Result<Client>>, flags: LogsFlags) -> Result<u8> {
    let request = request(&flags, Timestamp::now())?;
    let mut batches = connect.await?.containers().stream_logs(request).await?.into_inner();
    let mut out = Lines::new(stdout(), flags.timestamps);
    let mut err = Lines::new(BufWriter::new(io::stderr().lock()), flags.timestamps);
    while let Some(batch) = batches.message().await? {
        if batch.lost_files > 0 {
            out.flush()?;
            let lost = batch.lost_files;
            err.say(&format!(
                "hullctl: output is missing here: {lost} files of the log are gone, removed by rotation"
            ))?;
        }
        for entry in &batch.entries {
            // A run of one stream goes out before the other's begins, so that a terminal shows them in their order.
            if entry.stream() == LogStream::Stderr {
                out.flush()?;
                err.write(entry)?;
            } else {
                err.flush()?;
                out.write(entry)?;
            }
        }
        out.flush()?;
        err.flush()?;
    }
    Ok(0)
}

fn request(flags: &LogsFlags, now: Timestamp) -> Result<StreamLogsRequest> {
    let tail = match flags.tail.as_str() {
        "all" => None,
        lines => {
            let wrong = |_| Error::new(format!("--tail {lines}: expected a number of lines, or all"));
            Some(lines.parse().map_err(wrong)?)
        }
    };
    let stream = match (flags.stdout, flags.stderr) {
        (true, _) => LogStream::Stdout,
        (_, true) => LogStream::Stderr,
        _ => LogStream::Unspecified,
    };
    Ok(StreamLogsRequest {
        container: flags.container.clone(),
        follow: flags.follow,
        tail,
        since: flags.since.as_deref().map(|text| parse_moment("--since", text, now)).transpose()?,
        until: flags.until.as_deref().map(|text| parse_moment("--until", text, now)).transpose()?,
        stream: stream.into(),
        cursor: String::new(),
    })
}

/// One of both streams, put together from entries.
#[derive(Debug)]
struct Lines<W: Write> {
    writer: W,
    timestamps: bool,
    /// Whether the last entry left its line open.
    open: bool,
    unflushed: bool,
}

impl<W: Write> Lines<W> {
    fn new(writer: W, timestamps: bool) -> Self {
        Self { writer, timestamps, open: false, unflushed: false }
    }

    fn write(&mut self, entry: &LogEntry) -> io::Result<()> {
        if self.timestamps
            && !self.open
            && let Some(time) = moment(entry.time.as_ref())
        {
            write!(self.writer, "{} ", fixed_width(time))?;
        }
        self.writer.write_all(&entry.line)?;
        if !entry.partial {
            self.writer.write_all(b"\n")?;
        }
        self.open = entry.partial;
        self.unflushed = true;
        Ok(())
    }

    /// Writes a line of hullctl's own.
    fn say(&mut self, text: &str) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            self.writer.write_all(b"\n")?;
        }
        writeln!(self.writer, "{text}")?;
        self.writer.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unflushed) { self.writer.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_line_have_one_time_and_one_end() {
        let entry = |line: &'static [u8], partial| LogEntry {
            time: Some(prost_types::Timestamp { seconds: 1, nanos: 5 }),
            line: line.into(),
            partial,
            ..LogEntry::default()
        };
        let mut lines = Lines::new(Vec::new(), true);
        for entry in [entry(b"a", true), entry(b"b\xff", true), entry(b"", false), entry(b"c", false)] {
            lines.write(&entry).unwrap();
        }
        let expected = b"1970-01-01T00:00:01.000000005Z ab\xff\n1970-01-01T00:00:01.000000005Z c\n";
        assert_eq!(lines.writer, expected);
    }
}
