//! Asks a member whether it answers, and what it serves. Nothing it answers is repeated: conditions
//! carry an error class, a status code and our own words.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde_json::Value;
use tmc_api::workload::{ApiGroup, reason};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::Connection;

use crate::connector::Refused;

/// How long one probe may take in all.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;
/// Most groups that are kept.
const MAX_GROUPS: usize = 200;
/// Most resources kept of one group.
const MAX_RESOURCES: usize = 500;
/// Most versions kept of one group.
const MAX_VERSIONS: usize = 20;
/// Most bytes that all groups may take as JSON: they are written into a status, and a hub takes no
/// object of more than 1.5 MiB.
const MAX_SERVED: usize = 240 << 10;
/// Longest version text that is kept.
const MAX_VERSION: usize = 64;

/// Why a member cannot be used; each is a reason of the condition `Connected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The condition reason.
    pub reason: &'static str,
    /// Our words.
    pub message: String,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What a member serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Groups, sorted by name; resources only of those that are synced.
    pub groups: Vec<ApiGroup>,
    /// There was more.
    pub truncated: bool,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The member's `gitVersion`.
    pub version: String,
    /// What it serves, if that was asked for.
    pub served: Option<Result<Served, Failure>>,
}

/// Asks for the version and, if `synced` is given, for what is served of those groups.
///
/// # Errors
/// The class of what went wrong with the version.
pub async fn probe(
    connection: &Connection,
    synced: Option<&[GroupVersionResource]>,
) -> Result<Found, Failure> {
    let asking = async {
        let version = version_of(&get(connection, "/version").await?);
        let served = match synced {
            Some(synced) => Some(discover(connection, synced).await),
            None => None,
        };
        Ok(Found { version, served })
    };
    tokio::time::timeout(PROBE_TIMEOUT, asking)
        .await
        .unwrap_or_else(|_| {
            let text = format!(
                "the member did not answer within {} s",
                PROBE_TIMEOUT.as_secs()
            );
            Err(Failure::new(reason::CONNECTION_TIMEOUT, text))
        })
}

fn version_of(answer: &Value) -> String {
    let text = answer["gitVersion"].as_str().unwrap_or_default();
    text.chars()
        .filter(char::is_ascii_graphic)
        .take(MAX_VERSION)
        .collect()
}

async fn discover(
    connection: &Connection,
    synced: &[GroupVersionResource],
) -> Result<Served, Failure> {
    let core = get(connection, "/api").await?;
    let list = get(connection, "/apis").await?;
    let mut groups = vec![core_group(&core)];
    groups.extend(
        list["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(group),
    );
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    let truncated = groups.len() > MAX_GROUPS;
    if truncated {
        // What is synced is never cut.
        let mut room = MAX_GROUPS;
        groups.retain(|group| {
            let keep = synced.iter().any(|gvr| gvr.group == group.name) || room > 0;
            room = room.saturating_sub(usize::from(keep));
            keep
        });
    }
    for group in &mut groups {
        group.resources = resources(connection, group, synced).await?;
    }
    let cut = fit(&mut groups, synced);
    Ok(Served {
        groups,
        truncated: truncated || cut,
    })
}

/// Leaves out what does not fit into [`MAX_SERVED`]; whether there was such. What is synced comes
/// first, and of a group of those that is too large what is not synced goes.
fn fit(groups: &mut Vec<ApiGroup>, synced: &[GroupVersionResource]) -> bool {
    let is_synced = |group: &ApiGroup| synced.iter().any(|gvr| gvr.group == group.name);
    let (mut room, mut cut) = (MAX_SERVED, false);
    groups.sort_by_key(|group| !is_synced(group));
    groups.retain_mut(|group| {
        if size_of(group) > room {
            cut = true;
            let of_group = |resource: &String| {
                let mut synced = synced.iter().filter(|gvr| gvr.group == group.name);
                synced.any(|gvr| gvr.resource == *resource)
            };
            group.resources.retain(of_group);
        }
        let left = room.checked_sub(size_of(group));
        room = left.unwrap_or(room);
        left.is_some()
    });
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    cut
}

/// Bytes of a group in a list, as JSON.
fn size_of(group: &ApiGroup) -> usize {
    serde_json::to_vec(group).map_or(usize::MAX, |json| json.len() + 1)
}

/// The resources of a group in the versions that are synced.
async fn resources(
    connection: &Connection,
    group: &ApiGroup,
    synced: &[GroupVersionResource],
) -> Result<Vec<String>, Failure> {
    let wanted: BTreeSet<&str> = synced
        .iter()
        .filter(|gvr| gvr.group == group.name && group.versions.contains(&gvr.version))
        .map(|gvr| &*gvr.version)
        .collect();
    let mut names = BTreeSet::new();
    for version in wanted {
        let path = if group.name.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{}/{version}", group.name)
        };
        let answer = get(connection, &path).await?;
        let listed = answer["resources"].as_array().into_iter().flatten();
        let plain = listed
            .filter_map(|r| r["name"].as_str())
            .filter(|n| is_name(n));
        names.extend(plain.map(str::to_owned));
    }
    Ok(names.into_iter().take(MAX_RESOURCES).collect())
}

