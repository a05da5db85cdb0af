//! The certificate under which virtual workspaces are served beside a Kubernetes API server.
//!
//! Every replica serves the same URL, so all of them use one authority: it lives in a Secret of the
//! hub. Its certificate is in a ConfigMap, for whoever makes kubeconfigs for agents.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Hub, ResourceClient};
use tmc_server::tls::{CertificateAuthority, PemPair, Validity, server_config};

use super::NAMESPACE;

/// Name of the Secret with the authority, and of the ConfigMap with its certificate (`ca.crt`).
pub const CA_NAME: &str = "tmc-virtual-workspaces-ca";
const AUTHORITY_TTL: Duration = Duration::from_secs(3650 * 86_400);
const SERVER_TTL: Duration = Duration::from_secs(365 * 86_400);

/// A certificate that is given rather than made.
#[derive(Clone, Debug)]
pub struct GivenCertificate {
    /// The certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority by which agents check it, PEM.
    pub ca: PathBuf,
}

/// What a listener serves with.
pub struct Serving {
    /// Certificate and key.
    pub tls: Arc<rustls::ServerConfig>,
    /// The authority that agents trust, PEM.
    pub ca: String,
}

fn client(hub: &Hub, resource: &str) -> ResourceClient {
    let root = hub.cluster(&ClusterName::new(ClusterName::ROOT));
    ResourceClient::new(root, GroupVersionResource::new("", "v1", resource))
}

/// Gets a certificate ready, given or made, and publishes the authority behind it.
///
/// # Errors
/// One sentence: a file cannot be used, or the hub does not keep the authority.
pub async fn prepare(
    hub: &Hub,
    listen: SocketAddr,
    url: &str,
    given: Option<&GivenCertificate>,
) -> Result<Serving> {
    let (pair, ca) = match given {
        Some(given) => (given_pair(given)?, read(&given.ca)?),
        None => {
            let authority = authority(hub).await?;
            let names = server_names(listen, url);
            let pair = authority.issue_server(&names, Validity::starting_now(SERVER_TTL))?;
            (pair, authority.certificate_pem().to_owned())
        }
    };
    let tls = server_config(&pair, None)?;
    publish(hub, &ca).await?;
    Ok(Serving { tls, ca })
}

fn read(file: &PathBuf) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn given_pair(given: &GivenCertificate) -> Result<PemPair> {
    Ok(PemPair {
        certificate: read(&given.certificate)?,
        key: read(&given.key)?,
    })
}

/// The authority in the hub; the first replica makes it.
async fn authority(hub: &Hub) -> Result<CertificateAuthority> {
    let secrets = client(hub, "secrets");
    let found = match secrets.get(NAMESPACE, CA_NAME).await {
        Err(error) if error.is_not_found() => {
            let made = CertificateAuthority::generate(
                "tmc-virtual-workspaces",
                Validity::starting_now(AUTHORITY_TTL),
            )?;
            crate::context::ensure(&secrets, NAMESPACE, &secret(&made.to_pem())).await
        }
        other => other,
    };
    let secret = found.with_context(|| format!("Secret {NAMESPACE}/{CA_NAME}"))?;
    let pair = pair_of(&secret)
        .ok_or_else(|| anyhow!("Secret {NAMESPACE}/{CA_NAME} does not hold tls.crt and tls.key: delete it, and another is made"))?;
    CertificateAuthority::from_pem(&pair)
        .map_err(|error| anyhow!("Secret {NAMESPACE}/{CA_NAME}: {error}"))
}

fn secret(pair: &PemPair) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"namespace": NAMESPACE, "name": CA_NAME},
        "data": {
            "tls.crt": STANDARD.encode(&pair.certificate),
            "tls.key": STANDARD.encode(&pair.key),
        },
    })
}

fn pair_of(secret: &Value) -> Option<PemPair> {
    let text = |field: &str| -> Option<String> {
        let bytes = STANDARD.decode(secret["data"][field].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    Some(PemPair {
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    })
}

async fn publish(hub: &Hub, ca: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": CA_NAME},
        "data": {"ca.crt": ca},
    });
    let configs = client(hub, "configmaps");
    configs
        .apply(NAMESPACE, CA_NAME, "tmc-controllers", &object)
        .await
        .map(drop)
        .with_context(|| format!("ConfigMap {NAMESPACE}/{CA_NAME}"))
}

/// The authority that another replica has published, empty if none has.
///
/// # Errors
/// When the hub does not say.
pub async fn published(hub: &Hub) -> Result<String> {
    match client(hub, "configmaps").get(NAMESPACE, CA_NAME).await {
        Ok(config) => Ok(config["data"]["ca.crt"]
            .as_str()
            .unwrap_or_default()
            .to_owned()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("ConfigMap {NAMESPACE}/{CA_NAME}")),
    }
}

/// Names that the certificate is for: the URL's host first.
fn server_names(listen: SocketAddr, url: &str) -> Vec<String> {
    let host = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned));
    let host = host.map(|host| host.trim_matches(['[', ']']).to_owned());
    let mut names: Vec<String> = host.into_iter().collect();
    names.push("localhost".into());
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_for_the_url_and_the_address() {
        let names = |listen: &str, url: &str| server_names(listen.parse().expect("address"), url);
        assert_eq!(
            names("0.0.0.0:6444", "https://views.example.org/x"),
            ["views.example.org", "localhost"]
        );
        assert_eq!(
            names("127.0.0.1:6444", "https://127.0.0.1:6444"),
            ["127.0.0.1", "localhost"]
        );
        assert_eq!(names("[::1]:1", "https://[::1]:1"), ["::1", "localhost"]);
    }

    #[test]
    fn an_authority_survives_its_secret() {
        let made = CertificateAuthority::generate("t", Validity::starting_now(AUTHORITY_TTL));
        let made = made.expect("made");
        let pair = pair_of(&secret(&made.to_pem())).expect("both");
        let again = CertificateAuthority::from_pem(&pair).expect("an authority");
        assert_eq!(again.certificate_pem(), made.certificate_pem());
        assert!(pair_of(&json!({"data": {"tls.crt": "!"}})).is_none());
    }
}
