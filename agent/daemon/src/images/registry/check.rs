//! Asks a registry whether it takes credentials, as a login does.

use http::{Method, StatusCode};

use super::answer;
use super::challenge;
use super::credentials::Credentials;
use super::{Registries, line::Line};
use crate::error::{Error, Reason, Result};

impl Registries {
    /// Returns a refresh token to keep in place of the password, if the registry gives one.
    ///
    /// # Errors
    /// `REGISTRY_UNAUTHENTICATED` if it does not take them.
    pub(in crate::images) async fn check(&self, domain: &str, credentials: Credentials) -> Result<Option<String>> {
        let lines = self.lines(domain, Some(credentials), Vec::new()).await?;
        let Some(line) = lines.iter().find(|line| line.endpoint.is_server) else {
            return Err(Error::new(Reason::Internal, format!("{domain} has no server")));
        };
        self.check_line(line).await
    }

    async fn check_line(&self, line: &Line) -> Result<Option<String>> {
        let what = "checking credentials";
        let tokens = &self.shared.tokens;
        let call = line.call(Method::GET, "/", &[])?;
        let asked = line.send_bare(&call, None).await.map_err(|trouble| trouble.error)?;
        let (header, refresh_token) = match challenge::parse(&asked.headers) {
            // It lets everybody in: nothing can be said of the credentials, but they do no harm.
            _ if asked.status == StatusCode::OK => return Ok(None),
            Some(challenge) if asked.status == StatusCode::UNAUTHORIZED => {
                let taken = line.asker(tokens, true).take_up(&challenge, &[], line.key()).await;
                let taken = taken.map_err(|trouble| trouble.error)?;
                (taken.header, taken.refresh_token)
            }
            _ => return Err(answer::refusal(asked, what).await.error),
        };
        let answer = line.send_bare(&call, Some(&header)).await.map_err(|trouble| trouble.error)?;
        if answer.status == StatusCode::OK {
            return Ok(refresh_token);
        }
        tokens.forget(&line.key());
        Err(answer::refusal(answer, what).await.error)
    }
}
