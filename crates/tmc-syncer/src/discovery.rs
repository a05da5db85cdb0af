//! What the member serves: for the report that makes resources `Accepted`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tmc_runtime::client::{Error, get_path};

/// Most group-versions that are asked for their resources: a bound on a hostile member's answer.
const MAX_GROUP_VERSIONS: usize = 200;
/// Most resources of all of them: as many as the hub takes from a report.
const MAX_RESOURCES: usize = 5_000;
/// Longest name of a group, version or resource, in bytes.
const MAX_NAME: usize = 253;

#[derive(Deserialize)]
struct Groups {
    /// API servers write lists of nothing as null.
    groups: Option<Vec<Group>>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    name: String,
    versions: Option<Vec<Version>>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    name: String,
}

/// The APIs of a server as `report.apis[]`, one `{group, versions[], resources[]}` a group-version,
/// sorted. At most 5,000 resources of at most 200 group-versions beside core's; the rest is left out.
///
/// # Errors
/// When the server cannot be asked. A single group-version that fails (an aggregated API that is
/// down) is left out.
pub async fn served_apis(client: &kube::Client) -> Result<Vec<Value>, Error> {
    let mut room = MAX_RESOURCES;
    let mut apis = vec![api(client, "", "v1", &mut room).await?];
    let groups: Groups = decode(&get_path(client, "/apis").await?)?;
    for (group, version) in first_named(groups) {
        if room == 0 {
            let most = MAX_RESOURCES;
            tracing::debug!(group, version, "a member serves more than {most} resources");
            break;
        }
        match api(client, &group, &version, &mut room).await {
            Ok(api) => apis.push(api),
            Err(error) => tracing::debug!(group, version, %error, "left out of the report"),
        }
    }
    Ok(apis)
}

/// The first group-versions in order.
fn first_named(groups: Groups) -> BTreeSet<(String, String)> {
    let mut named = BTreeSet::new();
    let groups = groups.groups.iter().flatten();
    for group in groups.filter(|group| is_name(&group.name)) {
        let versions = group.versions.iter().flatten();
        for version in versions.filter(|v| is_name(&v.version)) {
            named.insert((group.name.clone(), version.version.clone()));
            if named.len() > MAX_GROUP_VERSIONS {
                named.pop_last();
            }
        }
    }
    named
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.contains('/')
}

async fn api(
    client: &kube::Client,
    group: &str,
    version: &str,
    room: &mut usize,
) -> Result<Value, Error> {
    let path = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let list: Resources = decode(&get_path(client, &path).await?)?;
    let resources = list.resources.into_iter().flatten();
    let names = resources.map(|resource| resource.name);
    // Subresources have a slash.
    let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
    names.sort_unstable();
    names.truncate(*room);
    *room -= names.len();
    Ok(json!({"group": group, "versions": [version], "resources": names}))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Transport(format!("the answer cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use tmc_runtime::Connection;

    use super::*;

    /// What a member serves that answers each path by a function.
    async fn served(answer: fn(&str) -> Value) -> Vec<Value> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let body = answer(request.uri().path()).to_string();
            Ok::<_, std::io::Error>(Response::new(Body::from(body.into_bytes())))
        });
        let client = Connection::in_process(service).client("");
        served_apis(&client).await.expect("it answers")
    }

    fn resources(api: &Value) -> Vec<&str> {
        let list = api["resources"].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    }

    #[tokio::test]
    async fn group_versions_are_named_in_order_with_their_plain_resources() {
        let apis = served(|path| match path {
            "/apis" => json!({"groups": [
                {"name": "none", "versions": null},
                {"name": "b", "versions": [{"version": "v2"}, {"version": "v1"}]},
                {"name": "apps", "versions": [{"version": "v1"}]},
            ]}),
            _ => json!({"resources": [{"name": "z"}, {"name": "a/status"}, {"name": "a"}]}),
        })
        .await;
        let named: Vec<_> = apis.iter().map(|api| api["group"].as_str()).collect();
        assert_eq!(named, [Some(""), Some("apps"), Some("b"), Some("b")]);
        assert_eq!(apis[2]["versions"], json!(["v1"]));
        assert!(apis.iter().all(|api| resources(api) == ["a", "z"]));
    }

    #[tokio::test]
    async fn a_member_that_serves_without_end_makes_no_long_report() {
        let apis = served(|path| {
            if path == "/apis" {
                let versions: Vec<_> = (0..1_000)
                    .map(|n| json!({"version": format!("v{n}")}))
                    .collect();
                return json!({"groups": [
                    {"name": "g".repeat(300), "versions": [{"version": "v1"}]},
                    {"name": "g", "versions": versions},
                ]});
            }
            let many = (0..100).map(|n| json!({"name": format!("r{n}{}", "x".repeat(200))}));
            let long = [json!({"name": "r".repeat(300)})];
            json!({"resources": many.chain(long).collect::<Vec<_>>()})
        })
        .await;
        let total: usize = apis.iter().map(|api| resources(api).len()).sum();
        assert_eq!((apis.len(), total), (50, MAX_RESOURCES));
        assert!(apis.iter().all(|api| api["group"] != "g".repeat(300)));
    }
}
