//! A member's kubeconfig as it is on the user's machine: files, exec plugins and all.
//!
//! What the hub may take is much less (inline CA and token); so the credential is resolved here,
//! where the user runs, and only what is made with it leaves the machine.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_runtime::Connection;
use tmc_runtime::https::{Credential, Endpoint, SystemDialer};

use crate::kubeconfig;
use crate::output::{list, text};

/// How long an exec plugin may take; some ask the user to log in.
const PLUGIN_PATIENCE: Duration = Duration::from_secs(300);

/// The user's way into a member.
pub(super) struct Resolved {
    /// Name of the context.
    pub(super) context: String,
    /// URL of its API server.
    pub(super) server: String,
    /// Its certificate authority, PEM.
    pub(super) ca: Vec<u8>,
    /// As the user of the kubeconfig.
    pub(super) connection: Connection,
}

/// Resolves a kubeconfig; runs its exec plugin, if it has one.
///
/// # Errors
/// One sentence naming the part that cannot be used, with the remedy.
pub(super) async fn resolve(file: &Path, context: Option<&str>) -> Result<Resolved> {
    let document = kubeconfig::read(file)?;
    let shown = file.display();
    let name = match context {
        Some(name) => name.to_owned(),
        None => kubeconfig::current_context(&document)
            .map_err(|_| anyhow!("{shown} has no current context: name one with --context"))?,
    };
    let Some(chosen) = kubeconfig::context(&document, &name) else {
        let all: Vec<&str> = list(&document, "/contexts")
            .iter()
            .map(|c| text(c, "/name"))
            .collect();
        bail!("{shown} has no context {name}; it has: {}", all.join(", "));
    };
    let directory = file.parent().unwrap_or(Path::new("."));
    let cluster = kubeconfig::cluster_of(&document, &chosen).with_context(|| shown.to_string())?;
    let (server, ca) =
        trust(&cluster, directory).map_err(|why| anyhow!("{shown}, context {name}: {why}"))?;
    let user = text(&chosen, "/user");
    let user = kubeconfig::user(&document, user)
        .with_context(|| format!("{shown}, context {name}: there is no user \"{user}\""))?;
    let credential = credential(&user, &cluster, directory)
        .await
        .with_context(|| format!("{shown}, context {name}"))?;
    let endpoint = Endpoint::new(&server, ca.clone(), credential)
        .map_err(|error| anyhow!("{shown}: {error}"))?;
    let connection = Connection::https(&endpoint, Arc::new(SystemDialer))
        .map_err(|error| anyhow!("{shown}, context {name}: {error}"))?;
    Ok(Resolved {
        context: name,
        server,
        ca,
        connection,
    })
}

/// Server and CA of a cluster entry, as far as the hub can take them too.
fn trust(cluster: &Value, directory: &Path) -> Result<(String, Vec<u8>), String> {
    let server = text(cluster, "/server");
    if !server.starts_with("https://") {
        return Err(format!(
            "the server \"{server}\" is not an https URL; the hub reaches clusters over https only"
        ));
    }
    if cluster["insecure-skip-tls-verify"] == true {
        return Err(
            "it skips TLS verification, which the hub never does; give the cluster's CA in \
                    certificate-authority-data instead of insecure-skip-tls-verify"
                .into(),
        );
    }
    for field in ["proxy-url", "tls-server-name"] {
        if !text(cluster, &format!("/{field}")).is_empty() {
            return Err(format!(
                "it needs {field}, which the hub does not use; name a server that \
                                the hub reaches directly, under the name in its certificate"
            ));
        }
    }
    match data_or_file(cluster, "certificate-authority", directory)? {
        Some(ca) => Ok((server.to_owned(), ca)),
        None => Err("it has no CA: add the cluster's certificate authority as \
                     certificate-authority-data (the hub trusts no public authorities)"
            .into()),
    }
}

/// Inline base64 (`<field>-data`), or the content of the file that the field names, relative to the
/// kubeconfig's own directory.
fn data_or_file(entry: &Value, field: &str, directory: &Path) -> Result<Option<Vec<u8>>, String> {
    let data = text(entry, &format!("/{field}-data"));
    if !data.is_empty() {
        let bytes = STANDARD.decode(data.trim());
        return bytes
            .map(Some)
            .map_err(|_| format!("{field}-data is not base64"));
    }
    match text(entry, &format!("/{field}")) {
        "" => Ok(None),
        file => {
            let path = directory.join(file);
            let bytes = std::fs::read(&path);
            bytes
                .map(Some)
                .map_err(|error| format!("{field} {}: {error}", path.display()))
        }
    }
}

