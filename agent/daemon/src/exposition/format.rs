//! The two text formats. What is measured is written as OpenMetrics; Prometheus' own older format is made from that.

use std::fmt::Write as _;

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The one that an Accept header prefers. OpenMetrics is for those alone who ask for it by name.
    pub(super) fn preferred(accept: &str) -> Self {
        let (mut best, mut best_quality) = (Self::Prometheus, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let value = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim_matches('"'))
            };
            let quality: f64 = value("q").map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            let format = match (media.to_ascii_lowercase().as_str(), value("version")) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Self::OpenMetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Prometheus,
                _ => continue,
            };
            if quality > best_quality {
                (best, best_quality) = (format, quality);
            }
        }
        best
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// A whole OpenMetrics text, but for its end, in this format.
    pub(super) fn finish(self, mut text: String) -> String {
        match self {
            Self::OpenMetrics => {
                text.push_str("# EOF\n");
                text
            }
            Self::Prometheus => as_prometheus(&text),
        }
    }
}

/// There a counter's family has the name of its samples, and units and information have no words of their own.
fn as_prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 64);
    let mut help = "";
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.trim_end().split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            let text = help.split_once(' ').map_or("\n", |(_, text)| text);
            // Writing to a string does not fail.
            let _ = writeln!(out, "# HELP {name}{suffix} {text}# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# ") {
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\"; escaping=allow-utf-8", Format::OpenMetrics),
            ("Text/Plain;q=0.4, Application/OpenMetrics-Text;Q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.3", Format::Prometheus),
            ("application/openmetrics-text;version=9.0.0", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=nonsense", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html", Format::Prometheus),
            ("", Format::Prometheus),
            (";;,=,;q", Format::Prometheus),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::preferred(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_older_format_has_its_own_words() {
        let text = "# HELP a Help of a.\n# TYPE a counter\na_total{x=\"# TYPE\"} 1\n# HELP b B.\n# TYPE b info\nb_info 1\n\
                    # HELP c_seconds C.\n# TYPE c_seconds unknown\n# UNIT c_seconds seconds\nc_seconds 2\n";
        let expected = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"# TYPE\"} 1\n\
                        # HELP b_info B.\n# TYPE b_info gauge\nb_info 1\n\
                        # HELP c_seconds C.\n# TYPE c_seconds untyped\nc_seconds 2\n";
        assert_eq!(Format::Prometheus.finish(text.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.finish(text.to_owned()), format!("{text}# EOF\n"));
    }
}
