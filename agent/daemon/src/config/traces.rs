//! Where traces go.

use http::Uri;

use crate::error::{Error, Result};

/// The endpoint of a collector, checked.
pub(super) fn endpoint(given: Option<String>) -> Result<Option<String>> {
    let Some(endpoint) = given else { return Ok(None) };
    let wrong = |problem: &str| Error::invalid("otlp-endpoint", format!("{endpoint}: {problem}"));
    let uri: Uri = endpoint.parse().map_err(|_| wrong("is not http://HOST:PORT"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("https is not spoken to collectors").hint("run a collector on this node that does"));
        }
        _ => return Err(wrong("is not http://HOST:PORT")),
    }
    if uri.port_u16().is_none() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("is not http://HOST:PORT"));
    }
    Ok(Some(endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked() {
        assert_eq!(endpoint(None), Ok(None));
        for right in ["http://127.0.0.1:4317", "http://collector.local:4317/", "http://[::1]:4317"] {
            assert_eq!(endpoint(Some(right.into())), Ok(Some(right.into())));
        }
        for wrong in
            ["", "127.0.0.1:4317", "https://a:4317", "http://a", "http://a:1/v1/traces", "grpc://a:1", "http://a:1?b"]
        {
            let error = endpoint(Some(wrong.into())).unwrap_err();
            assert!(error.message.starts_with("otlp-endpoint: "), "{wrong}: {error}");
        }
    }
}