fn core_group(answer: &Value) -> ApiGroup {
    let versions = answer["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let versions: Vec<String> = versions
        .filter(|v| is_name(v))
        .map(str::to_owned)
        .take(MAX_VERSIONS)
        .collect();
    let preferred_version = versions.first().cloned().unwrap_or_default();
    ApiGroup {
        name: String::new(),
        versions,
        preferred_version,
        resources: Vec::new(),
    }
}

fn group(entry: &Value) -> Option<ApiGroup> {
    let text = |value: &Value| value.as_str().filter(|t| is_name(t)).map(str::to_owned);
    let versions = entry["versions"].as_array()?.iter();
    Some(ApiGroup {
        name: text(&entry["name"])?,
        versions: versions
            .filter_map(|v| text(&v["version"]))
            .take(MAX_VERSIONS)
            .collect(),
        preferred_version: text(&entry["preferredVersion"]["version"]).unwrap_or_default(),
        resources: Vec::new(),
    })
}

/// Whether text can be the name of a group, version or resource (subresources are none).
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain)
}

async fn get(connection: &Connection, path: &str) -> Result<Value, Failure> {
    let request = Request::get(path)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|_| Failure::new(reason::CONNECTION_FAILED, "not a request"))?;
    let response = connection
        .base_client()
        .send(request)
        .await
        .map_err(|error| match error {
            kube::Error::Service(inner) => classify(&*inner),
            other => classify(&other),
        })?;
    check(response.status())?;
    let limited = Limited::new(response.into_body(), MAX_ANSWER).collect();
    let bytes = limited.await.map_err(|error| classify(&*error))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| {
        Failure::new(
            reason::CONNECTION_FAILED,
            "the member's answer is not that of an API server",
        )
    })
}

fn check(status: StatusCode) -> Result<(), Failure> {
    let code = status.as_u16();
    match code {
        200..=299 => Ok(()),
        300..=399 => {
            let text =
                format!("the member answered with a redirect ({code}), which is not followed");
            Err(Failure::new(reason::CONNECTION_FAILED, text))
        }
        401 | 403 => {
            let text = format!("the member does not accept the credential ({code})");
            Err(Failure::new(reason::UNAUTHORIZED, text))
        }
        _ => {
            let text = format!("the member answered with status code {code}");
            Err(Failure::new(reason::CONNECTION_FAILED, text))
        }
    }
}

/// Finds the class of a transport error in its chain of causes.
fn classify(error: &(dyn StdError + 'static)) -> Failure {
    let mut text = "the connection failed";
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Failure::new(reason::ENDPOINT_FORBIDDEN, refused.to_string());
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Failure::new(reason::TLS_ERROR, tls_words(tls));
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::TimedOut => {
                    let text = "the member did not answer in time";
                    return Failure::new(reason::CONNECTION_TIMEOUT, text);
                }
                io::ErrorKind::ConnectionRefused => text = "the connection was refused",
                io::ErrorKind::ConnectionReset => text = "the connection was reset",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    text = "there is no route to the member";
                }
                _ => {}
            }
            // An I/O error hides what it wraps: `source` is that of the inner error.
            if let Some(inner) = error.get_ref() {
                next = Some(inner);
                continue;
            }
        }
        next = cause.source();
    }
    Failure::new(reason::CONNECTION_FAILED, text)
}

fn tls_words(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "the member's certificate is for another host",
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => "the member's certificate has expired",
        rustls::Error::InvalidCertificate(_) => {
            "the member's certificate is not signed by the certificate authority of the kubeconfig"
        }
        rustls::Error::AlertReceived(_) => "the member refused the TLS handshake",
        _ => "the TLS handshake failed",
    }
}

/// What can be used of a member with these groups (`status.capabilities.features`), sorted.
pub fn features(groups: &[ApiGroup]) -> Vec<String> {
    const BY_GROUP: [(&str, &[&str]); 10] = [
        ("apps", &["DaemonSets", "Deployments", "StatefulSets"]),
        ("autoscaling", &["HPA"]),
        ("networking.k8s.io", &["NetworkPolicies"]),
        ("policy", &["PDB"]),
        ("rbac.authorization.k8s.io", &["RBAC"]),
        ("storage.k8s.io", &["StorageClasses"]),
        ("networking.istio.io", &["Istio"]),
        ("linkerd.io", &["Linkerd"]),
        ("cilium.io", &["Cilium"]),
        ("gateway.networking.k8s.io", &["GatewayAPI"]),
    ];
    let served = BY_GROUP
        .iter()
        .filter(|(name, _)| groups.iter().any(|group| group.name == *name));
    let names: BTreeSet<&str> = served
        .flat_map(|(_, features)| features.iter().copied())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
