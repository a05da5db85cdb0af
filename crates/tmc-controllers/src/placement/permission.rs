//! Whether a workspace may use Locations of another one: a SubjectAccessReview there, verb `use`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tmc_api::scheduling;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Error, Hub, ResourceClient};

use super::observed::Permission;

/// The user that stands for everyone who may write Placements in a workspace.
pub fn workspace_user(cluster: &ClusterName) -> String {
    format!("system:kcp:workspace:{cluster}")
}

/// The review that asks whether a workspace may use one Location, or all of them (no name).
pub fn review(cluster: &ClusterName, location: Option<&str>) -> Value {
    let mut attributes =
        json!({"group": scheduling::GROUP, "resource": "locations", "verb": "use"});
    if let Some(name) = location {
        attributes["name"] = name.into();
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": workspace_user(cluster), "groups": [], "resourceAttributes": attributes},
    })
}

/// Asks the provider which of the named Locations may be used. A permission for all of them spares
/// the rest.
///
/// # Errors
/// Any failure to get an answer: then nothing is decided.
pub async fn ask(
    hub: &Hub,
    cluster: &ClusterName,
    provider: &ClusterName,
    names: &[String],
) -> Result<Permission, Error> {
    let gvr = GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
    let client = ResourceClient::new(hub.cluster(provider), gvr);
    let allowed = async |location: Option<&str>| {
        let answer = client.create("", &review(cluster, location)).await?;
        Ok::<_, Error>(answer["status"]["allowed"] == true)
    };
    if allowed(None).await? {
        return Ok(Permission::All);
    }
    let mut usable = BTreeSet::new();
    for name in names {
        if allowed(Some(name)).await? {
            usable.insert(name.clone());
        }
    }
    Ok(Permission::Only(usable))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use tmc_runtime::Connection;

    use super::*;

    /// A hub whose `/clusters/provider` allows what `rule` says, and knows no other workspace.
    fn hub(rule: fn(&Value) -> bool) -> Hub {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await?;
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let expected = "/clusters/provider/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let code = if path == expected { 201 } else { 404 };
            review["status"]["allowed"] = rule(&review["spec"]).into();
            let body = Body::from(review.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
        });
        Hub {
            connection: Connection::in_process(service),
            workspaces: true,
        }
    }

    async fn asked(rule: fn(&Value) -> bool) -> Permission {
        let names = ["east".to_owned(), "west".to_owned()];
        let provider = ClusterName::new("provider");
        ask(&hub(rule), &ClusterName::new("c1"), &provider, &names)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_permission_is_for_all_for_some_or_for_none() {
        let user =
            |spec: &Value| spec["user"] == "system:kcp:workspace:c1" && spec["groups"] == json!([]);
        assert_eq!(asked(user).await, Permission::All);
        let east = asked(|spec| {
            let asked = &spec["resourceAttributes"];
            asked["name"] == "east" && asked["verb"] == "use" && asked["resource"] == "locations"
        });
        assert_eq!(east.await, Permission::Only(["east".to_owned()].into()));
        assert_eq!(asked(|_| false).await, Permission::Only(BTreeSet::new()));
    }

    #[tokio::test]
    async fn no_answer_is_an_error_and_not_a_no() {
        let (own, elsewhere) = (ClusterName::new("c1"), ClusterName::new("elsewhere"));
        assert!(ask(&hub(|_| true), &own, &elsewhere, &[]).await.is_err());
    }
}
