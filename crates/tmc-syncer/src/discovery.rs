//! What the member serves: for the report that makes resources `Accepted`.

use serde_json::{Value, json};
use tmc_runtime::client::{Error, get_path};

/// Most group-versions that are asked for their resources: a bound on a hostile member's answer.
const MAX_GROUP_VERSIONS: usize = 200;

/// The APIs of a server as `report.apis[]`, one `{group, versions[], resources[]}` a group-version,
/// sorted.
///
/// # Errors
/// When the server cannot be asked. A single group-version that fails (an aggregated API that is
/// down) is left out.
pub async fn served_apis(client: &kube::Client) -> Result<Vec<Value>, Error> {
    let mut apis = vec![api(client, "", "v1").await?];
    let groups: Value = decode(&get_path(client, "/apis").await?)?;
    let mut named: Vec<(String, String)> = Vec::new();
    for group in groups["groups"].as_array().into_iter().flatten() {
        let versions = group["versions"].as_array().into_iter().flatten();
        named.extend(versions.filter_map(|version| {
            Some((
                group["name"].as_str()?.to_owned(),
                version["version"].as_str()?.to_owned(),
            ))
        }));
    }
    named.sort();
    for (group, version) in named.iter().take(MAX_GROUP_VERSIONS) {
        match api(client, group, version).await {
            Ok(api) => apis.push(api),
            Err(error) => tracing::debug!(group, version, %error, "left out of the report"),
        }
    }
    Ok(apis)
}

async fn api(client: &kube::Client, group: &str, version: &str) -> Result<Value, Error> {
    let path = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let list: Value = decode(&get_path(client, &path).await?)?;
    let names = list["resources"].as_array().into_iter().flatten();
    let mut resources: Vec<&str> = names
        .filter_map(|r| r["name"].as_str().filter(|name| !name.contains('/')))
        .collect();
    resources.sort_unstable();
    Ok(json!({"group": group, "versions": [version], "resources": resources}))
}

fn decode(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Transport(format!("the answer is no JSON: {error}")))
}
