//! Who asks. In this order: the identity of a call made inside this process, the identity that a
//! client certificate proved, a bearer token, nobody (`system:anonymous`).
//!
//! Headers that claim an identity are never believed: `X-Remote-*` is removed before anything
//! looks at a request, `Impersonate-*` is refused until it is built with its checks, and tokens in
//! query strings (which end up in logs) are not read at all.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use tmc_apimachinery::GroupResource;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::UserInfo;

use crate::surface::{InProcessIdentity, PeerExpires, PeerIdentity, TokenAuthenticator};

/// Set by the listener when the client's certificate was good at the handshake and is not now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiredPeer;

/// Removes headers by which a front proxy would vouch for a user: there is none.
pub(crate) fn strip_proxy_headers(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Finds out who asks.
///
/// # Errors
/// 401 for credentials that are not good; their absence is not an error.
pub(crate) async fn authenticate(
    parts: &Parts,
    tokens: &[Arc<dyn TokenAuthenticator>],
) -> Result<UserInfo> {
    if let Some(InProcessIdentity(user)) = parts.extensions.get() {
        return named(user);
    }
    if let Some(PeerIdentity(user)) = parts.extensions.get() {
        return match parts.extensions.get() {
            Some(PeerExpires(at)) if *at <= SystemTime::now() => Err(ApiError::unauthorized()),
            _ => named(user),
        };
    }
    if parts.extensions.get::<ExpiredPeer>().is_some() {
        return Err(ApiError::unauthorized());
    }
    let Some(token) = bearer_token(&parts.headers)? else {
        return Ok(UserInfo::anonymous());
    };
    for authenticator in tokens {
        if let Some(user) = authenticator.authenticate(token).await? {
            return named(&user);
        }
    }
    Err(ApiError::unauthorized())
}

/// Where a request belongs whose path names no place, by its token; only if the token is what it
/// will be authenticated by.
pub(crate) fn home(parts: &Parts, tokens: &[Arc<dyn TokenAuthenticator>]) -> Option<String> {
    let proven = parts.extensions.get::<InProcessIdentity>().is_some()
        || parts.extensions.get::<PeerIdentity>().is_some();
    if proven {
        return None;
    }
    let token = bearer_token(&parts.headers).ok().flatten()?;
    tokens.iter().find_map(|tokens| tokens.home(token))
}

/// What a caller proved its identity with, to be asked again while something that it began goes on.
#[derive(Clone)]
pub struct Credentials {
    parts: Arc<Parts>,
    tokens: Arc<[Arc<dyn TokenAuthenticator>]>,
}

impl Credentials {
    /// Keeps of a request what [`authenticate`] reads.
    pub(crate) fn of(request: &Parts, tokens: &[Arc<dyn TokenAuthenticator>]) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        for value in request.headers.get_all(AUTHORIZATION) {
            parts.headers.append(AUTHORIZATION, value.clone());
        }
        let from = &request.extensions;
        let to = &mut parts.extensions;
        from.get::<InProcessIdentity>()
            .map(|x| to.insert(x.clone()));
        from.get::<PeerIdentity>().map(|x| to.insert(x.clone()));
        from.get::<PeerExpires>().map(|x| to.insert(*x));
        Self {
            parts: Arc::new(parts),
            tokens: tokens.into(),
        }
    }

    /// Who the caller is now.
    ///
    /// # Errors
    /// 401 once the certificate or token is not good any more.
    pub async fn user(&self) -> Result<UserInfo> {
        authenticate(&self.parts, &self.tokens).await
    }
}

/// An empty user name is never an identity, wherever it came from.
fn named(user: &UserInfo) -> Result<UserInfo> {
    if user.name.is_empty() {
        Err(ApiError::unauthorized())
    } else {
        Ok(user.clone())
    }
}

/// The token of an `Authorization: Bearer` header, if there is such a header.
///
/// # Errors
/// 401 for two headers, another scheme or an empty token: who sends credentials wants them used.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
    let (scheme, token) = text
        .trim()
        .split_once(' ')
        .ok_or_else(ApiError::unauthorized)?;
    let token = token.trim();
    let usable = values.next().is_none() && scheme.eq_ignore_ascii_case("bearer");
    if usable && !token.is_empty() {
        Ok(Some(token))
    } else {
        Err(ApiError::unauthorized())
    }
}

