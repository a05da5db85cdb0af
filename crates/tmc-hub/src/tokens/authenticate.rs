//! Who a token speaks for: for the server's authentication, and for TokenReview.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::UserInfo;
use tmc_apimachinery::{ClusterName, GroupResource};
use tmc_server::surface::TokenAuthenticator;

use super::claims::{Claims, Reference, Refusal};
use super::issuer;
use super::request::service_accounts;
use crate::rbac::identity_in;
use crate::storage::{Core, Layout, Place};

/// Authenticates by tokens that this hub issued.
pub(crate) struct ServiceAccountTokens(pub(crate) Arc<Core>);

#[async_trait]
impl TokenAuthenticator for ServiceAccountTokens {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>> {
        let Some(claims) = self.0.open_token(token) else {
            return Ok(None);
        };
        let own = [issuer(self.0.layout).to_owned()];
        match self.0.check_token(&claims, &own) {
            Ok(_) => Ok(Some(claims.user())),
            Err(refusal) => {
                tracing::debug!(subject = claims.sub, %refusal, "a token was refused");
                Err(ApiError::unauthorized())
            }
        }
    }

    fn home(&self, token: &str) -> Option<String> {
        if self.0.layout == Layout::Plain {
            return None;
        }
        // Not verified: it only says where the request goes, and is verified there.
        let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
        let cluster = ClusterName::parse(&claims.subject.cluster)?;
        (claims.iss == issuer(self.0.layout)).then(|| format!("/clusters/{cluster}"))
    }
}

impl Core {
    /// The claims of a token of this hub, unchecked. `None` for a token of another kind.
    fn open_token(&self, token: &str) -> Option<Claims> {
        let claims = self.tokens.open_token(token)?;
        (claims.iss == issuer(self.layout)).then_some(claims)
    }

    /// Checks claims against the clock, the audiences wanted, and the objects that they name.
    fn check_token(
        &self,
        claims: &Claims,
        audiences: &[String],
    ) -> std::result::Result<Vec<String>, Refusal> {
        let now = self.environment.now().as_second();
        let common = claims.check(now, audiences)?;
        let subject = &claims.subject;
        let cluster = match self.layout {
            Layout::Workspaces => ClusterName::parse(&subject.cluster),
            Layout::Plain => Some(ClusterName::new(ClusterName::ROOT)),
        };
        let cluster = cluster.ok_or(Refusal::Contradiction)?;
        // What is going is as good as gone: a finalizer must not keep a token alive.
        let stays = |resource: &GroupResource, namespace: &str, reference: &Reference| {
            self.read(resource, &cluster, namespace, &reference.name)
                .is_some_and(|object| {
                    meta(&object).uid() == reference.uid && !meta(&object).is_being_deleted()
                })
        };
        if !stays(&service_accounts(), &subject.namespace, &subject.account) {
            return Err(Refusal::Account);
        }
        // The node of a token that is bound to a Pod is information: the Pod decides.
        let node = subject.node.as_ref().filter(|_| subject.pod.is_none());
        for (kind, plural, namespace, bound) in [
            (
                "Pod",
                "pods",
                subject.namespace.as_str(),
                subject.pod.as_ref(),
            ),
            (
                "Secret",
                "secrets",
                subject.namespace.as_str(),
                subject.secret.as_ref(),
            ),
            ("Node", "nodes", "", node),
        ] {
            if let Some(bound) = bound
                && !stays(&GroupResource::new("", plural), namespace, bound)
            {
                return Err(Refusal::Bound(kind));
            }
        }
        Ok(common)
    }

    /// Answers a TokenReview: who the bearer is in the logical cluster that is asked.
    pub(crate) fn review_token(&self, place: &Place, spec: &Value) -> Result<Value> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let wanted = spec["audiences"].as_array().into_iter().flatten();
        let mut wanted: Vec<String> = wanted
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect();
        if wanted.is_empty() {
            wanted.push(issuer(self.layout).to_owned());
        }
        let refused = |why: &str| Ok(json!({"user": {}, "error": why}));
        let Some(claims) = self.open_token(token) else {
            return refused("invalid bearer token");
        };
        match self.check_token(&claims, &wanted) {
            Err(refusal) => refused(&format!("[invalid bearer token, {refusal}]")),
            Ok(common) => {
                let user = claims.user();
                // The account of another workspace must not pass for the local one of its name.
                let user = identity_in(&user, &place.cluster);
                Ok(json!({"authenticated": true, "user": user, "audiences": common}))
            }
        }
    }
}
