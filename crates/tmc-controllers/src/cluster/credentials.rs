//! The credential of a Cluster: its Secret, read again only when it changes.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;
use tmc_api::agent::kubeconfig::TokenClaims;
use tmc_api::agent::registration;
use tmc_api::hashes::base36_sha224;
use tmc_api::keys::KUBECONFIG_SECRET_TYPE;
use tmc_api::workload::{Cluster, CredentialKind, reason};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::{ClusterKey, Connection, Endpoint, Error, ResourceClient};

use super::account::print_of;
use super::reconcile::ValidCredential;
use super::warnings::Warnings;
use crate::context::Context;
use crate::kubeconfig::{self, Kind, MemberKubeconfig, Refusal};
use crate::stores::secret_key;

/// A valid credential and the connection it opens.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) facts: ValidCredential,
    /// The error says, without secrets, why the endpoint cannot be used.
    pub(crate) connection: Result<Connection, String>,
    /// Server, trust and credential.
    pub(crate) endpoint: Endpoint,
    /// Changes exactly when server or trust do.
    pub(crate) server: String,
    /// Name and key of the Secret.
    pub(crate) secret: (String, String),
    /// What the token says of itself, if it is one that `tmc cluster register` made.
    pub(crate) registration: Option<TokenClaims>,
}

/// A refusal: reason and message of `CredentialsValid`.
type Refused = (&'static str, String);

/// What was read of a Secret, by its version.
#[derive(Clone)]
struct Read {
    secret_uid: String,
    secret_version: String,
    secret_key: String,
    result: Result<Credential, Refused>,
}

/// What was read, by Cluster. Holds no secret but inside the connections.
#[derive(Default)]
pub(crate) struct CredentialCache {
    read: Mutex<HashMap<ClusterKey, Arc<Read>>>,
    /// What was told of their ends.
    pub(super) warnings: Warnings,
}

impl CredentialCache {
    /// How much is kept of Clusters' credentials.
    pub(crate) fn count(&self) -> usize {
        self.read.lock().len() + self.warnings.count()
    }

    /// Forgets a Cluster that does not exist any more.
    pub(crate) fn forget(&self, cluster: &ClusterKey) {
        self.read.lock().remove(cluster);
        self.warnings.forget(cluster);
    }
}

/// The credential of a Cluster, or why there is none to use.
///
/// # Errors
/// If the Secret could not be read for another reason than that it does not exist.
pub(crate) async fn check(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
) -> Result<Result<Credential, Refused>, Error> {
    let name = secret_key(key, cluster);
    let field = &cluster.spec.kubeconfig_secret_ref.key;
    let known = ctx.credentials.read.lock().get(key).cloned();
    // The informer knows names and versions of Secrets, never their content.
    let current = ctx.stores.resources.iter().find(|r| r.gvr == secrets());
    let current = current.and_then(|secrets| secrets.store.get(&name));
    if let (Some(known), Some(current)) = (known, current)
        && known.secret_uid == current.metadata.uid
        && known.secret_version == current.metadata.resource_version
        && known.secret_key == *field
        && !has_expired(&known, ctx)
    {
        return Ok(known.result.clone());
    }
    let client = ResourceClient::new(ctx.hub.cluster(&key.cluster), secrets());
    let secret = match client.get(&name.namespace, &name.name).await {
        Ok(secret) => secret,
        Err(error) if error.is_not_found() => {
            ctx.credentials.read.lock().remove(key);
            let text = format!(
                "Secret \"{}\" does not exist in namespace \"{}\"; create it with the kubeconfig under the key \"{field}\"",
                name.name, name.namespace
            );
            return Ok(Err((reason::SECRET_NOT_FOUND, text)));
        }
        Err(error) => return Err(error),
    };
    let result = read(ctx, &secret, field);
    let read = Read {
        secret_uid: meta(&secret).uid().to_owned(),
        secret_version: meta(&secret).resource_version().to_owned(),
        secret_key: field.clone(),
        result: result.clone(),
    };
    ctx.credentials
        .read
        .lock()
        .insert(key.clone(), Arc::new(read));
    Ok(result)
}

/// Words for the account that `tmc cluster register` makes in a member.
pub(super) const MADE: &str = "the registration account";
/// Words for one that there may be.
const PERHAPS_MADE: &str = "a registration account that \"tmc cluster register\" may have made";

/// Words for the account of a registration behind a credential that cannot be used; `None` if it is
/// none that `tmc cluster register` made.
///
/// # Errors
/// If the Secret could not be read for another reason than that it does not exist.
pub(super) async fn account_behind(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
) -> Result<Option<&'static str>, Error> {
    let name = secret_key(key, cluster);
    let client = ResourceClient::new(ctx.hub.cluster(&key.cluster), secrets());
    match client.get(&name.namespace, &name.name).await {
        Ok(secret) => Ok(account_in(&secret, &cluster.spec.kubeconfig_secret_ref.key)),
        // Nobody knows any more what it held.
        Err(error) if error.is_not_found() => Ok(Some(PERHAPS_MADE)),
        Err(error) => Err(error),
    }
}

