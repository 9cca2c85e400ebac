//! Who the agent is to a registry, and how that is kept out of logs.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// How a registry is shown who asks. Never written down; what is printed of it says only which kind it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A user.
    Password {
        /// Name.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// An OAuth2 refresh token, which tokens are asked for with.
    Identity(String),
    /// A Bearer token that is sent as it is.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::Identity(_) => "Identity(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

impl Credentials {
    /// Value of an Authorization header of the Basic scheme, for a user.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            Self::Identity(_) | Self::Bearer(_) => None,
        }
    }

    /// Tells credentials apart without keeping them.
    pub(super) fn fingerprint(credentials: Option<&Self>) -> [u8; 32] {
        let parts = match credentials {
            None => ["", "", ""],
            Some(Self::Password { username, password }) => ["password", username, password],
            Some(Self::Identity(token)) => ["identity", token, ""],
            Some(Self::Bearer(token)) => ["bearer", token, ""],
        };
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let user = Credentials::Password { username: "ann".into(), password: "s3cret".into() };
        for credentials in [user, Credentials::Identity("s3cret".into()), Credentials::Bearer("s3cret".into())] {
            assert!(!format!("{credentials:?}").contains("s3cret"));
        }
    }

    #[test]
    fn fingerprints_tell_credentials_apart() {
        let user = |username: &str, password: &str| {
            let user = Credentials::Password { username: username.into(), password: password.into() };
            Credentials::fingerprint(Some(&user))
        };
        assert_eq!(user("a", "bc"), user("a", "bc"));
        assert_ne!(user("ab", "c"), user("a", "bc"));
        assert_ne!(user("a", ""), Credentials::fingerprint(None));
    }

    #[test]
    fn basic_is_base64_of_user_and_password() {
        let user = Credentials::Password { username: "Aladdin".into(), password: "open sesame".into() };
        assert_eq!(user.basic().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