/// The credential of a user entry.
async fn credential(user: &Value, cluster: &Value, directory: &Path) -> Result<Credential> {
    if user["auth-provider"].is_object() {
        bail!(
            "its user has an auth-provider, which kubectl itself does not support any more: write \
             the kubeconfig anew with your provider's current tool (an exec plugin)"
        );
    }
    if !text(user, "/username").is_empty() || !text(user, "/password").is_empty() {
        bail!(
            "its user has a name and password, which Kubernetes does not accept any more: use a token or a client certificate"
        );
    }
    if user.as_object().is_some_and(|fields| {
        fields
            .keys()
            .any(|key| key == "as" || key.starts_with("as-"))
    }) {
        bail!("its user impersonates another (as): use a kubeconfig of that user");
    }
    let certificate =
        data_or_file(user, "client-certificate", directory).map_err(|why| anyhow!(why))?;
    let key = data_or_file(user, "client-key", directory).map_err(|why| anyhow!(why))?;
    match (certificate, key) {
        (Some(chain), Some(key)) => return Ok(Credential::Certificate { chain, key }),
        (None, None) => {}
        _ => bail!("its user has only one of client certificate and client key"),
    }
    let token = text(user, "/token");
    if !token.is_empty() {
        return Ok(Credential::Token(token.to_owned()));
    }
    let file = text(user, "/tokenFile");
    if !file.is_empty() {
        let path = directory.join(file);
        let token = std::fs::read_to_string(&path)
            .with_context(|| format!("tokenFile {}", path.display()))?;
        return Ok(Credential::Token(token.trim().to_owned()));
    }
    if user["exec"].is_object() {
        return Plugin::new(&user["exec"], cluster, directory)?.run().await;
    }
    bail!("its user has no credential: add a token, a client certificate or an exec plugin")
}

/// An exec plugin: a program that prints a credential.
struct Plugin {
    command: PathBuf,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    hint: String,
    interactive: bool,
}

impl Plugin {
    fn new(exec: &Value, cluster: &Value, directory: &Path) -> Result<Self> {
        let command = text(exec, "/command");
        if command.is_empty() {
            bail!("its exec plugin has no command");
        }
        // As kubectl: a bare name is looked up in $PATH, a relative path starts at the kubeconfig.
        let command = if command.contains('/') {
            directory.join(command)
        } else {
            command.into()
        };
        let interactive =
            text(exec, "/interactiveMode") != "Never" && std::io::stdin().is_terminal();
        let mut environment: Vec<(String, String)> = list(exec, "/env")
            .iter()
            .map(|one| {
                (
                    text(one, "/name").to_owned(),
                    text(one, "/value").to_owned(),
                )
            })
            .collect();
        let info = info(exec, cluster, interactive);
        environment.push(("KUBERNETES_EXEC_INFO".into(), info.to_string()));
        Ok(Self {
            command,
            args: list(exec, "/args")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            environment,
            hint: text(exec, "/installHint").trim().to_owned(),
            interactive,
        })
    }

