//! What a registry asks for when it answers 401: the WWW-Authenticate header, read for the two schemes that registries use.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use http_auth::parser::ChallengeParser;

/// Most bytes of a parameter.
const PARAMETER_MAX: usize = 4096;

/// How a registry wants to be shown who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from another server.
    Bearer {
        /// URL of that server.
        realm: String,
        service: Option<String>,
        /// What the token must be good for.
        scope: Option<String>,
    },
}

/// The challenge to take up: Bearer before Basic, which sends the password itself. `None` if there is none that hull knows.
pub(super) fn parse(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    // What comes after something malformed is not looked at.
    let challenges: Vec<_> = texts.flat_map(|text| ChallengeParser::new(text).map_while(Result::ok)).collect();
    let of =
        |scheme: &'static str| challenges.iter().filter(move |challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
    let bearer = of("bearer").find_map(|challenge| {
        let parameter = |name: &str| {
            let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            Some(value.to_unescaped()).filter(|value| value.len() <= PARAMETER_MAX)
        };
        Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service"), scope: parameter("scope") })
    });
    bearer.or_else(|| of("basic").next().map(|_| Challenge::Basic))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let values = values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        values.for_each(|(name, value)| drop(headers.append(name, value)));
        parse(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn challenges_of_registries() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected =
            bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"));
        assert_eq!(of(&[text]), expected);
        assert_eq!(of(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(of(&["basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(of(&[r#"Basic realm="a", Bearer realm="b""#]), bearer("b", None, None));
        assert_eq!(of(&[r#"Basic realm="a""#, r#"bearer REALM="b\"c""#]), bearer("b\"c", None, None));
        for none in ["Negotiate", r#"Bearer service="x""#, "", "=", r#"Digest realm="a""#] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(parse(&HeaderMap::new()), None);
    }

    #[test]
    fn a_parameter_is_bounded() {
        let long = format!(r#"Bearer realm="{}""#, "x".repeat(PARAMETER_MAX + 1));
        assert_eq!(of(&[&long]), None);
    }

    proptest! {
        #[test]
        fn parameters_come_back_as_they_were(realm in "[ -~]{0,40}", scope in "[ -~]{0,40}") {
            let quoted = |text: &str| text.replace('\\', r"\\").replace('"', r#"\""#);
            let header = format!(r#"Bearer realm="{}",scope="{}""#, quoted(&realm), quoted(&scope));
            prop_assert_eq!(of(&[&header]), bearer(&realm, None, Some(&scope)));
        }

        #[test]
        fn any_header_is_read_without_harm(text in "[ -~]{0,80}", more in "(Bearer|Basic)[ -~]{0,60}") {
            drop(of(&[&text, &more]));
        }
    }
}
