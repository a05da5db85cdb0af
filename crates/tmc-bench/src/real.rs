//! A real cluster without controllers: etcd, durable as in production, and kube-apiserver.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;
use tmc_apimachinery::user::GROUP_MASTERS;
use tmc_server::tls::{CertificateAuthority, PemPair, Validity};

use crate::process::{Memory, Process, free_port, until_ready};

/// Where envtest and we look for the programs.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const DAY: Duration = Duration::from_secs(86_400);

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Those of `KUBEBUILDER_ASSETS`, else those of `cargo xtask testbin`.
    ///
    /// # Errors
    /// A sentence with the remedy when one is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let given = std::env::var_os(ASSETS).filter(|given| !given.is_empty());
        let folder = given.map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbin"),
            PathBuf::from,
        );
        match ["etcd", "kube-apiserver"]
            .into_iter()
            .find(|name| !folder.join(name).is_file())
        {
            None => Ok(Self(folder)),
            Some(name) => Err(format!("no {name}: run `cargo xtask testbin`")),
        }
    }
}

/// The running cluster.
pub(crate) struct Real {
    processes: Vec<Process>,
    kubeconfig: String,
    started_in: Duration,
    // Last: it goes when nobody writes there any more.
    _directory: TempDir,
}

impl Real {
    /// Starts it and waits until `/readyz` says ok.
    ///
    /// # Errors
    /// Which program ended, with the end of its log.
    pub(crate) async fn start(programs: &Programs) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tmc-bench-real-")
            .tempdir()?;
        let files = Files::write(directory.path())?;
        let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
        let start = Instant::now();
        let mut processes = Vec::new();
        for (name, args) in [
            ("etcd", etcd(directory.path(), client, peer)),
            (
                "kube-apiserver",
                apiserver(directory.path(), client, secure),
            ),
        ] {
            let mut command = Command::new(programs.0.join(name));
            command.args(args).current_dir(directory.path());
            let log = directory.path().join(format!("{name}.log"));
            processes.push(Process::start(name, &mut command, log)?);
        }
        until_ready(secure, &directory.path().join("ca.crt"), &mut processes).await?;
        let started_in = start.elapsed();
        let kubeconfig = files.kubeconfig(secure)?;
        // The API server first: without etcd it would only complain.
        processes.reverse();
        Ok(Self {
            processes,
            kubeconfig,
            started_in,
            _directory: directory,
        })
    }

    /// From the start of the programs until ready.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its administrator's.
    pub(crate) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// What kube-apiserver and etcd take, in this order.
    ///
    /// # Errors
    /// When one has ended.
    pub(crate) fn memory(&mut self) -> Result<Vec<Memory>> {
        self.processes.iter_mut().map(Process::memory).collect()
    }
}

fn etcd(directory: &Path, client: u16, peer: u16) -> Vec<String> {
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    vec![
        "--name=default".to_owned(),
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

fn apiserver(directory: &Path, etcd: u16, secure: u16) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={secure}"),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--cert-dir={}", file("apiserver")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=RBAC".to_owned(),
        format!("--service-account-issuer=https://127.0.0.1:{secure}"),
        format!("--service-account-key-file={}", file("sa.crt")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
    ]
}

/// Certificates and keys of a cluster.
struct Files {
    authority: CertificateAuthority,
}

impl Files {
    fn write(directory: &Path) -> Result<Self> {
        let authority = CertificateAuthority::generate("real-ca", Validity::starting_now(DAY))?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = authority.issue_server(&names, Validity::starting_now(DAY))?;
        let accounts = CertificateAuthority::generate("accounts", Validity::starting_now(DAY))?;
        for (name, text) in [
            ("ca.crt", authority.certificate_pem()),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("sa.key", &accounts.to_pem().key),
            // A certificate is one of the forms in which a public key may be given.
            ("sa.crt", accounts.certificate_pem()),
        ] {
            std::fs::write(directory.join(name), text)?;
        }
        Ok(Self { authority })
    }

    fn kubeconfig(&self, port: u16) -> Result<String> {
        let validity = Validity::starting_now(DAY);
        let PemPair { certificate, key } =
            self.authority
                .issue_client("bench", &[GROUP_MASTERS], validity)?;
        let document = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": STANDARD.encode(self.authority.certificate_pem()),
            }}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "bench"}}],
            "users": [{"name": "bench", "user": {
                "client-certificate-data": STANDARD.encode(certificate),
                "client-key-data": STANDARD.encode(key),
            }}],
        });
        Ok(document.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_durable_and_the_api_server_listens_on_loopback_only() {
        let args = etcd(Path::new("/d"), 1, 2);
        assert!(args.iter().all(|arg| !arg.contains("fsync")), "{args:?}");
        let args = apiserver(Path::new("/d"), 1, 3);
        assert!(args.contains(&"--bind-address=127.0.0.1".to_owned()));
    }
}