    async fn run(&self) -> Result<Credential> {
        let shown = self.command.display();
        let child = tokio::process::Command::new(&self.command)
            .args(&self.args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(if self.interactive {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stderr(Stdio::inherit())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => anyhow!("{}", self.not_found()),
            _ => anyhow!("the exec plugin {shown} cannot be run: {error}"),
        })?;
        let output = tokio::time::timeout(PLUGIN_PATIENCE, child.wait_with_output())
            .await
            .map_err(|_| {
                anyhow!(
                    "the exec plugin {shown} has not ended after {} s",
                    PLUGIN_PATIENCE.as_secs()
                )
            })?
            .with_context(|| format!("the exec plugin {shown}"))?;
        if !output.status.success() {
            bail!(
                "the exec plugin {shown} failed ({}); run it by hand to see why",
                output.status
            );
        }
        printed(&output.stdout).map_err(|why| anyhow!("the exec plugin {shown} {why}"))
    }

    fn not_found(&self) -> String {
        let shown = self.command.display();
        match self.hint.as_str() {
            "" => format!(
                "the exec plugin {shown} is not installed: put it into a directory of $PATH"
            ),
            hint => format!("the exec plugin {shown} is not installed: {hint}"),
        }
    }
}

/// What a plugin is told (`KUBERNETES_EXEC_INFO`).
fn info(exec: &Value, cluster: &Value, interactive: bool) -> Value {
    let version = match text(exec, "/apiVersion") {
        "" => "client.authentication.k8s.io/v1",
        version => version,
    };
    let mut spec = json!({"interactive": interactive});
    if exec["provideClusterInfo"] == true {
        spec["cluster"] = json!({"server": cluster["server"]});
        let ca = &cluster["certificate-authority-data"];
        if ca.is_string() {
            spec["cluster"]["certificate-authority-data"] = ca.clone();
        }
    }
    json!({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
}

/// The credential that a plugin printed; the error goes on after the plugin's name.
fn printed(output: &[u8]) -> Result<Credential, String> {
    let document: Value = serde_json::from_slice(output)
        .map_err(|_| "printed something else than an ExecCredential".to_owned())?;
    let status = &document["status"];
    let (certificate, key) = (
        text(status, "/clientCertificateData"),
        text(status, "/clientKeyData"),
    );
    let token = text(status, "/token");
    match (token, certificate, key) {
        ("", "", _) | ("", _, "") => {
            Err("printed no token and no client certificate with key".to_owned())
        }
        ("", certificate, key) => Ok(Credential::Certificate {
            chain: certificate.as_bytes().to_vec(),
            key: key.as_bytes().to_vec(),
        }),
        (token, _, _) => Ok(Credential::Token(token.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn cluster(change: Value) -> Value {
        let mut cluster = json!({"server": "https://x", "certificate-authority-data": "UEVN"});
        for (key, value) in change.as_object().expect("an object") {
            cluster[key] = value.clone();
        }
        cluster
    }

    #[rstest]
    #[case::http(json!({"server": "http://x"}), "not an https URL")]
    #[case::none(json!({"server": null}), "not an https URL")]
    #[case::no_ca(json!({"certificate-authority-data": null}), "it has no CA")]
    #[case::bad_ca(json!({"certificate-authority-data": "%"}), "certificate-authority-data is not base64")]
    #[case::missing_file(json!({"certificate-authority-data": null, "certificate-authority": "nowhere"}), "nowhere")]
    #[case::insecure(json!({"insecure-skip-tls-verify": true}), "certificate-authority-data instead")]
    #[case::proxy(json!({"proxy-url": "http://p"}), "it needs proxy-url")]
    #[case::name(json!({"tls-server-name": "n"}), "it needs tls-server-name")]
    fn what_the_hub_cannot_take_is_refused_with_the_remedy(
        #[case] change: Value,
        #[case] says: &str,
    ) {
        let error = trust(&cluster(change), Path::new("/")).unwrap_err();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn files_are_looked_for_beside_the_kubeconfig() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.crt"), "PEM").expect("written");
        let entry = json!({"server": "https://x", "certificate-authority": "ca.crt"});
        let (server, ca) = trust(&entry, directory.path()).expect("good");
        assert_eq!((server.as_str(), &*ca), ("https://x", &b"PEM"[..]));
    }

    async fn credential_of(user: Value) -> Result<Credential, String> {
        let found = credential(&user, &cluster(json!({})), Path::new("/")).await;
        found.map_err(|error| format!("{error:#}"))
    }

    #[rstest]
    #[case(json!({"auth-provider": {"name": "gcp"}}), "auth-provider")]
    #[case(json!({"username": "a", "password": "b"}), "name and password")]
    #[case(json!({"token": "t", "as": "root"}), "impersonates")]
    #[case(json!({"client-certificate-data": "UEVN"}), "only one of")]
    #[case(json!({"tokenFile": "/nowhere/token"}), "tokenFile /nowhere/token")]
    #[case(json!({}), "no credential")]
    #[case(json!({"exec": {"command": ""}}), "no command")]
    #[case(json!({"exec": {"command": "no-such-plugin-anywhere"}}), "not installed: put it")]
    #[case(json!({"exec": {"command": "no-such-plugin-anywhere", "installHint": "ask Ann"}}), "not installed: ask Ann")]
    #[case(json!({"exec": {"command": "false"}}), "failed (exit status: 1)")]
    #[case(json!({"exec": {"command": "true"}}), "something else than an ExecCredential")]
    #[case(json!({"exec": {"command": "echo", "args": ["{}"]}}), "no token and no client certificate")]
    #[tokio::test]
    async fn a_credential_that_cannot_be_used_is_named(#[case] user: Value, #[case] says: &str) {
        let error = credential_of(user).await.map(|_| ()).unwrap_err();
        assert!(error.contains(says), "{error}");
    }

    #[tokio::test]
    async fn a_plugin_gets_its_arguments_environment_and_cluster_and_prints_a_token() {
        let script = r#"printf '{"status":{"token":"%s-%s-%s"}}' "$1" "$WORD" "$(echo "$KUBERNETES_EXEC_INFO" | grep -c https://x)""#;
        let user = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
            "args": ["-c", script, "plugin", "arg"], "env": [{"name": "WORD", "value": "env"}],
            "provideClusterInfo": true,
        }});
        match credential_of(user).await {
            Ok(Credential::Token(token)) => assert_eq!(token, "arg-env-1"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plugin_may_print_a_certificate() {
        let text =
            json!({"status": {"clientCertificateData": "C", "clientKeyData": "K"}}).to_string();
        assert!(matches!(
            printed(text.as_bytes()),
            Ok(Credential::Certificate { .. })
        ));
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_names_those_that_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config");
        let text =
            json!({"contexts": [{"name": "a", "context": {}}, {"name": "b", "context": {}}]});
        std::fs::write(&file, text.to_string()).expect("written");
        let says = async |context| {
            format!(
                "{:#}",
                resolve(&file, context).await.map(|_| ()).unwrap_err()
            )
        };
        assert!(
            says(Some("c"))
                .await
                .ends_with("has no context c; it has: a, b")
        );
        assert!(says(None).await.ends_with("name one with --context"));
    }
}
