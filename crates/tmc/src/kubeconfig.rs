//! Reading and writing kubeconfig files without losing what others put into them.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{Kubeconfig, KubeconfigError};
use serde_json::{Value, json};

/// Reads a kubeconfig as it is.
///
/// # Errors
/// Naming the file that cannot be read.
pub fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the kubeconfig {}", file.display()))?;
    serde_saphyr::from_str(&text)
        .map_err(|error| anyhow!("{} is no kubeconfig: {error}", file.display()))
}

/// Reads a kubeconfig for a connection; `what` names it or its flag.
///
/// # Errors
/// Naming the file that cannot be read, and why, once.
pub fn load(what: &str, file: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(file).map_err(|error| {
        let why = match error {
            KubeconfigError::ReadConfig(error, _) => error.to_string(),
            other => other.to_string(),
        };
        anyhow!("cannot read {what} {}: {why}", file.display())
    })
}

/// Writes a kubeconfig in one step: a crash leaves the old one or the new one.
///
/// # Errors
/// Naming the file that cannot be written.
pub fn write(file: &Path, document: &Value) -> Result<()> {
    let text = serde_saphyr::to_string(document).context("cannot be written as YAML")?;
    write_private(file, &text)
}

/// Writes a file that only its owner can read, in one step.
///
/// # Errors
/// Naming the file that cannot be written.
pub fn write_private(file: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let next = file.with_extension("tmp");
    let written = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut out = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&next, file)
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}

/// The name of the current context.
///
/// # Errors
/// When the kubeconfig has none.
pub fn current_context(document: &Value) -> Result<String> {
    let name = document["current-context"]
        .as_str()
        .filter(|name| !name.is_empty());
    name.map(str::to_owned)
        .context("the kubeconfig has no current-context")
}

fn named<'a>(document: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    document[list]
        .as_array()?
        .iter()
        .find(|entry| entry["name"] == name)
}

/// A context by name.
pub fn context(document: &Value, name: &str) -> Option<Value> {
    named(document, "contexts", name).map(|entry| entry["context"].clone())
}

/// The namespace of the current context; `default` if it names none.
pub fn namespace(document: &Value) -> String {
    let context = current_context(document)
        .ok()
        .and_then(|name| context(document, &name));
    let named = context.and_then(|c| c["namespace"].as_str().map(str::to_owned));
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned())
}

/// From when until when the credential of the current context is good, where it tells: an inline
/// client certificate, or a token that is a JWT.
pub fn validity(document: &Value) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
    let context = context(document, &current_context(document).ok()?)?;
    let user = &named(document, "users", context["user"].as_str()?)?["user"];
    if let Some(data) = user["client-certificate-data"].as_str() {
        let pem = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
        let (from, to) = tmc_server::tls::validity(&pem)?;
        let time = |at| jiff::Timestamp::try_from(at).ok();
        return Some((time(from)?, time(to)?));
    }
    let payload = user["token"].as_str()?.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let time = |claim: &str| jiff::Timestamp::from_second(claims[claim].as_i64()?).ok();
    Some((time("iat")?, time("exp")?))
}

/// A user by name.
pub fn user(document: &Value, name: &str) -> Option<Value> {
    named(document, "users", name).map(|entry| entry["user"].clone())
}

/// The cluster of a context.
///
/// # Errors
/// When it names none that exists.
pub fn cluster_of(document: &Value, context: &Value) -> Result<Value> {
    let name = context["cluster"]
        .as_str()
        .context("the context names no cluster")?;
    let entry = named(document, "clusters", name);
    entry
        .map(|entry| entry["cluster"].clone())
        .with_context(|| format!("the kubeconfig has no cluster \"{name}\""))
}

