//! A syncer's token for the hub renews itself: after four fifths of its life the agent asks for
//! another of its own account, goes on with it, and puts it into the Secret that its pod mounts, so
//! that the next start has it too.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::agent::kubeconfig::{TokenClaims, claims};
use tmc_api::agent::workload::HUB_KEY;
use tmc_apimachinery::GroupVersionResource;
use tmc_controllers::install::token::{self, Issued, renew_at};
use tmc_runtime::client::PatchKind;
use tmc_runtime::{Connection, Credential, Endpoint, ResourceClient, Switch, SystemDialer};
use tokio_util::sync::CancellationToken;

/// Pause after an attempt that failed.
const RETRY: Duration = Duration::from_secs(30);

/// Where a renewed token is kept.
#[derive(Clone)]
pub(super) struct Kept {
    /// The member.
    pub member: Connection,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is renewed.
pub(super) struct Renewal {
    /// The hub, with the present token.
    pub endpoint: Endpoint,
    /// The kubeconfig that the token came in.
    pub kubeconfig: Value,
    /// Of which account the token is, and its life.
    pub claims: TokenClaims,
    /// What the agent's requests go over.
    pub upstream: Connection,
    /// Replaces it.
    pub switch: Switch,
    /// Where the token is kept, if anywhere.
    pub kept: Option<Kept>,
}

/// What the current user's token of a kubeconfig says of itself, if it can be renewed: the inline
/// token of a ServiceAccount.
pub(super) fn renewable(kubeconfig: &Value, context: Option<&str>) -> Option<TokenClaims> {
    claims(user(kubeconfig, context)?["token"].as_str()?)
}

fn user<'a>(kubeconfig: &'a Value, context: Option<&str>) -> Option<&'a Value> {
    let named = |list: &str, name: &str| {
        let entries = kubeconfig[list].as_array()?;
        entries.iter().find(|entry| entry["name"] == name)
    };
    let context = context.or(kubeconfig["current-context"].as_str())?;
    let name = named("contexts", context)?["context"]["user"].as_str()?;
    Some(&named("users", name)?["user"])
}

impl Renewal {
    /// Renews until `stop`. What goes wrong is logged and tried again: the token has a fifth of its
    /// life left.
    pub(super) async fn run(self, context: Option<&str>, stop: CancellationToken) {
        let mut life = (self.claims.issued, self.claims.expires);
        loop {
            let wait = until_due(life, Timestamp::now());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self.renew(context).await {
                Ok(issued) => life = (issued.at.as_second(), issued.expires.as_second()),
                Err(why) => {
                    tracing::warn!(%why, "the token for the hub was not renewed");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Each replica renews for itself, whoever syncs: who takes over must be let in. Whichever token is
    /// kept last is as good as the others.
    async fn renew(&self, context: Option<&str>) -> Result<Issued, String> {
        let claims = &self.claims;
        let life = claims.expires - claims.issued;
        let (namespace, account) = (&claims.namespace, &claims.account);
        let client = self.upstream.base_client();
        let issued = token::request(&client, namespace, account, life, Timestamp::now())
            .await
            .map_err(|problem| problem.to_string())?;
        let next = Credential::Token(issued.token.clone());
        self.switch
            .set(connect(&self.endpoint.clone().with_credential(next))?);
        if let Some(kept) = &self.kept {
            // It works already; that it is kept is for the next start.
            if let Err(why) = keep(kept, &self.kubeconfig, context, &issued).await {
                tracing::warn!(%why, "the renewed token was not kept in the Secret");
            }
        }
        Ok(issued)
    }
}

fn connect(endpoint: &Endpoint) -> Result<Connection, String> {
    Connection::https(endpoint, std::sync::Arc::new(SystemDialer)).map_err(|e| e.to_string())
}

fn until_due((issued, expires): (i64, i64), now: Timestamp) -> Duration {
    let time = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let due = renew_at(time(issued), time(expires));
    Duration::try_from(now.duration_until(due)).unwrap_or(Duration::ZERO)
}

async fn keep(
    kept: &Kept,
    kubeconfig: &Value,
    context: Option<&str>,
    issued: &Issued,
) -> Result<(), String> {
    let new = with_token(kubeconfig, context, &issued.token).ok_or("its kubeconfig is not ours")?;
    let secrets = GroupVersionResource::new("", "v1", "secrets");
    let client = ResourceClient::new(kept.member.base_client(), secrets);
    let patch = json!({"data": {HUB_KEY: STANDARD.encode(new.to_string())}});
    client
        .patch(&kept.namespace, &kept.name, "", PatchKind::Merge, &patch)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The kubeconfig with another token for its user.
fn with_token(kubeconfig: &Value, context: Option<&str>, token: &str) -> Option<Value> {
    let mut new = kubeconfig.clone();
    let context = context.or(kubeconfig["current-context"].as_str())?;
    let contexts = kubeconfig["contexts"].as_array()?;
    let entry = contexts.iter().find(|entry| entry["name"] == context)?;
    let user = &entry["context"]["user"];
    let users = new["users"].as_array_mut()?;
    let user = users.iter_mut().find(|entry| entry["name"] == *user)?;
    user["user"]["token"] = token.into();
    Some(new)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use tmc_api::agent::kubeconfig::{in_cluster, with_token as config};

    use super::*;

    fn token(subject: &str) -> String {
        let claims = json!({"sub": subject, "iat": 1000, "exp": 2000}).to_string();
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn only_the_inline_token_of_an_account_is_renewed() {
        let own = config(
            "https://hub",
            b"ca",
            &token("system:serviceaccount:default:agent"),
        );
        assert_eq!(renewable(&own, None).unwrap().account, "agent");
        assert_eq!(renewable(&own, Some("other")), None);
        for other in [
            config("https://hub", b"ca", "opaque"),
            config("https://hub", b"ca", &token("jane")),
            in_cluster("/x"),
            json!({}),
        ] {
            assert_eq!(renewable(&other, None), None);
        }
    }

    #[test]
    fn only_the_token_changes() {
        let old = config("https://hub", b"ca", "old");
        let new = with_token(&old, None, "new").unwrap();
        assert_eq!(new["users"][0]["user"]["token"], "new");
        assert_eq!(new["clusters"], old["clusters"]);
        assert_eq!(with_token(&json!({}), None, "new"), None);
    }

    #[test]
    fn it_is_due_after_four_fifths_of_its_life() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(until_due((1000, 2000), at(1000)), Duration::from_secs(800));
        assert_eq!(until_due((1000, 2000), at(1900)), Duration::ZERO);
    }
}