fn account_in(secret: &Value, field: &str) -> Option<&'static str> {
    let content = content(secret, field).ok();
    match content.as_deref().and_then(document) {
        Some(document) => registration::recognise(&document).map(|_| MADE),
        // `register` gives its Secrets this type.
        None => (secret["type"] == KUBECONFIG_SECRET_TYPE).then_some(PERHAPS_MADE),
    }
}

fn has_expired(known: &Read, ctx: &Context) -> bool {
    let expires = known
        .result
        .as_ref()
        .ok()
        .and_then(|credential| credential.facts.expires);
    expires.is_some_and(|end| end <= ctx.now())
}

pub(super) fn secrets() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "secrets")
}

fn read(ctx: &Context, secret: &Value, field: &str) -> Result<Credential, Refused> {
    let content = content(secret, field)?;
    let kubeconfig = kubeconfig::read(&content, ctx.deps.allowances, ctx.now())
        .map_err(|refusal: Refusal| (refusal.class.reason(), refusal.to_string()))?;
    let connection = ctx.deps.outbound.connect(&kubeconfig.endpoint);
    Ok(Credential {
        facts: facts(&kubeconfig, fingerprint(meta(secret).uid(), &content)),
        connection: connection.map_err(|error| error.to_string()),
        server: print_of(&kubeconfig.endpoint),
        endpoint: kubeconfig.endpoint,
        secret: (meta(secret).name().to_owned(), field.to_owned()),
        registration: registered(&content),
    })
}

fn registered(content: &[u8]) -> Option<TokenClaims> {
    registration::recognise(&document(content)?)
}

/// A kubeconfig as a document; `None` for what is none.
fn document(content: &[u8]) -> Option<Value> {
    let document: Value = serde_saphyr::from_str(std::str::from_utf8(content).ok()?).ok()?;
    document.is_object().then_some(document)
}

pub(super) fn content(secret: &Value, field: &str) -> Result<Vec<u8>, Refused> {
    let missing = || {
        let text = format!("the Secret has no key \"{field}\"; store the kubeconfig under it");
        (reason::INVALID_CREDENTIALS, text)
    };
    let text = secret["data"][field]
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(missing)?;
    STANDARD.decode(text).map_err(|_| {
        let text = format!("key \"{field}\" of the Secret is not base64");
        (reason::INVALID_CREDENTIALS, text)
    })
}

fn facts(kubeconfig: &MemberKubeconfig, fingerprint: String) -> ValidCredential {
    ValidCredential {
        kind: match kubeconfig.kind {
            Kind::ClientCertificate => CredentialKind::ClientCertificate,
            Kind::Token => CredentialKind::Token,
        },
        expires: kubeconfig.expires,
        fingerprint,
    }
}

/// Opaque, and different for equal contents of two Secrets.
pub(super) fn fingerprint(secret_uid: &str, content: &[u8]) -> String {
    let text = format!("{secret_uid}\n{}", String::from_utf8_lossy(content));
    base36_sha224(&text)[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_empty_or_undecodable_key_is_invalid_and_never_an_empty_configuration() {
        for data in [
            json!({}),
            json!({"kubeconfig": ""}),
            json!({"kubeconfig": "*"}),
            json!(null),
        ] {
            let secret = json!({"data": data});
            let (reason, message) = content(&secret, "kubeconfig").unwrap_err();
            assert_eq!(reason, "InvalidCredentials");
            assert!(message.contains("\"kubeconfig\""), "{message}");
        }
        assert_eq!(content(&json!({"data": {"k": "YQ=="}}), "k").unwrap(), b"a");
    }

    #[test]
    fn a_fingerprint_differs_by_content_and_secret() {
        let prints = [
            fingerprint("u", b"a"),
            fingerprint("u", b"b"),
            fingerprint("v", b"a"),
        ];
        assert_eq!(
            prints
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            3
        );
        assert_eq!(prints[0], fingerprint("u", b"a"));
    }
}