/// Scheme, host and port of the current context's server.
///
/// # Errors
/// When the kubeconfig does not lead to one.
pub fn current_server(document: &Value) -> Result<String> {
    let name = current_context(document)?;
    let context = context(document, &name).context("the current context is missing")?;
    let cluster = cluster_of(document, &context)?;
    let server = cluster["server"]
        .as_str()
        .context("the cluster has no server")?;
    let uri: http::Uri = server.parse().with_context(|| format!("server {server}"))?;
    let authority = uri.authority().context("the server URL has no host")?;
    Ok(format!("https://{authority}"))
}

/// The server URL of a workspace on the hub of a cluster entry.
///
/// # Errors
/// When the entry has no usable server.
pub fn server_for(cluster: &Value, workspace: &str) -> Result<String> {
    let server = cluster["server"]
        .as_str()
        .context("the cluster has no server")?;
    let uri: http::Uri = server.parse().with_context(|| format!("server {server}"))?;
    let host = uri.authority().context("the server URL has no host")?;
    Ok(format!("https://{host}/clusters/{workspace}"))
}

/// Sets a context with a cluster entry of the same name. For `workspace.kcp.io/current` it also
/// becomes the current one.
pub fn set_context(document: &mut Value, name: &str, context: &Value, cluster: &Value) {
    let mut context = context.clone();
    context["cluster"] = name.into();
    put(
        document,
        "clusters",
        json!({"name": name, "cluster": cluster}),
    );
    put(
        document,
        "contexts",
        json!({"name": name, "context": context}),
    );
    if name == "workspace.kcp.io/current" {
        document["current-context"] = name.into();
    }
}

fn put(document: &mut Value, list: &str, entry: Value) {
    if !document[list].is_array() {
        document[list] = json!([]);
    }
    let Some(entries) = document[list].as_array_mut() else {
        return;
    };
    match entries.iter_mut().find(|e| e["name"] == entry["name"]) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
}

/// A key and the request for its certificate, PEM.
pub struct NewIdentity {
    /// Private key.
    pub key: String,
    /// PKCS#10 request.
    pub request: String,
}

/// Makes a key for a user.
///
/// # Errors
/// When the name cannot stand in a certificate.
pub fn new_identity(user: &str, groups: &[String]) -> Result<NewIdentity> {
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let (request, key) = tmc_server::tls::generate_request(user, &groups)?;
    Ok(NewIdentity { key, request })
}

/// A user with its certificate, base64 of PEM as kubeconfigs hold them.
pub struct Identity {
    /// Name of the user.
    pub user: String,
    /// Certificate chain.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

/// A kubeconfig for an identity in a workspace of the hub that another kubeconfig points to.
///
/// # Errors
/// When that kubeconfig's current context cannot be used.
pub fn for_identity(hub: &Value, workspace: &str, identity: &Identity) -> Result<String> {
    let current = context(hub, &current_context(hub)?).context("the current context is missing")?;
    let mut cluster = cluster_of(hub, &current)?;
    cluster["server"] = server_for(&cluster, workspace)?.into();
    render(&cluster, workspace, identity)
}

/// A kubeconfig of one cluster, one user, one context named after the workspace.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn render(cluster: &Value, workspace: &str, identity: &Identity) -> Result<String> {
    let document = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": workspace,
        "clusters": [{"name": workspace, "cluster": cluster}],
        "contexts": [{"name": workspace, "context": {"cluster": workspace, "user": identity.user}}],
        "users": [{"name": identity.user, "user": {
            "client-certificate-data": identity.certificate, "client-key-data": identity.key,
        }}],
    });
    serde_saphyr::to_string(&document).context("cannot be written as YAML")
}