/// Refuses impersonation.
///
/// # Errors
/// 403 naming the header.
pub(crate) fn refuse_impersonation(headers: &HeaderMap) -> Result<()> {
    match headers
        .keys()
        .find(|name| name.as_str().starts_with("impersonate-"))
    {
        None => Ok(()),
        Some(name) => Err(ApiError::forbidden(
            &GroupResource::default(),
            "",
            &format!("impersonation is not supported: send the request without the header {name}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    struct One;

    #[async_trait]
    impl TokenAuthenticator for One {
        async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>> {
            match token {
                "good" => Ok(Some(UserInfo::new("ann", &["dev"]))),
                "revoked" => Err(ApiError::unauthorized()),
                "nameless" => Ok(Some(UserInfo::default())),
                _ => Ok(None),
            }
        }
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder();
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    async fn who(parts: &Parts) -> Result<String> {
        let tokens: Vec<Arc<dyn TokenAuthenticator>> = vec![Arc::new(One)];
        Ok(authenticate(parts, &tokens).await?.name)
    }

    #[tokio::test]
    async fn a_good_token_names_its_user_and_no_token_is_anonymous() {
        let good = parts(&[("authorization", "bearer  good ")]);
        assert_eq!(who(&good).await.unwrap(), "ann");
        assert_eq!(who(&parts(&[])).await.unwrap(), "system:anonymous");
    }

    #[tokio::test]
    async fn bad_credentials_are_401_and_not_anonymous() {
        for bad in [
            "Bearer bad",
            "Bearer revoked",
            "Bearer nameless",
            "Bearer ",
            "Bearer",
            "Basic eDp5",
        ] {
            let error = who(&parts(&[("authorization", bad)])).await.unwrap_err();
            assert_eq!(error.code, 401, "{bad}");
        }
        let two = parts(&[
            ("authorization", "Bearer good"),
            ("authorization", "Bearer good"),
        ]);
        assert_eq!(who(&two).await.unwrap_err().code, 401);
    }

    #[tokio::test]
    async fn a_certificate_goes_before_a_token_and_a_call_in_process_before_both() {
        let mut both = parts(&[("authorization", "Bearer good")]);
        both.extensions
            .insert(PeerIdentity(UserInfo::new("cert", &[])));
        assert_eq!(who(&both).await.unwrap(), "cert");
        both.extensions
            .insert(InProcessIdentity(UserInfo::new("inside", &[])));
        assert_eq!(who(&both).await.unwrap(), "inside");
    }

    #[tokio::test]
    async fn an_expired_certificate_is_401() {
        let mut old = parts(&[]);
        old.extensions.insert(ExpiredPeer);
        assert_eq!(who(&old).await.unwrap_err().code, 401);
    }

    #[tokio::test]
    async fn kept_credentials_speak_for_their_owner_until_they_expire() {
        let tokens: Vec<Arc<dyn TokenAuthenticator>> = vec![Arc::new(One)];
        let request = parts(&[("authorization", "Bearer good"), ("x", "y")]);
        let kept = Credentials::of(&request, &tokens);
        assert_eq!(kept.user().await.unwrap().name, "ann");
        let mut request = parts(&[]);
        request
            .extensions
            .insert(PeerIdentity(UserInfo::new("cert", &[])));
        let soon = SystemTime::now() + std::time::Duration::from_secs(60);
        request.extensions.insert(PeerExpires(soon));
        let kept = Credentials::of(&request, &tokens);
        assert_eq!(kept.user().await.unwrap().name, "cert");
        request
            .extensions
            .insert(PeerExpires(SystemTime::UNIX_EPOCH));
        let kept = Credentials::of(&request, &tokens);
        assert_eq!(kept.user().await.unwrap_err().code, 401);
    }

    #[test]
    fn claimed_identities_are_removed_or_refused() {
        let mut forged = parts(&[
            ("x-remote-user", "root"),
            ("X-Remote-Extra-A", "b"),
            ("a", "b"),
        ]);
        strip_proxy_headers(&mut forged.headers);
        assert_eq!(forged.headers.len(), 1);
        assert!(refuse_impersonation(&forged.headers).is_ok());
        let forged = parts(&[("Impersonate-Extra-Scopes", "x")]);
        let error = refuse_impersonation(&forged.headers).unwrap_err();
        assert_eq!(error.code, 403);
        assert!(
            error.message.contains("impersonate-extra-scopes"),
            "{}",
            error.message
        );
    }
}
