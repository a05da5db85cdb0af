//! The token that `tmc cluster register` uploaded: the hub renews it before it ends, by updating the
//! Secret; and removes its account when the Cluster goes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::agent::kubeconfig::TokenClaims;
use tmc_api::agent::registration::{self, is_registration};
use tmc_api::agent::removal_order;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, PatchKind};
use tmc_runtime::{ClusterKey, Connection, Error, ResourceClient};

use super::credentials::{Credential, content, fingerprint, secrets};
use crate::context::Context;
use crate::install::Problem;
use crate::install::token::{self, renew_at};
use crate::kubeconfig;

/// Shortest and longest life asked for, in seconds.
const LIFE: std::ops::RangeInclusive<i64> = 600..=7 * 24 * 3600;

/// Whether four fifths of its life are over.
pub(super) fn is_due(claims: &TokenClaims, now: Timestamp) -> bool {
    let time = |seconds| Timestamp::from_second(seconds).ok();
    match (time(claims.issued), time(claims.expires)) {
        (Some(issued), Some(expires)) => now >= renew_at(issued, expires),
        _ => false,
    }
}

/// Gets a token of the same account and life, and puts it into the Secret in the place of the old
/// one, if the Secret is still the one that was read. What goes wrong is logged without a secret; the
/// next visit tries again, and `CredentialsCurrent` warns in time.
pub(super) async fn renew(
    ctx: &Context,
    key: &ClusterKey,
    credential: &Credential,
    connection: &Connection,
) {
    if let Err(why) = try_renew(ctx, key, credential, connection).await {
        tracing::warn!(cluster = %key, %why, "the registration token was not renewed");
    }
}

async fn try_renew(
    ctx: &Context,
    key: &ClusterKey,
    credential: &Credential,
    connection: &Connection,
) -> Result<(), String> {
    let Some(claims) = &credential.registration else {
        return Ok(());
    };
    let life = (claims.expires - claims.issued).clamp(*LIFE.start(), *LIFE.end());
    let client = connection.base_client();
    let now = ctx.now();
    let issued = token::request(&client, &claims.namespace, &claims.account, life, now)
        .await
        .map_err(|problem| problem.to_string())?;
    let (name, field) = (&credential.secret.0, &credential.secret.1);
    let hub = ResourceClient::new(ctx.hub.cluster(&key.cluster), secrets());
    let secret = hub
        .get(&key.namespace, name)
        .await
        .map_err(|_| "the Secret cannot be read".to_owned())?;
    let old = content(&secret, field).map_err(|(_, why)| why)?;
    if fingerprint(meta(&secret).uid(), &old) != credential.facts.fingerprint {
        return Err("the Secret has changed meanwhile".into());
    }
    let new = with_token(&old, &issued.token).ok_or("the kubeconfig cannot be changed")?;
    // What comes from the member is hostile until it has passed.
    kubeconfig::read(new.as_bytes(), ctx.deps.allowances, now)
        .map_err(|refusal| refusal.to_string())?;
    let patch = json!({
        "metadata": {"uid": meta(&secret).uid(), "resourceVersion": meta(&secret).resource_version()},
        "data": {field: STANDARD.encode(new)},
    });
    hub.patch(&key.namespace, name, "", PatchKind::Merge, &patch)
        .await
        .map_err(|_| "the Secret cannot be written".to_owned())?;
    Ok(())
}

/// A kubeconfig with another token for its current user; everything else as it was.
fn with_token(content: &[u8], token: &str) -> Option<String> {
    let mut document: Value = serde_saphyr::from_str(std::str::from_utf8(content).ok()?).ok()?;
    let named = |list: &Value, name: &Value| {
        let list = list.as_array()?;
        list.iter().position(|entry| entry["name"] == *name)
    };
    let context = named(&document["contexts"], &document["current-context"])?;
    let user = document["contexts"][context]["context"]["user"].clone();
    let user = named(&document["users"], &user)?;
    document["users"][user]["user"]["token"] = token.into();
    Some(document.to_string())
}

/// Removes the account, its rights and its binding from the member, with its own token: what has the
/// marks of a registration and the account's name. The shared namespace stays.
///
/// Whichever goes first takes the right to remove the others along, so all three are asked for at
/// once. What is refused after one was removed is harmless: an account without rights, or rights
/// that nobody has.
///
/// # Errors
/// The first problem, if nothing could be removed.
pub(super) async fn remove_account(
    connection: &Connection,
    claims: &TokenClaims,
) -> Result<(), Problem> {
    let client = connection.base_client();
    let mut found = Vec::new();
    for gvr in removal_order() {
        let kinds = ["serviceaccounts", "clusterroles", "clusterrolebindings"];
        if !kinds.contains(&&*gvr.resource) {
            continue;
        }
        let namespace = namespace_of(&gvr);
        let resource = ResourceClient::new(client.clone(), gvr);
        match resource.get(namespace, &claims.account).await {
            Ok(object) if is_registration(&object) => found.push((resource, namespace, object)),
            Err(error) if !error.is_not_found() => {
                return Err(Problem::of("reading", &claims.account, &error));
            }
            _ => {}
        }
    }
    let deletes = found.iter().map(|(resource, namespace, object)| {
        let only = DeleteParams {
            uid: Some(meta(object).uid().to_owned()),
            ..DeleteParams::default()
        };
        async move { resource.delete(namespace, &claims.account, &only).await }
    });
    let results = join_all(deletes).await;
    let gone = |result: &Result<(), Error>| match result {
        Ok(()) => true,
        Err(error) => error.is_not_found(),
    };
    if results.is_empty() || results.iter().any(gone) {
        return Ok(());
    }
    match results.into_iter().find_map(Result::err) {
        Some(error) => Err(Problem::of("deleting", &claims.account, &error)),
        None => Ok(()),
    }
}

fn namespace_of(gvr: &GroupVersionResource) -> &'static str {
    match &*gvr.resource {
        "serviceaccounts" => registration::NAMESPACE,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_due_after_four_fifths_of_its_life() {
        let claims = TokenClaims {
            namespace: "n".into(),
            account: "a".into(),
            uid: "u".into(),
            issued: 1000,
            expires: 2000,
        };
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert!(!is_due(&claims, at(1799)));
        assert!(is_due(&claims, at(1800)));
    }

    #[test]
    fn only_the_token_of_the_current_user_changes() {
        let text = "current-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n\
                    users:\n- name: other\n  user: {token: keep}\n- name: u\n  user: {token: old}\n\
                    clusters:\n- name: k\n  cluster: {server: https://m}\n";
        let new: Value =
            serde_json::from_str(&with_token(text.as_bytes(), "new").unwrap()).unwrap();
        assert_eq!(new["users"][1]["user"]["token"], "new");
        assert_eq!(new["users"][0]["user"]["token"], "keep");
        assert_eq!(new["clusters"][0]["cluster"]["server"], "https://m");
        assert_eq!(with_token(b"{}", "new"), None);
        assert_eq!(with_token(b"\xff", "new"), None);
    }
}
