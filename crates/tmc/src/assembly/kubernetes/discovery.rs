//! What a Kubernetes API server serves, by its discovery documents.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::Error;
use tmc_runtime::client::get_path;

use crate::assembly::controllers::not_namespaced;

async fn document(client: &kube::Client, path: &str) -> Result<Option<Value>, Error> {
    match get_path(client, path).await {
        Ok(body) => Ok(serde_json::from_slice(&body).ok()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn listed<'a>(document: Option<&'a Value>, resource: &str) -> Option<&'a Value> {
    let resources = document.and_then(|found| found["resources"].as_array())?;
    resources.iter().find(|one| one["name"] == resource)
}

/// Whether a resource is served in exactly this version.
///
/// # Errors
/// When the server does not say.
pub async fn serves(client: &kube::Client, gvr: &GroupVersionResource) -> Result<bool, Error> {
    let path = format!("/apis/{}/{}", gvr.group, gvr.version);
    let document = document(client, &path).await?;
    Ok(listed(document.as_ref(), &gvr.resource).is_some())
}

/// The resources behind `plural.group` names, in the version that the server prefers.
///
/// # Errors
/// Naming the one that is not served, or in no namespace.
pub async fn resources(
    client: &kube::Client,
    names: &[String],
) -> Result<Vec<GroupVersionResource>> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.push(resource(client, name).await?);
    }
    Ok(found)
}

async fn resource(client: &kube::Client, name: &str) -> Result<GroupVersionResource> {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    let unknown = || {
        anyhow!(
            "--sync-resources {name}: the hub serves no such resource; write plural.group, like deployments.apps"
        )
    };
    if resource.is_empty() || name.contains('/') {
        return Err(unknown());
    }
    let (version, path) = if group.is_empty() {
        ("v1".to_owned(), "/api/v1".to_owned())
    } else {
        let described = document(client, &format!("/apis/{group}")).await?;
        let described = described.ok_or_else(unknown)?;
        let version = described["preferredVersion"]["version"].as_str();
        let version = version.ok_or_else(unknown)?.to_owned();
        let path = format!("/apis/{group}/{version}");
        (version, path)
    };
    let document = document(client, &path).await?;
    let found = listed(document.as_ref(), resource).ok_or_else(unknown)?;
    if found["namespaced"] != true {
        return Err(not_namespaced(name));
    }
    Ok(GroupVersionResource::new(group, &version, resource))
}

/// Checks that the server answers, and that it is Kubernetes.
///
/// # Errors
/// One sentence.
pub async fn check_kubernetes(client: &kube::Client) -> Result<()> {
    let answer = document(client, "/version").await;
    match answer {
        Ok(Some(version)) if version["gitVersion"].is_string() => Ok(()),
        Ok(_) => bail!("--hub-kubeconfig: its server is no Kubernetes API server"),
        Err(error) => bail!("--hub-kubeconfig: the hub cannot be reached: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::json;
    use tmc_runtime::Connection;

    use super::*;

    fn server() -> kube::Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let found = match request.uri().path() {
                "/api/v1" => Some(json!({"resources": [
                    {"name": "services", "namespaced": true},
                    {"name": "pods/log", "namespaced": true},
                    {"name": "persistentvolumes", "namespaced": false},
                ]})),
                "/apis/apps" => Some(json!({"preferredVersion": {"version": "v1"}})),
                "/apis/apps/v1" => {
                    Some(json!({"resources": [{"name": "deployments", "namespaced": true}]}))
                }
                "/apis/example.com" => Some(json!({"preferredVersion": {"version": "v2"}})),
                "/apis/example.com/v2" => {
                    Some(json!({"resources": [{"name": "widgets", "namespaced": true}]}))
                }
                _ => None,
            };
            let mut response = Response::new(Body::from(json!(found).to_string().into_bytes()));
            if found.is_none() {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            Ok::<_, tower::BoxError>(response)
        });
        Connection::in_process(service).client("")
    }

    #[tokio::test]
    async fn names_are_resolved_in_the_preferred_version() {
        let names = ["services", "deployments.apps", "widgets.example.com"].map(str::to_owned);
        let found = resources(&server(), &names).await.expect("served");
        let expected = [
            GroupVersionResource::new("", "v1", "services"),
            GroupVersionResource::new("apps", "v1", "deployments"),
            GroupVersionResource::new("example.com", "v2", "widgets"),
        ];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn what_is_not_served_is_named() {
        for name in [
            "deployments",
            "widgets.apps",
            "a.b",
            "",
            "pods/log",
            ".apps",
        ] {
            let error = resources(&server(), &[name.to_owned()]).await;
            let text = error.expect_err("not served").to_string();
            assert!(
                text.contains(&format!("--sync-resources {name}:")),
                "{text}"
            );
        }
    }
    #[tokio::test]
    async fn what_is_in_no_namespace_is_refused() {
        let error = resources(&server(), &["persistentvolumes".to_owned()]).await;
        let text = error.expect_err("cluster-scoped").to_string();
        assert!(
            text.starts_with("--sync-resources persistentvolumes: "),
            "{text}"
        );
    }
}
