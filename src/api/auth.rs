//! Who is calling: a bearer token, compared by its SHA-256 in constant time.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::gate::Pass;
use super::problem::{Kind, Problem, Result};
use super::shared::Shared;
use crate::config::{Client, Config, Role};
use crate::task::Registration;

/// An authenticated caller, under the settings of the moment it called.
#[derive(Clone)]
pub struct Caller {
    /// Those settings.
    pub config: Arc<Config>,
    index: usize,
    /// Its share of the requests under way, for as long as this one is.
    _place: Arc<Pass>,
}

impl Caller {
    /// The client that calls.
    pub fn client(&self) -> &Client {
        &self.config.clients[self.index]
    }

    /// Whether it may see everything.
    pub fn is_operator(&self) -> bool {
        self.client().role == Role::Operator
    }

    /// Refuses all but operators.
    pub fn require_operator(&self) -> Result<()> {
        if self.is_operator() {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Forbidden,
            "this call needs the token of a client with role operator",
        ))
    }

    /// Refuses a client whose callbacks could not be signed.
    pub fn require_signing_secret(&self) -> Result<()> {
        if self.client().can_sign() {
            return Ok(());
        }
        let detail = format!(
            "callbacks to client `{}` could not be signed: give it `signing_secrets` in the \
             configuration, or use the token of a client that has them",
            self.client().name
        );
        Err(Problem::new(Kind::NoSigningSecret, detail))
    }

    /// The registration, if there is one that this caller may see.
    pub fn sees(&self, found: Option<Registration>) -> Result<Registration> {
        found
            .filter(|found| self.is_operator() || found.client == self.client().name)
            .ok_or_else(Problem::no_registration)
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self> {
        let config = shared.config();
        let token = bearer(&parts.headers)?;
        match find(&config.clients, token) {
            Some(index) => {
                let place = shared.requests.enter(&config.clients[index].name)?;
                Ok(Self { config, index, _place: Arc::new(place) })
            }
            None => Err(unauthorized("nobody has this token; check it, and the daemon's clients")),
        }
    }
}

fn unauthorized(detail: &str) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"outcomed\"");
    Problem::new(Kind::Unauthorized, detail).header(header::WWW_AUTHENTICATE, challenge)
}

fn bearer(headers: &HeaderMap) -> Result<&[u8]> {
    let advice = "send the header `Authorization: Bearer <token>`";
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| unauthorized(advice))?;
    let value = value.as_bytes();
    match value.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(token.trim_ascii()),
        _ => Err(unauthorized(advice)),
    }
}

/// Looks at every client whatever it finds, so that time tells nothing about who matched.
fn find(clients: &[Client], token: &[u8]) -> Option<usize> {
    let digest: [u8; 32] = Sha256::digest(token).into();
    let mut found = u64::MAX;
    for (index, client) in clients.iter().enumerate() {
        let same: Choice = client.token_sha256.ct_eq(&digest);
        found = u64::conditional_select(&found, &(index as u64), same);
    }
    usize::try_from(found).ok().filter(|index| *index < clients.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_nothing_else_passes() {
        let of = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        assert_eq!(bearer(&of("bearer  abc ")).unwrap(), b"abc");
        assert!(bearer(&of("Basic abc")).is_err());
        assert!(bearer(&of("Bearerabc")).is_err());
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