/// Brings an administrator's kubeconfig up to date: a fresh one's cluster, user and context replace
/// the old ones, entered workspaces and whatever else is in the file stay, at the hub's new address.
///
/// # Errors
/// When the fresh one cannot be read.
pub fn refresh(old: &Value, fresh: &str) -> Result<String> {
    let fresh: Value = serde_saphyr::from_str(fresh).context("the new kubeconfig is unreadable")?;
    let mut document = old.clone();
    let new_cluster = &fresh["clusters"][0]["cluster"];
    let authority = &new_cluster["certificate-authority-data"];
    for entry in document["clusters"].as_array_mut().into_iter().flatten() {
        let cluster = &mut entry["cluster"];
        let server = cluster["server"].as_str().unwrap_or_default().to_owned();
        if let (true, Some((_, path))) = (
            cluster["certificate-authority-data"] == *authority,
            server.split_once("/clusters/"),
        ) {
            cluster["server"] = server_for(new_cluster, path)?.into();
        }
    }
    for list in ["clusters", "contexts", "users"] {
        put(&mut document, list, fresh[list][0].clone());
    }
    serde_saphyr::to_string(&document).context("cannot be written as YAML")
}

/// A cluster entry for a hub.
pub fn hub_cluster(url: &str, workspace: &str, ca_pem: &str) -> Value {
    json!({"server": format!("{url}/clusters/{workspace}"),
           "certificate-authority-data": STANDARD.encode(ca_pem)})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({
            "current-context": "root", "preferences": {"colors": true},
            "clusters": [{"name": "hub", "cluster": {"server": "https://127.0.0.1:6443/clusters/root", "certificate-authority-data": "x"}}],
            "contexts": [{"name": "root", "context": {"cluster": "hub", "user": "admin", "namespace": "n"}}],
        })
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_said_to_be_so_once() {
        let error = load("--hub-kubeconfig", Path::new("/nowhere")).expect_err("absent");
        assert_eq!(
            format!("{error:#}"),
            "cannot read --hub-kubeconfig /nowhere: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn entering_a_workspace_keeps_everything_else() {
        let mut document = document();
        let now = context(&document, "root").expect("context");
        let mut cluster = cluster_of(&document, &now).expect("cluster");
        cluster["server"] = server_for(&cluster, "root:team").expect("server").into();
        set_context(&mut document, "workspace.kcp.io/current", &now, &cluster);
        assert_eq!(document["current-context"], "workspace.kcp.io/current");
        assert_eq!(document["preferences"]["colors"], true);
        let entered = context(&document, "workspace.kcp.io/current").expect("context");
        assert_eq!(
            (entered["user"].as_str(), entered["namespace"].as_str()),
            (Some("admin"), Some("n"))
        );
        let server = &cluster_of(&document, &entered).expect("cluster")["server"];
        assert_eq!(server, "https://127.0.0.1:6443/clusters/root:team");
    }

    #[test]
    fn a_refreshed_kubeconfig_keeps_entered_workspaces_at_the_new_address() {
        let identity = |key: &str| Identity {
            user: "admin".into(),
            certificate: "c".into(),
            key: key.into(),
        };
        let of = |url: &str, key: &str| {
            render(&hub_cluster(url, "root", "ca"), "root", &identity(key)).expect("rendered")
        };
        let mut old: Value = serde_saphyr::from_str(&of("https://a:1", "old")).expect("yaml");
        let now = context(&old, "root").expect("context");
        let entered = hub_cluster("https://a:1", "root:team", "ca");
        set_context(&mut old, "workspace.kcp.io/current", &now, &entered);
        let new = refresh(&old, &of("https://b:2", "new")).expect("refreshed");
        let new: Value = serde_saphyr::from_str(&new).expect("yaml");
        assert_eq!(new["current-context"], "workspace.kcp.io/current");
        let now = context(&new, "workspace.kcp.io/current").expect("kept");
        assert_eq!(
            cluster_of(&new, &now).expect("cluster")["server"],
            "https://b:2/clusters/root:team"
        );
        assert_eq!(new["users"][0]["user"]["client-key-data"], "new");
    }

    #[test]
    fn a_private_file_is_private_and_replaced_as_a_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config");
        write_private(&file, "one").expect("written");
        write_private(&file, "two").expect("written");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "two");
        let mode = std::fs::metadata(&file)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
