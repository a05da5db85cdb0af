//! The registration account in the member, and the minimal kubeconfig that the hub gets of it.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tmc_api::agent::registration::{self, Registered};
use tmc_api::agent::{kubeconfig as minimal, resource_of};
use tmc_api::time::Time;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::{Error, ListParams, PatchKind, get_path};

use super::resolve::{Resolved, resolve};
use crate::commands::member;
use crate::context::Context;
use crate::output::{self, list, text};

/// Life of the uploaded token; the hub renews it long before.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// Makes the account with the user's own credential; the kubeconfig to upload.
///
/// # Errors
/// One sentence naming what is missing in the kubeconfig or in the member, with the remedy.
pub(super) async fn kubeconfig(
    context: &Context,
    name: &str,
    file: &Path,
    chosen: Option<&str>,
) -> Result<String> {
    let member = resolve(file, chosen).await?;
    let version = greet(&member).await?;
    output::step(
        "member",
        format!(
            "{} (context {}), Kubernetes {version}",
            member.server, member.context
        ),
    );
    let cluster = context.logical_cluster(&context.workspace).await?;
    let of = Registered {
        hub: &crate::kubeconfig::current_server(&crate::kubeconfig::read(&context.file)?)?,
        cluster: &cluster,
        namespace: member::NAMESPACE,
        name,
    };
    let account = of.account();
    let synced = synced_resources(context).await;
    for manifest in registration::manifests(&of, &synced) {
        put(&member, &manifest).await?;
    }
    output::step(
        "member",
        format!("account {account} in namespace {}", registration::NAMESPACE),
    );
    let token = token(&member, &account).await?;
    if let Some(claims) = minimal::claims(&token)
        && let Ok(ends) = jiff::Timestamp::from_second(claims.expires)
    {
        let ends = Time::new(ends);
        output::step("member", format!("token until {ends}; the hub renews it"));
    }
    let document = minimal::with_token(&member.server, &member.ca, &token);
    serde_saphyr::to_string(&document).context("cannot be written as YAML")
}

/// Whether the member answers this user; its version.
async fn greet(member: &Resolved) -> Result<String> {
    let answer = get_path(&member.connection.base_client(), "/version").await;
    let body = answer.map_err(|error| unreachable(member, &error))?;
    let document: Value = serde_json::from_slice(&body).map_err(|_| {
        anyhow!(
            "{} is no Kubernetes API server: its /version is no JSON",
            member.server
        )
    })?;
    Ok(text(&document, "/gitVersion").to_owned())
}

fn unreachable(member: &Resolved, error: &Error) -> anyhow::Error {
    let (server, context) = (&member.server, &member.context);
    match error.code() {
        Some(401) => anyhow!(
            "the cluster at {server} does not accept the credential of context {context}: log in \
             again, or use another context (--context)"
        ),
        Some(_) => anyhow!("the cluster at {server} answers: {error}"),
        None => anyhow!(
            "the cluster at {server} cannot be reached: {}",
            output::cause(error)
        ),
    }
}

/// What the targets of this workspace sync already, and what the hub makes them sync by default:
/// rights that are not needed later do no harm, rights that are missing do.
async fn synced_resources(context: &Context) -> Vec<GroupVersionResource> {
    let mut all = default_resources();
    let known = member::targets(context)
        .list("", &ListParams::default())
        .await;
    let known = known.unwrap_or_default();
    let resources = list(&known, "/items")
        .iter()
        .flat_map(|t| list(t, "/status/syncedResources"));
    for resource in resources {
        for version in list(resource, "/versions").iter().filter_map(Value::as_str) {
            let one = GroupVersionResource::new(
                text(resource, "/group"),
                version,
                text(resource, "/resource"),
            );
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}

/// The hub's defaults, all of which are served as `v1`.
fn default_resources() -> Vec<GroupVersionResource> {
    crate::cli::default_sync_resources()
        .iter()
        .map(|name| {
            let (resource, group) = name.split_once('.').unwrap_or((name, ""));
            GroupVersionResource::new(group, "v1", resource)
        })
        .collect()
}

/// Creates an object in the member, or brings ours up to date.
async fn put(member: &Resolved, manifest: &Value) -> Result<()> {
    let gvr = resource_of(manifest).context("a manifest of an unknown kind")?;
    let client = ResourceClient::new(member.connection.base_client(), gvr.clone());
    let (namespace, name) = (meta(manifest).namespace(), meta(manifest).name());
    let refused = |verb: &str, error: Error| denied(member, verb, &gvr, name, &error);
    match client.create(namespace, manifest).await {
        Ok(_) => return Ok(()),
        Err(error) if error.already_exists() => {}
        Err(error) => return Err(refused("create", error)),
    }
    let old = client
        .get(namespace, name)
        .await
        .map_err(|error| refused("get", error))?;
    if !registration::is_registration(&old) {
        return Err(anyhow!(
            "the cluster has a {} {name} that is not of tmc's making: remove it there first",
            text(manifest, "/kind")
        ));
    }
    let wanted = |field: &str| !manifest[field].is_null() && manifest[field] != old[field];
    let mut patch = json!({});
    for field in ["rules", "subjects", "automountServiceAccountToken"] {
        if wanted(field) {
            patch[field] = manifest[field].clone();
        }
    }
    if patch.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(());
    }
    let patched = client
        .patch(namespace, name, "", PatchKind::Merge, &patch)
        .await;
    patched.map(|_| ()).map_err(|error| refused("patch", error))
}

/// An error of the member in words that name the right that is missing.
fn denied(
    member: &Resolved,
    verb: &str,
    gvr: &GroupVersionResource,
    name: &str,
    error: &Error,
) -> anyhow::Error {
    let resource = match &*gvr.group {
        "" => gvr.resource.to_string(),
        group => format!("{}.{group}", gvr.resource),
    };
    match error.code() {
        Some(403) => anyhow!(
            "context {} may not {verb} {resource} in the cluster ({error}); use the context of a \
             cluster administrator, or have one make a kubeconfig with a token and use --raw",
            member.context
        ),
        _ => anyhow!("{verb} {resource} {name} in the cluster: {error}"),
    }
}

/// A token of the account.
async fn token(member: &Resolved, account: &str) -> Result<String> {
    let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
    let client = ResourceClient::new(member.connection.base_client(), accounts);
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_SECONDS},
    });
    let tokens = GroupVersionResource::new("", "v1", "serviceaccounts/token");
    let answer = client
        .create_subresource(registration::NAMESPACE, account, "token", &request)
        .await
        .map_err(|error| denied(member, "create", &tokens, account, &error))?;
    match text(&answer, "/status/token") {
        "" => Err(anyhow!("the cluster gave no token for {account}")),
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_resources_with_group_and_version() {
        let all = default_resources();
        assert!(all.contains(&GroupVersionResource::new("apps", "v1", "deployments")));
        assert!(all.contains(&GroupVersionResource::new("", "v1", "services")));
        assert!(all.contains(&GroupVersionResource::new(
            "networking.k8s.io",
            "v1",
            "ingresses"
        )));
    }
}
