//! What the member serves: for the report that makes resources `Accepted`.

use serde_json::{Value, json};
use tmc_runtime::client::{Error, get_path};

/// Most group-versions that are asked for their resources: a bound on a hostile member's answer.
const MAX_GROUP_VERSIONS: usize = 200;

/// The APIs of a server as `report.apis[]`: `{group, versions[], resources[]}`, sorted.
///
/// # Errors
/// When the server cannot be asked. A single group-version that fails (an aggregated API that is
/// down) is left out.
pub async fn served_apis(client: &kube::Client) -> Result<Vec<Value>, Error> {
    let mut apis = vec![api(client, "", &["v1".to_owned()], "/api").await?];
    let groups: Value = decode(&get_path(client, "/apis").await?)?;
    let mut budget = MAX_GROUP_VERSIONS;
    for group in groups["groups"].as_array().into_iter().flatten() {
        let name = group["name"].as_str().unwrap_or_default();
        let versions: Vec<String> = group["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v["version"].as_str().map(str::to_owned))
            .collect();
        if name.is_empty() || versions.is_empty() || budget < versions.len() {
            continue;
        }
        budget -= versions.len();
        match api(client, name, &versions, "/apis").await {
            Ok(api) => apis.push(api),
            Err(error) => tracing::debug!(group = name, %error, "left out of the report"),
        }
    }
    apis.sort_by(|a, b| a["group"].as_str().cmp(&b["group"].as_str()));
    Ok(apis)
}

async fn api(
    client: &kube::Client,
    group: &str,
    versions: &[String],
    root: &str,
) -> Result<Value, Error> {
    let mut resources: Vec<String> = Vec::new();
    for version in versions {
        let path = if group.is_empty() {
            format!("{root}/{version}")
        } else {
            format!("{root}/{group}/{version}")
        };
        let list: Value = decode(&get_path(client, &path).await?)?;
        let names = list["resources"].as_array().into_iter().flatten();
        resources.extend(names.filter_map(|r| {
            let name = r["name"].as_str()?;
            (!name.contains('/')).then(|| name.to_owned())
        }));
    }
    resources.sort();
    resources.dedup();
    Ok(json!({"group": group, "versions": versions, "resources": resources}))
}

fn decode(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Transport(format!("the answer is no JSON: {error}")))
}
